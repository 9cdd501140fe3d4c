package deed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/deed-dev/deed/store"
)

// A DocumentChange is a document of a view that has changed.
type DocumentChange struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value,omitempty"` // missing = there is none any more
}

// A ViewTail tells which documents of a view change, from a place in the log
// on: those that are really other than before, of a group those that became
// members or ceased to be. It is for one goroutine.
type ViewTail struct {
	rt    *Runtime
	view  *view
	key   string
	after store.Cursor
	known recent[[]byte] // what the documents told last amount to
}

// tailKnown is how many documents a ViewTail remembers. Of others it finds out
// what they were.
const tailKnown = 10_000

// ViewTail returns a tail of a projection's or classifier's documents, of one
// if key is not "", from a place in the log on.
func (rt *Runtime) ViewTail(viewName, key string, after store.Cursor) (*ViewTail, error) {
	v, ok := rt.views[viewName]
	if !ok {
		return nil, rt.unknownView(viewName)
	}
	if v.touched == nil {
		return nil, Invalid{Detail: fmt.Sprintf("the view %s is written by event handlers: nobody can tell when it changes", viewName)}
	}
	return &ViewTail{rt: rt, view: v, key: key, after: after, known: newRecent[[]byte](tailKnown, nil)}, nil
}

// After is how far the tail has come: give it to another one to go on there.
func (t *ViewTail) After() store.Cursor { return t.after }

// tailBatch is how many records a tail looks at together.
const tailBatch = 256

// Next returns the documents that the next records have changed, as they are
// now, and whether there were any records. It waits until the view has taken
// them in. Several changes of a document may be told as one.
func (t *ViewTail) Next(ctx context.Context) ([]DocumentChange, bool, error) {
	filter := t.view.filter
	filter.Limit = tailBatch
	head, err := t.rt.store.Head(ctx)
	if err != nil {
		return nil, false, storeError(err)
	}
	next, keys, n := t.after, []string(nil), 0
	seen := map[string]bool{}
	for rec, err := range t.rt.store.ReadAll(ctx, t.after, filter) {
		if err != nil {
			return nil, false, storeError(err)
		}
		n++
		next = next.Advance(rec.Position)
		touched, err := t.view.touched(rec)
		if err != nil {
			continue // the view has parked it
		}
		for _, key := range touched {
			if !seen[key] && (t.key == "" || key == t.key) {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	if n < tailBatch {
		next = next.Join(head)
	}
	if len(keys) > 0 {
		if err := t.rt.WaitForView(ctx, t.view.name, next); err != nil {
			return nil, false, err
		}
	}
	var changes []DocumentChange
	for _, key := range keys {
		c, changed, err := t.look(ctx, key)
		if err != nil {
			return nil, false, err
		}
		if changed {
			changes = append(changes, c)
		}
	}
	t.after = next
	return changes, n > 0, nil
}

// look reads a document and reports whether it is other than before.
func (t *ViewTail) look(ctx context.Context, key string) (DocumentChange, bool, error) {
	now, err := t.document(ctx, t.rt, key)
	if err != nil {
		return DocumentChange{}, false, err
	}
	gist := t.gist(now)
	before, ok := t.known.Get(key)
	if !ok && !t.view.derived {
		then, err := t.before(ctx, key)
		if err != nil {
			return DocumentChange{}, false, err
		}
		before, ok = t.gist(then), true
	}
	t.known.Add(key, gist)
	return DocumentChange{key, now}, !ok || !bytes.Equal(before, gist), nil
}

// before is a document as it was when the tail looked last.
func (t *ViewTail) before(ctx context.Context, key string) (json.RawMessage, error) {
	if t.after == store.Start {
		return nil, nil
	}
	return t.document(ctx, t.rt.AtPosition(t.after), key)
}

func (t *ViewTail) document(ctx context.Context, r Reader, key string) (json.RawMessage, error) {
	doc, err := t.view.get(ctx, r, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return doc, err
}

// gist is what a document amounts to, as far as it is told of. No document
// amounts to the same as one of a group that is no member.
func (t *ViewTail) gist(doc json.RawMessage) []byte {
	if t.view.gist != nil {
		return t.view.gist(doc)
	}
	return doc
}
