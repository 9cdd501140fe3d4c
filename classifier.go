package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Verdict is what a classifier makes of something.
type Verdict int

// The verdicts of a classifier.
const (
	Unchanged Verdict = iota // it stays what it is: at first, out
	Include                  // it is a member
	Exclude                  // it is not
)

// A Classifier says which entities belong to a group: which animals are on the
// farm, which accounts are overdrawn. It looks at what events make of them, so
// it knows since when that is so, whether it ever was, and who was a member at
// any time in the past.
//
// A classifier that is a part of a domain keeps its group up to date, as a
// projection does. One that is not can be asked all the same: it reads the log.
// That makes a function which returns one a classifier with parameters, see
// [Classifiers].
type Classifier[V any] struct {
	Name    string
	Doc     string          // one sentence for people
	Of      Projection[V]   // what it looks at, need not be a part of a domain; see also [Aggregate.States]
	Verdict func(V) Verdict // what it makes of that; depends on nothing else
	Within  *Classifier[V]  // a member has to be one of this group, too; it looks at the same projection
	Roles   []string        // who may read the group, when access is checked; none = readers
	Version int             // of the verdict, and of what it looks at: raise it when they change, see [Projection]
}

// A Member is what a group knows of something that was ever looked at: that it
// is a member, or is not.
type Member[V any] struct {
	In      bool      `json:"in"`
	Since   time.Time `json:"since"`             // since when it is in, or out: when that event was recorded
	EverIn  bool      `json:"ever_in"`           // it was a member at some time
	EverOut bool      `json:"ever_out,omitzero"` // it was not, at some time after its first event
	Of      V         `json:"of"`                // what the classifier looked at
	Levels  []bool    `json:"levels,omitempty"`  // whether it satisfies each classifier alone, this one first, if there is one it is within
}

// A Spell is a time for which something was in a group, or out of it.
type Spell struct {
	In       bool           `json:"in"`
	Since    time.Time      `json:"since"`
	Until    time.Time      `json:"until,omitzero"` // zero: it lasts
	Event    string         `json:"event"`          // that began it, for example "cow/IE-1-0042@3"
	Type     string         `json:"type"`           // of the event
	Position store.Position `json:"-"`              // of the event
	Actor    string         `json:"actor,omitempty"`
}

// Members yields the members of the group as r sees it, in the order of their
// keys.
func (c Classifier[V]) Members(ctx context.Context, r Reader) iter.Seq2[Row[Member[V]], error] {
	view, err := c.group(r.runtime())
	if err != nil {
		return func(yield func(Row[Member[V]], error) bool) { yield(Row[Member[V]]{}, err) }
	}
	return rows[Member[V]](view.find(ctx, r, store.Query{Where: []store.Cond{{Field: "in", Op: "=", Value: true}}}))
}

// Get returns what the group knows of something, member or not, or
// [ErrNotFound].
func (c Classifier[V]) Get(ctx context.Context, r Reader, key string) (m Member[V], err error) {
	view, err := c.group(r.runtime())
	if err != nil {
		return m, err
	}
	data, err := view.get(ctx, r, key)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(data, &m)
}

// History returns when something was in the group and when it was not, the
// oldest first. It reads the events again.
func (c Classifier[V]) History(ctx context.Context, r Reader, key string) ([]Spell, error) {
	w, err := c.Projection().plain().at(r.runtime())
	if err != nil {
		return nil, err
	}
	return history(ctx, w, r, key)
}

// Projection is the projection whose documents are the group.
func (c Classifier[V]) Projection() Projection[Member[V]] {
	p := Projection[Member[V]]{
		Name: c.Name, Doc: c.Doc, Roles: c.Roles, Partitions: c.Of.Partitions, keyOf: c.Of.keyOf,
		Indexes: []string{"in", "since", "ever_in"}, Version: c.Version,
	}
	for _, field := range c.Of.Indexes {
		p.Indexes = append(p.Indexes, "of."+field)
	}
	for _, field := range c.Of.Search {
		p.Search = append(p.Search, "of."+field)
	}
	levels := c.levels()
	for _, h := range perEvent(c.Of.plain().on) {
		p.On = append(p.On, classify(h, levels))
	}
	return p
}

