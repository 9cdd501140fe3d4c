package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Classifiers are a classifier with parameters P, a struct: one for each value
// of them, for example all accounts with less than a threshold. Nothing is kept
// of their groups: who asks has the log read.
type Classifiers[P, V any] struct {
	Name  string
	Doc   string // one sentence for people
	With  func(P) Classifier[V]
	Roles []string // who may read the groups, when access is checked; none = readers
}

func (c Classifiers[P, V]) order() int { return 3 }

func (c Classifiers[P, V]) register(rt *Runtime) error {
	if c.With == nil {
		return fmt.Errorf("classifiers %s have no function that makes them", c.Name)
	}
	if err := c.With(*new(P)).check(); err != nil {
		return err
	}
	if _, err := c.With(*new(P)).Projection().plain().at(rt); err != nil {
		return err
	}
	params := reflect.TypeFor[P]()
	if params.Kind() != reflect.Struct {
		return fmt.Errorf("the parameters of classifiers %s are a %v: use a struct", c.Name, params)
	}
	for _, field := range wire.Fields(params) {
		if slices.Contains(groupParams, field) {
			return fmt.Errorf("a parameter of classifiers %s cannot be named %q: the HTTP API uses that name", c.Name, field)
		}
	}
	made := func(raw json.RawMessage) (Classifier[V], error) {
		p := new(P)
		err := decodeInto(raw, reflect.ValueOf(p))
		if v, ok := any(*p).(validator); err == nil && ok {
			err = v.Validate()
		}
		return c.With(*p), err
	}
	return rt.addGroup(&group{
		name: c.Name, doc: c.Doc, roles: c.Roles, params: params,
		view: func(raw json.RawMessage) (*view, error) {
			one, err := made(raw)
			if err != nil {
				return nil, err
			}
			one.Name = c.Name
			w, err := one.Projection().plain().at(rt)
			if err != nil {
				return nil, err
			}
			w.view.folded = true
			return w.view, nil
		},
	})
}

// groupParams are parameters that the HTTP API has for any group.
var groupParams = []string{"at", "position", "effective", "min-position", "wait", "where", "sort", "limit", "after"}

// group is a classifier at work in a runtime, for those who know it only by
// its name.
type group struct {
	name, doc, within string
	roles             []string
	params            reflect.Type // nil = it has none
	view              func(params json.RawMessage) (*view, error)
	spells            func(ctx context.Context, r Reader, key string) ([]Spell, error) // nil = its history is not told
}

func (rt *Runtime) addGroup(g *group) error {
	if err := checkName("classifier", g.name); err != nil {
		return err
	}
	if _, dup := rt.groups[g.name]; dup {
		return fmt.Errorf("two classifiers are named %q", g.name)
	}
	rt.groups[g.name] = g
	return nil
}

// A GroupInfo describes a group to tools and people.
type GroupInfo struct {
	Name   string            `json:"name"`
	Doc    string            `json:"doc,omitempty"`
	Within string            `json:"within,omitempty"` // the group whose members it chooses from
	Params map[string]string `json:"params,omitempty"` // the kinds of its parameters: string, number or boolean
	Kept   bool              `json:"kept"`             // it is kept up to date; else the log is read for each answer
	Roles  []string          `json:"roles,omitempty"`
}

// Groups describes the groups there are, in the order of their names.
func (rt *Runtime) Groups() []GroupInfo {
	infos := []GroupInfo{}
	for _, name := range slices.Sorted(maps.Keys(rt.groups)) {
		g := rt.groups[name]
		info := GroupInfo{Name: name, Doc: g.doc, Within: g.within, Kept: g.params == nil, Roles: g.roles}
		if g.params != nil {
			info.Params = map[string]string{}
			for _, field := range wire.Fields(g.params) {
				info.Params[field] = fieldKind(g.params, field)
			}
		}
		infos = append(infos, info)
	}
	return infos
}

// GroupMembers returns what a group knows of those that satisfy q, as JSON of
// a [Member]; params is the JSON of its parameters, if it has any.
func (rt *Runtime) GroupMembers(ctx context.Context, r Reader, name string, params json.RawMessage, q store.Query) ([]Row[json.RawMessage], error) {
	view, err := rt.groupView(name, params)
	if err != nil {
		return nil, err
	}
	return documents(ctx, view, r, q)
}

// GroupMember returns what a group knows of one key, member or not, or
// [ErrNotFound].
func (rt *Runtime) GroupMember(ctx context.Context, r Reader, name string, params json.RawMessage, key string) (json.RawMessage, error) {
	view, err := rt.groupView(name, params)
	if err != nil {
		return nil, err
	}
	if err := store.CheckName("key", key); err != nil {
		return nil, Invalid{Detail: err.Error()}
	}
	return view.get(ctx, r, key)
}

// GroupHistory returns when something was in a group and when it was not, the
// oldest first. Of a group with parameters it returns nothing.
func (rt *Runtime) GroupHistory(ctx context.Context, r Reader, name, key string) ([]Spell, error) {
	g, ok := rt.groups[name]
	if !ok {
		return nil, unknown("no group", name, maps.Keys(rt.groups))
	}
	if g.spells == nil {
		return nil, nil
	}
	return g.spells(ctx, r, key)
}

func (rt *Runtime) groupView(name string, params json.RawMessage) (*view, error) {
	g, ok := rt.groups[name]
	if !ok {
		return nil, unknown("no group", name, maps.Keys(rt.groups))
	}
	return g.view(params)
}

// standing is what a [Member] tells to those who do not know of what.
type standing interface {
	standing() (in bool, since time.Time)
}

func (m *Member[V]) standing() (bool, time.Time) { return m.In, m.Since }

// history folds the events of one key and notes when the verdict changes.
func history(ctx context.Context, w *projection, r Reader, key string) (spells []Spell, err error) {
	m := w.zero()
	var touches []touch
	for rec, err := range w.pastRecords(ctx, r, key) {
		if err != nil {
			return nil, storeError(err)
		}
		var meta Meta
		var e any
		if touches, meta, e, err = w.touches(rec, touches); err != nil {
			return nil, err
		}
		for _, t := range touches {
			if t.key != key {
				continue
			}
			wasIn, before := m.(standing).standing()
			t.apply(m, meta, e)
			in, since := m.(standing).standing()
			if since.Equal(before) && in == wasIn {
				continue
			}
			if n := len(spells); n > 0 {
				spells[n-1].Until = rec.Time
			}
			spells = append(spells, Spell{
				In: in, Since: since, Event: fmt.Sprintf("%s@%d", rec.Stream, rec.Version), Type: rec.Type, Position: rec.Position, Actor: meta.Actor,
			})
		}
	}
	return spells, nil
}
