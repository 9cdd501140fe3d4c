package deed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Where a compaction notes how far it has come.
const (
	compactionColl = "$compaction"
	compactionKey  = "place"
)

// auditCompaction has an event for each compaction that has given up something.
const (
	auditCompaction = "$audit/compaction"
	typeCompacted   = "compacted"
)

// A compactionPlace is how far compactions have come.
type compactionPlace struct {
	Cursor store.Cursor `json:"cursor"`
	// Held has the commands and sagas that are not over and have asked commands
	// that would be old enough: when they are, a run looks again from before the
	// first of these. "" stands for further ones: every run looks again.
	Held map[string]store.Cursor `json:"held,omitempty"`
	// Unsaid is what was given up and not recorded yet.
	Unsaid amount `json:"unsaid,omitzero"`
}

// An amount is what was given up.
type amount struct {
	Run     uint64            `json:"run"` // it is going to be recorded as
	Streams map[string]uint64 `json:"streams,omitempty"`
	Records uint64            `json:"records"`
}

// nothing reports whether it is not worth mentioning: announcements that are old
// go unannounced.
func (a amount) nothing() bool {
	return len(a.Streams) == 0 || len(a.Streams) == 1 && a.Streams[compactionCategory] > 0
}

func (a *amount) add(category string, records uint64) {
	if a.Streams == nil {
		a.Streams = map[string]uint64{}
	}
	a.Streams[category]++
	a.Records += records
}

// maxHeldBack is how many are noted that commands have to stay for.
const maxHeldBack = 10_000

// hold notes who is not over, and where the first of the commands is that have
// to stay for that.
func (p *compactionPlace) hold(asker string, at store.Cursor) {
	if _, known := p.Held[asker]; !known && len(p.Held) >= maxHeldBack {
		asker = ""
	}
	if first, known := p.Held[asker]; known && at.CoversAll(first) {
		return
	}
	if p.Held == nil {
		p.Held = map[string]store.Cursor{}
	}
	p.Held[asker] = at
}

// begin finds out where the last run has come to. How many announcements there
// are has to be known before anything else is looked at.
func (x *compaction) begin(ctx context.Context) error {
	d, err := x.rt.store.Get(ctx, compactionColl, compactionKey)
	if err == nil {
		err = wire.Unmarshal(d.Data, &x.place)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("deed: where compactions have come to: %w", err)
	}
	x.rev, x.saved = d.Rev, string(d.Data)
	if x.runs, err = x.version(ctx, auditCompaction); err != nil {
		return err
	}
	for part := range x.rt.commandParts {
		v, err := x.version(ctx, x.rt.announcements(x.runs, part))
		if err != nil {
			return err
		}
		x.said = append(x.said, v)
	}
	if x.place.Unsaid.Run != x.runs { // it was recorded
		x.place.Unsaid = amount{Run: x.runs}
	}
	return x.lookAgain(ctx)
}

// lookAgain goes back to streams that had to stay and need not any more.
func (x *compaction) lookAgain(ctx context.Context) error {
	head, err := x.rt.store.Head(ctx)
	if err != nil {
		return storeError(err)
	}
	if !head.CoversAll(x.place.Cursor) { // the log is an older one
		x.place.Cursor, x.place.Held = store.Start, nil
	}
	for asker, at := range x.place.Held {
		over := asker == ""
		if !over {
			if over, err = x.isOver(ctx, asker); err != nil {
				return err
			}
		}
		if over {
			delete(x.place.Held, asker)
			if x.place.Cursor.CoversAll(at) {
				x.place.Cursor = at
			}
		}
	}
	return nil
}

// version is how many records a stream has.
func (x *compaction) version(ctx context.Context, stream string) (v uint64, err error) {
	for rec, err := range x.rt.store.Read(ctx, stream, store.Range{Backward: true, Limit: 1}) {
		if err != nil {
			return 0, storeError(err)
		}
		v = rec.Version
	}
	return v, nil
}

// save notes how far the run has come.
func (x *compaction) save(ctx context.Context) error {
	data, err := wire.Marshal(x.place)
	if err != nil || string(data) == x.saved {
		return err
	}
	err = x.rt.store.Write(ctx, store.Change{Coll: compactionColl, Key: compactionKey, Rev: x.rev, Data: data})
	if isConflict(err) {
		return ErrCompacting
	}
	if err != nil {
		return fmt.Errorf("deed: noting how far the compaction has come: %w", storeError(err))
	}
	x.rev, x.saved = x.rev+1, string(data)
	return nil
}

// compactedEvent is the data of the events in "$audit/compaction".
type compactedEvent struct {
	Before  time.Time         `json:"before"`
	Streams map[string]uint64 `json:"streams"`
	Records uint64            `json:"records"`
}

// record records what was given up, also by a run before this one that did not
// come so far.
func (x *compaction) record(ctx context.Context) error {
	if x.DryRun || x.place.Unsaid.nothing() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), compactTime)
	defer cancel()
	data, err := wire.Marshal(compactedEvent{x.out.Before, x.place.Unsaid.Streams, x.place.Unsaid.Records})
	if err != nil {
		return err
	}
	circumstances, err := x.meta()
	if err != nil {
		return err
	}
	_, err = x.rt.append(ctx, store.Write{
		Stream: auditCompaction, Expect: store.Any,
		Events: []store.Event{{ID: newEventID(), Type: typeCompacted, Data: data, Meta: circumstances}},
	})
	if err != nil {
		return fmt.Errorf("deed: streams were given up, but that could not be recorded in %s: %w", auditCompaction, err)
	}
	return nil
}

func (x *compaction) meta() ([]byte, error) {
	return wire.Marshal(meta{Actor: x.call.Actor, Correlation: x.call.Correlation, Source: x.call.Source})
}
