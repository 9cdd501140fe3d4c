package deed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Compaction says which records of commands are to be given up.
type Compaction struct {
	// OlderThan is for how long they are kept. It cannot be shorter than any
	// Rules.Window or Quota.Per.
	OlderThan time.Duration
	DryRun    bool            // nothing is given up: it is only counted what would be
	Progress  func(Compacted) // told now and then how far it is; nil = nobody wants to know
}

// A Compacted is what a compaction has given up, or would have.
type Compacted struct {
	Before   time.Time         `json:"before"`              // streams whose last record is older
	Streams  map[string]uint64 `json:"streams"`             // so many were given up, by category
	Records  uint64            `json:"records"`             // in these streams
	Kept     uint64            `json:"kept"`                // commands as old that stay, because who asked them is not over
	Position store.Cursor      `json:"position"`            // how far the log has been looked through
	Done     bool              `json:"done"`                // else it was stopped before the end
	WaitsFor string            `json:"waits_for,omitempty"` // who has still to handle what is old enough: a follower, or a dead letter
}

// ErrCompacting reports that a compaction is going on already.
var ErrCompacting = errors.New("deed: a compaction is going on already")

// Compact gives up the records of commands that nobody needs any more: the
// streams of the categories "$command", "$message", "$quota", "$repeat" and "$poison" that
// have no record younger than OlderThan, that are over, and that neither the
// command that asked them nor any follower or dead letter may still ask for.
// After that the id of such a command is as good as new: who asks it again has
// it done again. What was given up is recorded in the stream
// "$audit/compaction", with the actor of the context's [Call].
//
// It takes at most half of the store's time. If ctx ends it stops, in order,
// and returns what it has done so far; the next one goes on from there. It
// returns [errors.ErrUnsupported] if the store gives up no streams, and
// [ErrCompacting] if another compaction is going on.
func (rt *Runtime) Compact(ctx context.Context, c Compaction) (Compacted, error) {
	if err := rt.checkKept("older_than", c.OlderThan); err != nil {
		return Compacted{}, err
	}
	if _, err := store.Compact(ctx, rt.store); err != nil {
		return Compacted{}, fmt.Errorf("deed: %w", err)
	}
	if !c.DryRun {
		if !rt.compacting.TryLock() {
			return Compacted{}, ErrCompacting
		}
		defer rt.compacting.Unlock()
	}
	x := &compaction{Compaction: c, rt: rt, call: callOf(ctx), over: map[string]bool{}}
	x.out = Compacted{Before: rt.cfg.Now().Add(-c.OlderThan).UTC(), Streams: map[string]uint64{}}
	err := x.run(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = nil // it was asked to stop, and did so while it looked
	}
	return x.out, err
}

// Bounds of what is given up together.
const (
	compactStreams = 500
	compactTime    = 30 * time.Second // for a batch, which is not abandoned
)

// A compaction is a Compaction at work.
//
// A batch is announced before it is removed: views drop their documents when
// they see that, and folding them anew comes to the same at any time. What an
// announcement names is removed by the next run, should this one be cut short:
// it begins where the last batch was noted.
//
// Two runs do not disturb each other. An announcement states how many there
// were before, so the one of a run that was overtaken is refused; and a stream
// that was removed, and written anew by somebody, has its last record elsewhere.
type compaction struct {
	Compaction
	rt    *Runtime
	call  Call
	out   Compacted
	place compactionPlace
	rev   uint64          // of its document
	saved string          // what that says
	own   amount          // what this run has given up
	runs  uint64          // so many have been recorded
	said  []uint64        // versions of the streams with this run's announcements, by partition
	over  map[string]bool // those who ask commands: whether they are
	ended bool
}

