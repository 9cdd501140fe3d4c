package deed

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A FieldChange is a field of a state that events have changed, and the last
// of them that did.
type FieldChange struct {
	Field  string          `json:"field"`            // path of JSON names, for example "total.amount" or "items.0.quantity"
	Before json.RawMessage `json:"before,omitempty"` // missing = there was none
	Now    json.RawMessage `json:"now,omitempty"`    // missing = there is none
	Event  string          `json:"event"`            // for example "order/o-1@3"
	Type   string          `json:"type"`
	Time   time.Time       `json:"time"`
	Actor  string          `json:"actor,omitempty"`
}

// Blame compares the state of an entity as two readers see it, field by field:
// what differs, and which event has made it what it is to the second. From
// nil, everything is new. It returns [ErrNotFound] if the second sees nothing
// of the entity.
func (rt *Runtime) Blame(ctx context.Context, from, to Reader, aggregate, id string) ([]FieldChange, error) {
	k, ok := rt.kinds[aggregate]
	if !ok {
		return nil, rt.unknownAggregate(aggregate)
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	before := map[string]string{}
	if from != nil {
		data, _, err := k.stateOf(ctx, from, id)
		if err != nil && err != ErrNotFound {
			return nil, err
		}
		flatten("", data, before)
	}
	setBy := map[string]store.Record{}
	now := map[string]string{}
	seen := false
	err := k.each(ctx, to, id, func(rec store.Record, state json.RawMessage) error {
		seen = true
		next := map[string]string{}
		flatten("", state, next)
		for _, field := range union(now, next) {
			if was, is := now[field], next[field]; was != is {
				setBy[field] = rec
			}
		}
		now = next
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, ErrNotFound
	}
	changes := []FieldChange{}
	for _, field := range union(before, now) {
		was, is := before[field], now[field]
		rec, set := setBy[field]
		if was == is || !set {
			continue
		}
		m, err := metaOf(rec)
		if err != nil {
			return nil, err
		}
		changes = append(changes, FieldChange{
			Field: field, Before: json.RawMessage(was), Now: json.RawMessage(is),
			Event: fmt.Sprintf("%s@%d", rec.Stream, rec.Version), Type: rec.Type, Time: rec.Time, Actor: m.Actor,
		})
	}
	return changes, nil
}

// each folds the events of an entity that r sees and gives f the state after
// each.
func (k *kind) each(ctx context.Context, r Reader, id string, f func(store.Record, json.RawMessage) error) error {
	at := k.unborn()
	return k.foldEach(ctx, r, id, &at, func(rec store.Record) error {
		data, err := wire.Marshal(at.state)
		if err != nil {
			return err
		}
		return f(rec, data)
	})
}

// flatten lists the fields of a JSON value that have no fields themselves, with
// what they hold.
func flatten(path string, data json.RawMessage, into map[string]string) {
	var fields map[string]json.RawMessage
	var items []json.RawMessage
	switch {
	case json.Unmarshal(data, &fields) == nil && len(fields) > 0:
		for name, v := range fields {
			flatten(join(path, name), v, into)
		}
	case json.Unmarshal(data, &items) == nil && len(items) > 0:
		for i, v := range items {
			flatten(join(path, strconv.Itoa(i)), v, into)
		}
	case len(data) > 0:
		into[path] = string(data)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// union are the keys of two maps, in order.
func union(a, b map[string]string) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