// group is the group at work in a runtime: kept, or read from the log.
func (c Classifier[V]) group(rt *Runtime) (*view, error) {
	if kept, ok := rt.views[c.Name]; ok && kept.typ == reflect.TypeFor[Member[V]]() {
		return kept, nil
	}
	w, err := c.Projection().plain().at(rt)
	if err != nil {
		return nil, err
	}
	w.view.folded = true
	return w.view, nil
}

// levels are the verdicts that all have to include a member.
func (c Classifier[V]) levels() (all []func(V) Verdict) {
	for at := &c; at != nil; at = at.Within {
		all = append(all, at.Verdict)
	}
	return all
}

func (c Classifier[V]) check() error {
	for at := &c; at != nil; at = at.Within {
		if at.Verdict == nil {
			return fmt.Errorf("classifier %s has no verdict", at.Name)
		}
		if at.Of.Name != c.Of.Name {
			return fmt.Errorf("classifier %s looks at %s, and %s, which it is within, at %s: they have to look at the same", c.Name, c.Of.Name, at.Name, at.Of.Name)
		}
	}
	return nil
}

func (c Classifier[V]) order() int { return 2 }

func (c Classifier[V]) register(rt *Runtime) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := c.Projection().register(rt); err != nil {
		return err
	}
	rt.views[c.Name].gist = func(doc []byte) []byte { return strconv.AppendBool(nil, store.FieldOf(doc, "in") == true) }
	g := &group{name: c.Name, doc: c.Doc, roles: c.Roles, spells: func(ctx context.Context, r Reader, key string) ([]Spell, error) {
		return c.History(ctx, r, key)
	}}
	if c.Within != nil {
		g.within = c.Within.Name
	}
	g.view = func(json.RawMessage) (*view, error) { return rt.views[c.Name], nil }
	return rt.addGroup(g)
}

// perEvent merges the handlers of an event that are about one document, so
// that a verdict is given on what all of them have made of it.
func perEvent(handlers []handler) (merged []handler) {
	at := map[reflect.Type]int{}
	for _, h := range handlers {
		i, seen := at[h.event]
		if h.key != nil || !seen {
			if h.key == nil {
				at[h.event] = len(merged)
			}
			merged = append(merged, h)
			continue
		}
		first := merged[i]
		merged[i] = handler{event: h.event, meta: first.meta || h.meta, apply: func(doc any, m Meta, e any) {
			first.on(doc, m, e)
			h.on(doc, m, e)
		}}
	}
	return merged
}

// classify is the handler of a group: it does what h does to what is looked at,
// and gives a verdict on that.
func classify[V any](h handler, levels []func(V) Verdict) Handler[Member[V]] {
	return Handler[Member[V]]{handler: handler{event: h.event, key: h.key, meta: true, apply: func(doc any, m Meta, e any) {
		member := doc.(*Member[V])
		h.on(&member.Of, m, e)
		member.judge(levels, h.apply == nil, m.Time)
	}}}
}

// judge gives the verdicts on a member as it is now. What is dropped is out.
func (m *Member[V]) judge(levels []func(V) Verdict, dropped bool, at time.Time) {
	was, now := m.Levels, make([]bool, len(levels))
	if len(was) != len(levels) { // it is alone, or new
		was = slices.Repeat([]bool{m.In}, len(levels))
	}
	for i, verdict := range levels {
		switch v := verdict(m.Of); {
		case dropped:
		case v == Unchanged:
			now[i] = was[i]
		default:
			now[i] = v == Include
		}
	}
	if m.Levels = nil; len(levels) > 1 {
		m.Levels = now
	}
	in := !slices.Contains(now, false)
	if in != m.In || m.Since.IsZero() {
		m.In, m.Since = in, at
	}
	m.EverIn, m.EverOut = m.EverIn || in, m.EverOut || !in
}
