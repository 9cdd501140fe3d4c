package deed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// endings are the records that may be the last of a stream that is over, by
// its category. Streams of other categories are never given up.
var endings = store.Filter{
	Categories: []string{commandCategory, quotaCategory, repeatCategory, poisonCategory, compactionCategory, queryCategory, messageCategory},
	Types: []string{
		typeAccepted, typeCompleted, typeRejected, typeCancelled, typeRefused, typeUsed, typeGivenUp,
		typeAnswered, typeInvalid, typeFailed, typeDelivered, typeUndeliverable, typePublished, typeHandled,
	},
}

// ends reports whether a record ends a command.
func ends(rec store.Record) bool {
	switch rec.Type {
	case typeAccepted, typeCompleted, typeRejected, typeCancelled:
		return true
	}
	return false
}

// An agedStream is one that may be given up, if it has not moved on.
type agedStream struct {
	store.Whole
	documents bool // views may have some
}

// A batchOfStreams is what is given up together, each stream once.
type batchOfStreams struct {
	streams []agedStream
	at      map[string]int // by name
}

func (b *batchOfStreams) add(s agedStream) {
	if i, ok := b.at[s.Stream]; ok {
		b.streams[i] = s // it ends later
		return
	}
	b.at[s.Stream] = len(b.streams)
	b.streams = append(b.streams, s)
}

func (b *batchOfStreams) wholes() []store.Whole {
	out := make([]store.Whole, len(b.streams))
	for i, s := range b.streams {
		out[i] = s.Whole
	}
	return out
}

// collect finds the next streams that may go, and notes how far it has looked.
// It ends the run when what comes next is too young, or has still to be handled
// by somebody.
func (x *compaction) collect(ctx context.Context) (batchOfStreams, error) {
	batch := batchOfStreams{at: map[string]int{}}
	horizon, err := x.rt.engine.Horizon(ctx)
	if err != nil {
		return batch, err
	}
	for rec, err := range x.rt.store.ReadAll(ctx, x.place.Cursor, endings) {
		switch {
		case err != nil:
			return batch, storeError(err)
		case !rec.Time.Before(x.out.Before):
			x.ended = true
			x.place.Cursor = x.place.Cursor.Join(before(rec))
			return batch, nil
		case !horizon.Cursor.Covers(rec.Position):
			x.ended = true
			x.place.Cursor = x.place.Cursor.Join(horizon.Cursor)
			if x.out.WaitsFor = "the follower " + horizon.Follower; horizon.Letter != "" {
				x.out.WaitsFor = "the dead letter " + horizon.Letter
			}
			return batch, nil
		}
		s, ok, err := x.mayGo(ctx, rec)
		if err != nil {
			return batch, err
		}
		if ok {
			batch.add(s)
		}
		x.place.Cursor = x.place.Cursor.Advance(rec.Position)
		if len(batch.streams) == compactStreams {
			return batch, nil
		}
	}
	x.ended = true
	x.place.Cursor = x.place.Cursor.Join(horizon.Cursor) // there is nothing of interest before it
	return batch, nil
}

// before is the cursor of what comes before a record.
func before(rec store.Record) store.Cursor {
	return store.CursorAt(store.Position{Shard: rec.Position.Shard, Seq: rec.Position.Seq - 1})
}

// mayGo reports whether the stream that a record ends, if it does, is needed by
// nobody.
func (x *compaction) mayGo(ctx context.Context, rec store.Record) (agedStream, bool, error) {
	s := agedStream{Whole: store.Whole{Stream: rec.Stream, Last: rec.Position}}
	category, rest, _ := strings.Cut(rec.Stream, "/")
	switch category {
	case commandCategory:
		if !ends(rec) {
			return s, false, nil
		}
		// One that was done at once has left nothing in any view.
		s.documents = rec.Type != typeAccepted || rec.Version > 1
		ok, err := x.needless(ctx, rec)
		return s, ok, err
	case poisonCategory, queryCategory:
		s.documents = true
	case quotaCategory:
		// Only a program that has the command knows its periods.
		command, _, _ := strings.Cut(rest, "/")
		return s, x.rt.hasNamed(command), nil
	case compactionCategory:
		return s, x.finished(rest), nil
	}
	return s, true, nil
}

