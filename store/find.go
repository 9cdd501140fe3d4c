package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Query selects documents of a collection by the values of their fields. A
// field is a path of names into the JSON document, for example "total" or
// "customer.city". Values are JSON scalars: nil, bool, int64, float64 or
// string. They are ordered: null and missing, then numbers (false is 0, true
// is 1), then strings in byte order.
type Query struct {
	Where []Cond // all must hold
	Sort  string // field; "" = by key
	Desc  bool   // descending, keys included
	After *Mark  // only documents after this one in the order asked for
	Limit int    // at most so many; 0 = no limit

	Search string   // what the document's text must have, see [ParseSearch]; "" = anything
	Text   []string // the fields whose text is searched, see [WordsOf]
}

// A Cond compares a field with a value. Op is one of = != < <= > >=. A
// null or missing field is equal to nil, differs from everything else, and
// is not less or greater than anything.
type Cond struct {
	Field string
	Op    string
	Value any
}

// A Mark is a place in the order of a [Query]: a document's sort value and key.
// Where documents are sorted by key, the value counts for nothing.
type Mark struct {
	Value any
	Key   string
}

// CheckQuery reports whether q is something a store may be asked to find.
func CheckQuery(q Query) error {
	fields := []string{}
	if q.Sort != "" {
		fields = append(fields, q.Sort)
	}
	for _, c := range q.Where {
		if !slices.Contains([]string{"=", "!=", "<", "<=", ">", ">="}, c.Op) {
			return fmt.Errorf("%w: no operator %q", ErrInvalid, c.Op)
		}
		if !isScalar(c.Value) {
			return fmt.Errorf("%w: cannot compare a field with %v, a %[2]T", ErrInvalid, c.Value)
		}
		fields = append(fields, c.Field)
	}
	if q.After != nil {
		if !isScalar(q.After.Value) {
			return fmt.Errorf("%w: cannot start after %v, a %[2]T", ErrInvalid, q.After.Value)
		}
	}
	if q.Search != "" {
		if _, err := ParseSearch(q.Search); err != nil {
			return err
		}
		if len(q.Text) == 0 {
			return fmt.Errorf("%w: no field to search in", ErrInvalid)
		}
		fields = append(fields, q.Text...)
	}
	for _, f := range fields {
		if err := CheckField(f); err != nil {
			return err
		}
	}
	return nil
}

// CheckField reports whether f is a path of field names: letters, digits, "_"
// and "-", separated by dots.
func CheckField(f string) error {
	for name := range strings.SplitSeq(f, ".") {
		ok := name != "" && len(f) <= MaxName
		for _, r := range name {
			ok = ok && (r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
		}
		if !ok {
			return fmt.Errorf("%w: %q is not a field", ErrInvalid, f)
		}
	}
	return nil
}

// Find yields the documents of a collection that satisfy q, in the order q
// asks for; documents with equal sort values are ordered by key. It uses the
// store's [Indexer] if there is one, else it reads the whole collection.
func Find(ctx context.Context, s Store, coll string, q Query) iter.Seq2[Doc, error] {
	if ix, ok := s.(Indexer); ok {
		return ix.Find(ctx, coll, q)
	}
	return Scan(s.List(ctx, coll, "", ""), q)
}

// Count returns how many documents of a collection satisfy q, whatever its After
// and Limit. It uses the store's [Counter] if it is one, else it reads what Find
// yields.
func Count(ctx context.Context, s Store, coll string, q Query) (int, error) {
	q.Sort, q.After, q.Limit = "", nil, 0
	if c, ok := s.(Counter); ok {
		return c.Count(ctx, coll, q)
	}
	n := 0
	for _, err := range Find(ctx, s, coll, q) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Scan selects from docs what q asks for, in memory. It is the reference for
// what Find means.
func Scan(docs iter.Seq2[Doc, error], q Query) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		if err := CheckQuery(q); err != nil {
			yield(Doc{}, err)
			return
		}
		type row struct {
			doc Doc
			at  Mark
		}
		less := func(a, b Mark) int {
			c := cmp.Or(Compare(a.Value, b.Value), cmp.Compare(a.Key, b.Key))
			if q.Desc {
				return -c
			}
			return c
		}
		var after Mark
		if q.After != nil {
			if after = *q.After; q.Sort == "" {
				after.Value = nil
			}
		}
		var rows []row
		found := q.Found()
		for d, err := range docs {
			if err != nil {
				yield(Doc{}, err)
				return
			}
			if !holds(d, q.Where) || !found(d) {
				continue
			}
			r := row{d, Mark{Key: d.Key}}
			if q.Sort != "" {
				r.at.Value = FieldOf(d.Data, q.Sort)
			}
			if q.After == nil || less(r.at, after) > 0 {
				rows = append(rows, r)
			}
		}
		slices.SortFunc(rows, func(a, b row) int { return less(a.at, b.at) })
		for i, r := range rows {
			if q.Limit > 0 && i == q.Limit || !yield(r.doc, nil) {
				return
			}
		}
	}
}

