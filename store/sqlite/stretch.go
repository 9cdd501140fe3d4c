package sqlite

import (
	"slices"

	"github.com/deed-dev/deed/store"
)

// A stretch is a part of the documents, in the order of a query, which an index has
// side by side: so a page far from the beginning takes no longer than the first.
type stretch struct {
	cond string // in SQL, after AND; "" = everything
	args []any
	same bool // all have the same sort value: their order is that of their keys
}

// some holds for all values but NULL, in a form for which SQLite takes an index.
const some = " >= -9e999"

// stretches divides what comes after the mark of a query: what has the sort value
// of the mark, what is beyond it, and what has none: NULL comes before all values. It
// returns the conditions that are left, too: an index can begin in one place only.
func stretches(q store.Query) ([]stretch, []store.Cond) {
	beyond := " > ?"
	if q.Desc {
		beyond = " < ?"
	}
	bounded := slices.ContainsFunc(q.Where, func(c store.Cond) bool { return boundary(q, c) })
	begun := q.After != nil && !slices.ContainsFunc(q.Where, func(c store.Cond) bool { return !reached(q, c) })
	sort := expression(q.Sort)
	none := stretch{sort + " IS NULL", nil, true}
	switch {
	case q.Sort == "" && q.After != nil:
		return []stretch{{cond: "key" + beyond, args: []any{q.After.Key}}}, q.Where
	case q.Sort == "" || bounded && !begun:
		return []stretch{{}}, q.Where
	case !begun && q.Desc:
		return []stretch{{cond: sort + some}, none}, q.Where
	case !begun:
		return []stretch{none, {cond: sort + some}}, q.Where
	}
	behind, key, v := " AND key"+beyond, q.After.Key, argument(q.After.Value)
	switch {
	case v == nil && q.Desc:
		return []stretch{{none.cond + behind, []any{key}, true}}, q.Where
	case v == nil:
		return []stretch{{none.cond + behind, []any{key}, true}, {cond: sort + some}}, q.Where
	}
	all := []stretch{{sort + " = ?" + behind, []any{v, key}, true}, {cond: sort + beyond, args: []any{v}}}
	if q.Desc && !bounded {
		all = append(all, none)
	}
	return all, slices.DeleteFunc(slices.Clone(q.Where), func(c store.Cond) bool { return boundary(q, c) })
}

// boundary reports whether a condition says where the order of a query begins.
func boundary(q store.Query, c store.Cond) bool {
	return c.Field == q.Sort && c.Value != nil && (!q.Desc && (c.Op == ">" || c.Op == ">=") || q.Desc && (c.Op == "<" || c.Op == "<="))
}

// reached reports whether the mark of a query is not before where it begins.
func reached(q store.Query, c store.Cond) bool {
	n := store.Compare(q.After.Value, c.Value)
	switch {
	case !boundary(q, c):
		return true
	case c.Op == ">":
		return n > 0
	case c.Op == "<":
		return n < 0
	case c.Op == ">=":
		return n >= 0
	}
	return n <= 0
}