// needless reports whether whoever asked a command is over, or gone. Steps ask
// under ids of their own: if one is done again after months, because its
// command had failed and is resumed, what it asked then must still be there.
func (x *compaction) needless(ctx context.Context, rec store.Record) (bool, error) {
	m, err := metaOf(rec)
	if err != nil {
		return false, err
	}
	if m.Causation == "" || m.Causation == m.ID {
		return true, nil
	}
	over, err := x.isOver(ctx, m.Causation)
	if err == nil && !over {
		x.out.Kept++
		x.place.hold(m.Causation, before(rec))
	}
	return over, err
}

// isOver reports whether a command or saga, as somebody's causation names it,
// is over. What is neither is.
func (x *compaction) isOver(ctx context.Context, asker string) (bool, error) {
	if over, known := x.over[asker]; known {
		return over, nil
	}
	over, err := x.commandIsOver(ctx, asker)
	if err == nil && over && strings.HasPrefix(asker, sagaCategory+"/") {
		over, err = x.sagaIsOver(ctx, asker)
	}
	if err != nil {
		return false, storeError(err)
	}
	if len(x.over) >= maxLookedUp {
		clear(x.over)
	}
	x.over[asker] = over
	return over, nil
}

func (x *compaction) commandIsOver(ctx context.Context, id string) (bool, error) {
	for rec, err := range x.rt.store.Read(ctx, commandStream(id), store.Range{Backward: true, Limit: 1}) {
		return err == nil && ends(rec), err
	}
	return true, nil
}

// sagaIsOver looks for what a saga has become last. It may be one that this
// program does not have.
func (x *compaction) sagaIsOver(ctx context.Context, stream string) (bool, error) {
	found := false
	for rec, err := range x.rt.store.Read(ctx, stream, store.Range{Backward: true}) {
		if err != nil {
			return false, err
		}
		var e struct {
			Status InstanceState `json:"status"`
		}
		if err := wire.Unmarshal(rec.Data, &e); err != nil {
			return false, fmt.Errorf("deed: %s@%d: %w", rec.Stream, rec.Version, err)
		}
		if found = true; e.Status != "" {
			return e.Status.Over(), nil
		}
	}
	return !found, nil
}

// maxLookedUp is of how many askers a run remembers whether they are over.
const maxLookedUp = 10_000

// finished reports whether a stream of announcements is of a run that came to
// its end: then all that it names is gone.
func (x *compaction) finished(id string) bool {
	run, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(run, 10, 64)
	return err == nil && n < x.runs
}

// hasNamed reports whether the program has a command of a full name.
func (rt *Runtime) hasNamed(name string) bool {
	noun, verb, _ := strings.Cut(name, ".")
	return rt.stepwise[name] != nil || rt.hasCommand(noun, verb)
}

// checkKept refuses to keep commands for a shorter time than their own rules
// look back.
func (rt *Runtime) checkKept(field string, keep time.Duration) error {
	if keep <= 0 {
		return Invalid{Field: field, Detail: "must be longer than nothing"}
	}
	check := func(name string, rules Rules) error {
		if rules.Window > keep {
			return Invalid{Field: field, Detail: fmt.Sprintf("is %v, and %s knows repetitions for %v (Rules.Window): keep commands at least as long", keep, name, rules.Window)}
		}
		if per := rules.Quota.per(); rules.Quota.Limit > 0 && per > keep {
			return Invalid{Field: field, Detail: fmt.Sprintf("is %v, and %s has a quota for %v (Quota.Per): keep commands at least as long", keep, name, per)}
		}
		return nil
	}
	for _, k := range rt.kinds {
		for name, rules := range k.allRules() {
			if err := check(name, rules); err != nil {
				return err
			}
		}
	}
	for name, p := range rt.stepwise {
		if err := check(name, p.rules); err != nil {
			return err
		}
	}
	for name, q := range rt.questions {
		if q.keep > keep {
			return Invalid{Field: field, Detail: fmt.Sprintf("is %v, and askings of %s are to be kept for %v (Query.Keep): keep them at least as long", keep, name, q.keep)}
		}
	}
	return nil
}

// checkKeeping refuses to promise what cannot be kept.
func (rt *Runtime) checkKeeping() error {
	keep := rt.cfg.KeepCommands
	if keep == 0 {
		return nil
	}
	_, err := store.Compact(context.Background(), rt.store)
	if errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("deed: commands cannot be kept for %v only (KeepCommands): %w", keep, err)
	}
	if err := errors.Join(err, rt.checkKept("KeepCommands", keep)); err != nil {
		return fmt.Errorf("deed: %w", err)
	}
	return nil
}

// per is how long a period is.
func (q Quota) per() time.Duration {
	if q.Per > 0 {
		return q.Per
	}
	return 24 * time.Hour
}