// Found returns a function that reports whether a document has the text that q
// searches for. A store that finds candidates by an index of words asks it.
func (q Query) Found() func(Doc) bool {
	search, err := ParseSearch(q.Search)
	if q.Search == "" || err != nil {
		return func(Doc) bool { return err == nil || q.Search == "" }
	}
	return func(d Doc) bool { return search.Matches(WordsOf(d.Data, q.Text)) }
}

func holds(d Doc, conds []Cond) bool {
	for _, c := range conds {
		v := FieldOf(d.Data, c.Field)
		if v == nil || c.Value == nil {
			equal := v == nil && c.Value == nil
			if c.Op == "=" && !equal || c.Op == "!=" && equal || c.Op != "=" && c.Op != "!=" {
				return false
			}
			continue
		}
		n := Compare(v, c.Value)
		ok := false
		switch c.Op {
		case "=":
			ok = n == 0
		case "!=":
			ok = n != 0
		case "<":
			ok = n < 0
		case "<=":
			ok = n <= 0
		case ">":
			ok = n > 0
		case ">=":
			ok = n >= 0
		}
		if !ok {
			return false
		}
	}
	return true
}

// FieldOf returns the value of a field of a JSON document: nil, bool, int64,
// float64 or string. Objects, lists and what is missing are nil.
func FieldOf(data []byte, field string) any {
	for name := range strings.SplitSeq(field, ".") {
		var obj map[string]json.RawMessage
		if json.Unmarshal(data, &obj) != nil {
			return nil
		}
		data = obj[name]
	}
	return scalar(data)
}

// FieldsOf returns what [FieldOf] does for several fields, and looks at the
// document once.
func FieldsOf(data []byte, fields []string) []any {
	values := make([]any, len(fields))
	var obj map[string]json.RawMessage
	if len(fields) == 0 || json.Unmarshal(data, &obj) != nil {
		return values
	}
	for i, f := range fields {
		if name, rest, nested := strings.Cut(f, "."); nested {
			values[i] = FieldOf(obj[name], rest)
		} else {
			values[i] = scalar(obj[name])
		}
	}
	return values
}

// scalar returns a JSON value if it is neither object nor list.
func scalar(data []byte) any {
	if n := len(data); n >= 2 && data[0] == '"' && bytes.IndexByte(data, '\\') < 0 && utf8.Valid(data) {
		return string(data[1 : n-1]) // as most are
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return nil
	}
	switch v := v.(type) {
	case bool, string:
		return v
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return nil
}

// Compare orders two field values as described at [Query].
func Compare(a, b any) int {
	ra, _ := rank(a)
	rb, _ := rank(b)
	if ra != rb {
		return cmp.Compare(ra, rb)
	}
	switch ra {
	case 1:
		return compareNumbers(a, b)
	case 2:
		return cmp.Compare(a.(string), b.(string))
	}
	return 0
}

func compareNumbers(a, b any) int {
	fa, aFloat := a.(float64)
	fb, bFloat := b.(float64)
	switch {
	case aFloat && bFloat:
		return cmp.Compare(fa, fb)
	case aFloat:
		return -compareMixed(integer(b), fa)
	case bFloat:
		return compareMixed(integer(a), fb)
	}
	return cmp.Compare(integer(a), integer(b))
}

// compareMixed compares without rounding: not every int64 is a float64, and
// an order in which unequal numbers equal a third is none.
func compareMixed(n int64, f float64) int {
	switch {
	case f >= 1<<63:
		return -1
	case f < -1<<63:
		return 1
	}
	whole := int64(f)
	return cmp.Or(cmp.Compare(n, whole), cmp.Compare(0, f-float64(whole)))
}

// isScalar reports whether v is one of the values a field can have. No
// field is NaN.
func isScalar(v any) bool {
	_, ok := rank(v)
	f, _ := v.(float64)
	return ok && !math.IsNaN(f)
}

func rank(v any) (int, bool) {
	switch v.(type) {
	case nil:
		return 0, true
	case bool, int64, float64:
		return 1, true
	case string:
		return 2, true
	}
	return 0, false
}

// integer is the value of an int64, or of a bool.
func integer(v any) int64 {
	switch v := v.(type) {
	case bool:
		if v {
			return 1
		}
	case int64:
		return v
	}
	return 0
}