// run looks through the log, from where the last run has come to.
func (x *compaction) run(ctx context.Context) error {
	if err := x.begin(ctx); err != nil {
		return err
	}
	for !x.ended && ctx.Err() == nil {
		batch, err := x.collect(ctx)
		if err != nil {
			return err
		}
		busy, err := x.giveUp(ctx, batch)
		if errors.Is(err, ErrCompacting) { // that one notes how far they are; this one says what it has done
			x.place.Unsaid = x.own
			return errors.Join(err, x.record(ctx))
		}
		if err != nil {
			return err
		}
		if x.out.Position = x.place.Cursor; x.Progress != nil {
			x.Progress(x.out)
		}
		if !x.ended {
			pauseFor(ctx, busy)
		}
	}
	x.out.Done = x.ended
	return x.record(ctx)
}

// giveUp removes a batch and notes how far the run has come. It returns how long
// the store was busy with it.
func (x *compaction) giveUp(ctx context.Context, batch batchOfStreams) (time.Duration, error) {
	if x.DryRun {
		return 0, x.count(ctx, batch)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), compactTime)
	defer cancel()
	begin := time.Now()
	if err := x.announce(ctx, batch); err != nil {
		return 0, err
	}
	if err := x.remove(ctx, batch); err != nil {
		return 0, err
	}
	return time.Since(begin), x.save(ctx)
}

// remove removes the streams of a batch, and counts them.
func (x *compaction) remove(ctx context.Context, batch batchOfStreams) error {
	if len(batch.streams) == 0 {
		return nil
	}
	var removed []uint64
	for try := 0; ; try++ {
		var err error
		removed, err = store.Compact(ctx, x.rt.store, batch.wholes()...)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrUnknown) || try == 3 {
			return fmt.Errorf("deed: giving up streams: %w", storeError(err))
		}
		pauseFor(ctx, 50*time.Millisecond<<try)
	}
	for i, n := range removed {
		if n > 0 {
			x.gone(batch.streams[i], n)
		}
	}
	return nil
}

// gone counts a stream that was given up.
func (x *compaction) gone(s agedStream, records uint64) {
	x.out.Streams[store.Category(s.Stream)]++
	x.out.Records += records
	x.own.add(store.Category(s.Stream), records)
	x.place.Unsaid.add(store.Category(s.Stream), records)
}

// count counts a batch that is not going to be given up.
func (x *compaction) count(ctx context.Context, batch batchOfStreams) error {
	for _, s := range batch.streams {
		for rec, err := range x.rt.store.Read(ctx, s.Stream, store.Range{Backward: true, Limit: 1}) {
			if err != nil {
				return storeError(err)
			}
			if rec.Position == s.Last {
				x.gone(s, rec.Version)
			}
		}
	}
	return nil
}

// keepCompacting gives up what is older than the runtime keeps it, now and then,
// until ctx ends.
func (rt *Runtime) keepCompacting(ctx context.Context) {
	ctx = With(ctx, Call{Source: "runtime"})
	for wait := compactSoon; ; wait = compactEvery {
		pauseFor(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		out, err := rt.Compact(ctx, Compaction{OlderThan: rt.cfg.KeepCommands})
		attrs := []any{slog.Any("streams", out.Streams), slog.Uint64("records", out.Records), slog.Time("before", out.Before)}
		switch {
		case errors.Is(err, ErrCompacting):
			rt.cfg.Logger.Info("compaction left to another", slog.Any("streams", out.Streams))
		case err != nil:
			rt.cfg.Logger.Error("compaction failed: it goes on in an hour", append(attrs, slog.Any("error", err))...)
		case out.WaitsFor != "":
			rt.cfg.Logger.Warn("compaction stopped early: somebody has still to handle what comes next", append(attrs, slog.String("waits_for", out.WaitsFor))...)
		case len(out.Streams) > 0:
			rt.cfg.Logger.Info("compacted", attrs...)
		}
	}
}

// When a runtime gives up what it need not keep: soon after it is the one to do
// it, then every hour.
const (
	compactSoon  = time.Minute
	compactEvery = time.Hour
)
