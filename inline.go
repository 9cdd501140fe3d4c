package deed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/deed-dev/deed/store"
)

// inlines are the projections whose documents are updated together with the
// events. Each is a follower all the same, which does what nobody has done: what was
// recorded before the projection was inline, or by a program that does not have it.
// So that nothing is taken in twice, there is a mark beside each document.
type inlines struct {
	store store.Atomic
	all   []*projection
}

// errNotNow says that documents are left to the follower this time.
var errNotNow = errors.New("deed: documents are left to the follower")

// maxInline is how many events of an entity a command takes in that its document
// lacks; what is more is left to the follower.
const maxInline = 10_000

func (rt *Runtime) addInline(p *projection) error {
	if err := p.about().refused; err != nil {
		return err
	}
	s, ok := rt.store.(store.Atomic)
	if !ok {
		return fmt.Errorf("this store cannot record events and change documents in one go: leave Inline out, and wait for the view with min-position, or keep log and views together on SQLite or PostgreSQL (%w)", errors.ErrUnsupported)
	}
	rt.inline.store = s
	rt.inline.all = append(rt.inline.all, p)
	return nil
}

// appendInline appends, and updates documents with it. A document that somebody else
// has changed meanwhile is looked at again: that does not concern the decision.
func (rt *Runtime) appendInline(ctx context.Context, writes []store.Write) ([]store.Written, error) {
	if len(rt.inline.all) == 0 {
		return rt.store.Append(ctx, writes...)
	}
	for {
		b, err := rt.beside(ctx, writes)
		if err != nil {
			return nil, err
		}
		written, err := rt.inline.store.AppendWith(ctx, writes, b.changes, b.holds)
		c, conflict := errors.AsType[*store.ConflictError](err)
		switch {
		case err == nil:
			b.recorded(writes, written)
			return written, nil
		case !conflict || c.Stream != "" || ctx.Err() != nil:
			return nil, err
		}
		for _, h := range b.holds {
			if h.Key == c.Key && h.Coll == c.Coll {
				rt.engine.LookAgain(ctx, c.Key)
			}
		}
	}
}

// A besides is what is to be written together with events.
type besides struct {
	changes []store.Change
	holds   []store.Hold
	with    []*inlineState // of the views that will have taken in the events then, or need not
}

// beside finds out what is to be written with events. A view that cannot be updated
// is left to its follower, which parks what it cannot handle: nothing that is recorded
// fails because of a view.
func (rt *Runtime) beside(ctx context.Context, writes []store.Write) (b besides, err error) {
	for _, p := range rt.inline.all {
		st := p.about()
		if !p.concerned(writes) {
			b.with = append(b.with, st)
			continue
		}
		in, err := rt.engine.Inline(ctx, st.name)
		if err != nil {
			return b, storeError(err)
		}
		var changes []store.Change
		for _, gen := range in.Generations {
			more, err := p.changes(ctx, gen, writes)
			if err != nil {
				if !errors.Is(err, errNotNow) {
					rt.cfg.Logger.Debug("left to the follower", slog.String("view", st.name), slog.Any("error", err))
				}
				in.Generations = nil
				break
			}
			changes = append(changes, more...)
		}
		if len(in.Generations) == 0 {
			continue
		}
		b.changes, b.holds = append(b.changes, changes...), append(b.holds, in.Hold)
		if in.Shown {
			b.with = append(b.with, st)
		}
	}
	return b, nil
}

// recorded notes which part of the log views have taken in beyond their cursors.
func (b besides) recorded(writes []store.Write, written []store.Written) {
	for i, w := range written {
		if n := uint64(len(writes[i].Events)); n > 0 && !w.Repeated && w.Position.Shard == 0 {
			for _, st := range b.with {
				st.add(w.Position.Seq-n+1, w.Position.Seq)
			}
		}
	}
}

// inlineState is what is known of an inlined projection.
type inlineState struct {
	name    string
	refused error // why it cannot be inline

	mu      sync.Mutex
	spans   map[uint64]uint64 // parts of the log that documents have taken in when they were recorded: first and last position
	reached store.Cursor      // how far documents are known to have come
}

// maxSpans is how many parts of the log are remembered. They are needed until the
// follower has passed what others have recorded between them, which takes moments.
const maxSpans = 10_000

func (st *inlineState) add(first, last uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.spans == nil || len(st.spans) >= maxSpans {
		st.spans = map[uint64]uint64{}
	}
	st.spans[first] = last
	st.advance()
}

// advance moves on over the parts of the log that come next.
func (st *inlineState) advance() {
	if len(st.reached.Positions()) > 1 {
		return
	}
	at := st.reached.Seq(0)
	for last, ok := st.spans[at+1]; ok; last, ok = st.spans[at+1] {
		delete(st.spans, at+1)
		at = last
	}
	if at > st.reached.Seq(0) {
		st.reached = store.CursorAt(store.Position{Seq: at})
	}
}

// extend is how far documents have come if the follower has come to a cursor.
func (st *inlineState) extend(c store.Cursor) store.Cursor {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.reached = st.reached.Join(c); len(st.spans) > 0 {
		st.advance()
	}
	return st.reached
}

// followerCursor is how far a view has read the log, with what was taken in when it
// was recorded.
func (rt *Runtime) followerCursor(name string) store.Cursor {
	c := rt.engine.Cursor(name)
	if st := rt.inlineOf(name); st != nil {
		return st.extend(c)
	}
	return c
}

// waitForFollower waits until a follower has taken in the record at p and all before
// it.
func (rt *Runtime) waitForFollower(ctx context.Context, name string, p store.Position) error {
	if st := rt.inlineOf(name); st != nil && st.extend(rt.engine.Cursor(name)).Covers(p) {
		return nil
	}
	return rt.engine.WaitFor(ctx, name, p)
}

func (rt *Runtime) inlineOf(name string) *inlineState {
	i := slices.IndexFunc(rt.inline.all, func(p *projection) bool { return p.about().name == name })
	if i < 0 {
		return nil
	}
	return rt.inline.all[i].about()
}
