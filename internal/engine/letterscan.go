package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/deed-dev/deed/store"
)

// Names returns the names of all followers, in order.
func (e *Engine) Names() []string {
	var names []string
	for _, f := range e.list() {
		names = append(names, f.Name)
	}
	return names
}

// Letters yields the dead letters of a follower in log order, after the one of an
// id ("" = all of them). If all are wanted, each that waits says behind which.
func (e *Engine) Letters(ctx context.Context, name, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		f, gen, key, err := e.from(ctx, name, after)
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		heads := heads{}
		for l, err := range letters(ctx, e.store, name, gen, key) {
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			out := f.shown(l)
			if after == "" {
				if head := heads.note(store.PartitionOf(l.Stream, f.Partitions), l); head != l.ID {
					out.Behind = head
				}
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// from is where a list of the letters of a follower begins.
func (e *Engine) from(ctx context.Context, name, after string) (f *follower, gen uint64, key string, err error) {
	if f, err = e.follower(name); err != nil {
		return nil, 0, "", err
	}
	i, err := f.known(ctx)
	if err != nil {
		return nil, 0, "", err
	}
	if after != "" {
		_, p, err := parseLetterID(after)
		if err != nil {
			return nil, 0, "", err
		}
		key = deadKey(i.Generation, p)
	}
	return f, i.Generation, key, nil
}

// heads are the ids of the letters that hold up sequences, by partition and key.
type heads map[string]string

// note returns the id of the letter at the head of a letter's sequence, which may
// be its own. Letters are noted in log order.
func (h heads) note(partition int, l *letter) string {
	head := l.ID
	prefix := strconv.Itoa(partition) + " "
	for _, k := range l.Keys {
		if id, ok := h[prefix+k]; ok {
			head = id
			break
		}
	}
	for _, k := range l.Keys {
		if _, ok := h[prefix+k]; !ok {
			h[prefix+k] = head
		}
	}
	return head
}

// Closed yields what is kept of former dead letters of a follower, those that were
// discarded or those that were handled as edited, after the one of an id.
func (e *Engine) Closed(ctx context.Context, name, state, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		f, gen, key, err := e.from(ctx, name, after)
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		for d, err := range e.store.List(ctx, notesOf(name, state), deadPrefix(gen), key) {
			var l DeadLetter
			if err == nil {
				l, err = f.parseNote(d, state)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

func notesOf(name, state string) string {
	if state == StateHandled {
		return editedColl(name)
	}
	return discardedColl(name)
}

// ClosedLetter returns what is kept of a former dead letter.
func (e *Engine) ClosedLetter(ctx context.Context, id string) (DeadLetter, error) {
	f, p, gen, err := e.shownAt(ctx, id)
	if err != nil {
		return DeadLetter{}, err
	}
	for _, state := range []string{StateDiscarded, StateHandled} {
		d, err := e.store.Get(ctx, notesOf(f.Name, state), deadKey(gen, p))
		if err == nil {
			return f.parseNote(d, state)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return DeadLetter{}, err
		}
	}
	return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
}

// parseNote reads what is kept of a former dead letter.
func (f *follower) parseNote(d store.Doc, state string) (DeadLetter, error) {
	var note struct {
		discarded
		Handled time.Time `json:"handled_at"`
	}
	if err := json.Unmarshal(d.Data, &note); err != nil {
		return DeadLetter{}, fmt.Errorf("%w: note %s of %s: %w", store.ErrCorrupt, d.Key, f.Name, err)
	}
	out := f.shown(&letter{DeadLetter: note.DeadLetter})
	out.State, out.NextAt, out.Closed = state, time.Time{}, &Closed{At: note.Discarded, By: note.By, Why: note.Why}
	if state == StateHandled {
		out.Closed.At = note.Handled
	}
	return out, nil
}
