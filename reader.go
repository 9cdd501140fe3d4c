package deed

import (
	"context"
	"iter"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Reader sees the log, now or as it was: a [Runtime], or what its AsOf,
// AtPosition, AtVersion and EffectiveAt return. Whatever takes a Reader can read the past.
// A reaction to an event has its [Tx].
type Reader interface {
	runtime() *Runtime
	limit() limit
	reads() *reads // notes what is read; nil = nobody wants to know
}

// A limit is where a reader stops seeing. The zero limit sees everything.
type limit struct {
	time     time.Time // only what was recorded up to here
	position store.Cursor
	version  uint64 // only so many events of each stream

	effective time.Time // only what takes effect up to here, whenever it was recorded
}

func (l limit) none() bool { return l == limit{} }

// sees reports whether a record is within the limit. Times, positions and
// versions grow along a stream, so after the first record that is not seen
// no other of the stream is.
func (l limit) sees(rec store.Record) bool {
	return (l.version == 0 || rec.Version <= l.version) &&
		(l.time.IsZero() || !rec.Time.After(l.time)) &&
		(l.position == "" || l.position.Covers(rec.Position))
}

// skips reports whether a reader passes over a record that is within the limit,
// for what takes effect later.
func (l limit) skips(rec store.Record) (bool, error) {
	if l.effective.IsZero() {
		return false, nil
	}
	m, err := metaOf(rec)
	if err != nil {
		return false, err
	}
	return m.Effective.After(l.effective), nil
}

type bounded struct {
	rt    *Runtime
	to    limit
	noted *reads
}

func (b bounded) runtime() *Runtime { return b.rt }
func (b bounded) limit() limit      { return b.to }
func (b bounded) reads() *reads     { return b.noted }

func (rt *Runtime) runtime() *Runtime { return rt }
func (rt *Runtime) limit() limit      { return limit{} }
func (rt *Runtime) reads() *reads     { return nil }

// AsOf returns a Reader that sees only what was recorded up to t.
func (rt *Runtime) AsOf(t time.Time) Reader { return AsOf(rt, t) }

// AsOf returns a Reader that sees of what r sees only what was recorded up to t.
func AsOf(r Reader, t time.Time) Reader {
	to := r.limit()
	if to.time.IsZero() || t.Before(to.time) {
		to.time = t
	}
	return bounded{r.runtime(), to, r.reads()}
}

// AtPosition returns a Reader that sees only what is at or before a cursor of
// the log, such as the position of a [Receipt].
func (rt *Runtime) AtPosition(c store.Cursor) Reader { return bounded{rt: rt, to: limit{position: c}} }

// AtVersion returns a Reader that sees only the first version events of each
// stream.
func (rt *Runtime) AtVersion(version uint64) Reader {
	return bounded{rt: rt, to: limit{version: version}}
}

// EffectiveAt returns a Reader that sees only what takes effect up to t, in the
// order in which it was recorded: what was true at t as far as is known now,
// where [Runtime.AsOf] tells what was known at t. An event takes effect when
// it says so, see [Event], or else when it is recorded.
func (rt *Runtime) EffectiveAt(t time.Time) Reader { return bounded{rt: rt, to: limit{effective: t}} }

// readStream yields the records of a stream that r sees, after a version.
func readStream(ctx context.Context, r Reader, stream string, after uint64) iter.Seq2[store.Record, error] {
	to := r.limit()
	return func(yield func(store.Record, error) bool) {
		r.reads().stream(stream)
		for rec, err := range r.runtime().store.Read(ctx, stream, store.Range{From: after + 1}) {
			if err == nil && !to.sees(rec) {
				return
			}
			if skip, bad := skipped(to, rec, err); skip {
				continue
			} else if !yield(rec, bad) || bad != nil {
				return
			}
		}
	}
}

// readLog yields the records of the log that r sees and f selects.
func readLog(ctx context.Context, r Reader, f store.Filter) iter.Seq2[store.Record, error] {
	to := r.limit()
	return func(yield func(store.Record, error) bool) {
		r.reads().log(f)
		for rec, err := range r.runtime().store.ReadAll(ctx, store.Start, f) {
			if err == nil && !to.time.IsZero() && rec.Time.After(to.time) {
				return
			}
			if err == nil && !to.sees(rec) {
				continue
			}
			if skip, bad := skipped(to, rec, err); skip {
				continue
			} else if !yield(rec, bad) || bad != nil {
				return
			}
		}
	}
}

// skipped is limit.skips of a record that may not have been read.
func skipped(to limit, rec store.Record, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	return to.skips(rec)
}
