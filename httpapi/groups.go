package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A Member is what a group knows of something.
type Member struct {
	Key     string    `json:"key"`
	In      bool      `json:"in"`
	Since   time.Time `json:"since"` // since when it is in, or out
	EverIn  bool      `json:"ever_in"`
	EverOut bool      `json:"ever_out,omitzero"`
	Of      rawJSON   `json:"of"`                // what the classifier looks at
	History []Spell   `json:"history,omitempty"` // if it was asked for one member
}

// A Spell is a time for which something was in a group, or out of it.
type Spell struct {
	deed.Spell
	Position string `json:"position"` // of the event that began it
}

// A MemberPage is some members of a group.
type MemberPage struct {
	Group   string   `json:"group"`
	Members []Member `json:"members"`
	Next    string   `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

// Groups are the groups there are.
type Groups struct {
	Groups []deed.GroupInfo `json:"groups"`
}

// groups answers which groups there are.
func (a *api) groups(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return answer(w, http.StatusOK, Groups{a.rt.Groups()})
}

// members answers a page of members.
func (a *api) members(w http.ResponseWriter, r *http.Request) error {
	g, q, err := a.group(r, append(viewParams, "where", "search", "sort", "limit", "after")...)
	if err != nil {
		return err
	}
	params, err := groupParams(g, q)
	if err != nil {
		return err
	}
	sq, err := a.documentQuery(g.Name, g.Name+string(params), q)
	if err != nil {
		return err
	}
	from, err := a.groupReader(w, r, g, q)
	if err != nil {
		return err
	}
	limit := sq.Limit
	sq.Limit++ // one more tells whether there are more
	sq.Where = append(sq.Where, store.Cond{Field: "in", Op: "=", Value: true})
	rows, err := a.rt.GroupMembers(r.Context(), from, g.Name, params, sq)
	if err != nil {
		return err
	}
	page := MemberPage{Group: g.Name, Members: []Member{}}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Next = markAt(g.Name+string(params), q, rows[limit-1])
	}
	for _, row := range rows {
		m, err := memberOf(row.Key, row.Value)
		if err != nil {
			return err
		}
		page.Members = append(page.Members, m)
	}
	return answer(w, http.StatusOK, page)
}

// member answers what a group knows of one key, and since when.
func (a *api) member(w http.ResponseWriter, r *http.Request) error {
	g, q, err := a.group(r, viewParams...)
	if err != nil {
		return err
	}
	params, err := groupParams(g, q)
	if err != nil {
		return err
	}
	from, err := a.groupReader(w, r, g, q)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	data, err := a.rt.GroupMember(r.Context(), from, g.Name, params, key)
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "the group "+g.Name+" has never looked at "+short(key))
	}
	if err != nil {
		return err
	}
	m, err := memberOf(key, data)
	if err != nil {
		return err
	}
	spells, err := a.rt.GroupHistory(r.Context(), from, g.Name, key)
	if err != nil {
		return err
	}
	for _, s := range spells {
		m.History = append(m.History, Spell{s, string(store.CursorAt(s.Position))})
	}
	return answer(w, http.StatusOK, m)
}

func memberOf(key string, data json.RawMessage) (m Member, err error) {
	err = json.Unmarshal(data, &m)
	m.Key = key
	return m, err
}

// group finds the group that a request is about, and its query parameters: those
// of the route and those of the group.
func (a *api) group(r *http.Request, known ...string) (deed.GroupInfo, url.Values, error) {
	name := r.PathValue("group")
	all := a.rt.Groups()
	i := slices.IndexFunc(all, func(g deed.GroupInfo) bool { return g.Name == name })
	if i < 0 {
		return deed.GroupInfo{}, nil, problem(http.StatusNotFound, CodeNotFound, "there is no group "+short(name)+": see GET /v1/groups")
	}
	known = slices.Clone(known)
	for field := range all[i].Params {
		known = append(known, field)
	}
	slices.Sort(known)
	q, err := query(r, slices.Compact(known)...)
	return all[i], q, err
}

// groupParams are the parameters of a group as JSON; nil if it has none.
func groupParams(g deed.GroupInfo, q url.Values) (json.RawMessage, error) {
	if g.Kept {
		return nil, nil
	}
	params := map[string]json.RawMessage{}
	for field, kind := range g.Params {
		if !q.Has(field) {
			continue
		}
		text := q.Get(field)
		value := json.RawMessage(text)
		if kind == "string" || kind == "" {
			value = json.RawMessage(strconv.AppendQuote(nil, text))
			if !json.Valid(value) {
				return nil, deed.Invalid{Field: field, Detail: "must be plain text"}
			}
		}
		if !json.Valid(value) {
			return nil, deed.Invalid{Field: field, Detail: "must be a " + kind}
		}
		params[field] = value
	}
	return json.Marshal(params)
}

// groupReader is the reader that a request asks for. A group that is kept is a
// view, whose freshness can be waited for.
func (a *api) groupReader(w http.ResponseWriter, r *http.Request, g deed.GroupInfo, q url.Values) (deed.Reader, error) {
	if g.Kept {
		return a.viewReader(w, r, g.Name, q)
	}
	return a.reader(q)
}
