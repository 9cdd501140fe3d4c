package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// worked is what came of a step that does something outside.
type worked struct {
	undo    bool
	before  json.RawMessage // the state it was given
	after   json.RawMessage // the state it left, if it was done
	touched []string
	err     error
	reason  Reason // if no
	no      bool   // the domain refused it
	nothing bool   // and nothing was done
	dropped bool   // it was not done, and is not going to be
}

// errOutside reports that an instance has something to do outside.
var errOutside = errors.New("deed: there is something to do outside")

// goOn does what an instance has to do by itself, by a version of its stream or
// a later one, and returns when to come back and the last version it saw; zero:
// when something comes in. Unless it may do something outside, that is left, with
// errOutside.
//
// That others may have recorded something since does no harm: what is done
// without need is refused a place in the stream, and counts as done while that
// happened.
func (rt *Runtime) goOn(ctx context.Context, stream string, version uint64, outside bool) (next time.Time, seen uint64, err error) {
	for range 1000 { // bounded, so that others have their turn
		inst, err := rt.instanceAt(ctx, stream, version)
		if err != nil {
			return time.Time{}, seen, err
		}
		seen = inst.version
		now := rt.cfg.Now()
		if inst.State.Over() || inst.Wake.IsZero() {
			return time.Time{}, seen, nil
		}
		if inst.Wake.After(now) {
			return inst.Wake, seen, nil
		}
		if err := rt.doNext(ctx, stream, inst, now, outside); err != nil && !rt.stuck(ctx, stream, inst.Wake, err) {
			return time.Time{}, seen, err
		}
		version = seen + 1
	}
	return rt.cfg.Now(), seen, nil
}

// doNext does one thing that is due.
func (rt *Runtime) doNext(ctx context.Context, stream string, inst Instance, now time.Time, outside bool) error {
	d := rt.machines["$"+inst.Kind+"/"+inst.Name]
	if d == nil {
		return fmt.Errorf("%w: this program has no %s %q", ErrUnknown, inst.Kind, inst.Name)
	}
	if due := inst.due(now); len(due) > 0 {
		if err := rt.caughtUp(ctx, d, stream, inst.Timers[due[0]]); err != nil {
			return err
		}
		_, err := rt.advance(ctx, stream, input{Kind: inputTimer, Name: due[0], due: inst.Timers[due[0]]})
		if errors.Is(err, errMoved) {
			return nil
		}
		return err
	}
	def, ok := d.byVersion[inst.Definition]
	if !ok {
		return (&turn{stream: stream, defs: d}).outOfDate(inst.Definition)
	}
	if w, ok := def.(worker); ok {
		if !outside && w.worksOutside(inst, now) {
			return errOutside
		}
		if did, err := w.work(ctx, rt, stream, inst, now); did || err != nil {
			return err
		}
	}
	_, err := rt.advance(ctx, stream, input{Kind: inputGoOn})
	return err
}

// A worker is a machine that has steps which do something outside.
type worker interface {
	// worksOutside reports whether such a step is due.
	worksOutside(inst Instance, now time.Time) bool
	// work does those that are due, and records what came of each.
	work(ctx context.Context, rt *Runtime, stream string, inst Instance, now time.Time) (did bool, err error)
}

// readInstance returns an instance as its stream tells it, or [ErrNotFound].
func (rt *Runtime) readInstance(ctx context.Context, stream string) (Instance, error) {
	return rt.instanceAt(ctx, stream, latest)
}

// instanceAt returns an instance as it was at a version of its stream or later:
// as this process knows it, if it knows that much.
func (rt *Runtime) instanceAt(ctx context.Context, stream string, version uint64) (Instance, error) {
	x, err := rt.instance(stream)
	if err != nil {
		return Instance{}, err
	}
	if err := x.lock(ctx); err != nil {
		return Instance{}, err
	}
	defer x.cell.unlock()
	if !x.cell.loaded || x.cell.version < version {
		if err := rt.foldInstance(ctx, stream, &x.cell.folded); err != nil {
			x.cell.forget()
			return Instance{}, err
		}
	}
	if x.cell.loaded = true; x.cell.version == 0 {
		return Instance{}, errNoInstance
	}
	return x.cell.state.clone(), nil
}

// knowsMore reports whether this process has seen a later version of an instance.
func (rt *Runtime) knowsMore(stream string, version uint64) bool {
	c, ok := rt.instances.byID.Peek(stream)
	if !ok || !c.tryLock() {
		return false
	}
	defer c.unlock()
	return c.loaded && c.version > version
}

// stuck records that an instance cannot go on because of an error that would come
// again, so that whoever looks for what is stuck finds it. It reports false if it
// is to be tried again instead: later, or, of a schedule, by another program.
func (rt *Runtime) stuck(ctx context.Context, stream string, wake time.Time, why error) bool {
	if !engine.IsPermanent(why) || store.Category(stream) == scheduleCategory {
		return false
	}
	_, err := rt.advance(ctx, stream, input{Kind: inputStuck, Reason: clip(why.Error()), due: wake})
	if err == nil {
		rt.cfg.Logger.Error(strings.TrimPrefix(store.Category(stream), "$")+" is stuck", slog.String("stream", stream), slog.Any("error", why))
	}
	return err == nil || errors.Is(err, errMoved)
}
