package deed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// addMachine makes a process or saga known, and adds the follower that gives
// its instances the events they take in, if there are any.
func (rt *Runtime) addMachine(d *definitions, events []reflect.Type, route func(Meta, any) []string) error {
	category := "$" + d.kind
	if _, dup := rt.machines[category+"/"+d.name]; dup {
		return fmt.Errorf("two of kind %s are named %q", d.kind, d.name)
	}
	rt.machines[category+"/"+d.name] = d
	if len(events) == 0 {
		return nil
	}
	var categories, types []string
	for _, t := range events {
		names := rt.codec.NamesOf(t)
		if len(names) == 0 {
			return fmt.Errorf("%s %s takes in %v, which no aggregate declares", d.kind, d.name, t)
		}
		for _, n := range names {
			categories, types = append(categories, n.Category), append(types, n.Type)
		}
	}
	d.follower, d.caught.turn = d.kind+"-"+d.name, make(chan struct{}, 1)
	wanted := map[reflect.Type]bool{}
	for _, t := range events {
		wanted[t] = true
	}
	return rt.addFollower(engine.Follower{
		Name: d.follower, Kind: d.kind, Pure: true, Fixed: true, Awaited: true, Elsewhere: rt.cfg.Guest,
		Filter: store.Filter{Categories: unique(categories), Types: unique(types)},
		New: func(uint64) engine.Handler {
			return &feeder{rt: rt, def: d, wanted: wanted, route: route, inputs: map[string][]input{}}
		},
	})
}

// addInstances adds what all processes and sagas have in common, if there are
// any.
func (rt *Runtime) addInstances() error {
	if len(rt.machines) == 0 {
		return nil
	}
	partitions := 1
	if store.IsShared(rt.store) {
		partitions = runnerPartitions
	}
	view, open := instances(), tasks()
	view.Partitions, open.Partitions = partitions, partitions
	if err := errors.Join(view.register(rt), open.register(rt)); err != nil {
		return err
	}
	return rt.addFollower(engine.Follower{
		Name: instanceRunnerName, Kind: "runner", Partitions: partitions, Pure: true, Fixed: true, Elsewhere: rt.cfg.Guest,
		Filter: store.Filter{Categories: []string{processCategory, sagaCategory, scheduleCategory}},
		New:    func(uint64) engine.Handler { return rt.newInstanceRunner() },
	})
}

// A feeder is the follower that gives the instances of a process or saga the
// events that concern them: those of one instance in the order of the log,
// those of different instances at the same time.
type feeder struct {
	rt     *Runtime
	def    *definitions
	wanted map[reflect.Type]bool
	route  func(Meta, any) []string

	inputs map[string][]input // by stream of the instance
}

// Keys are the instances that an event concerns, so that if one cannot take it
// in, only that one's later events wait.
func (f *feeder) Keys(rec store.Record) []string {
	m, e, err := f.decode(rec)
	if err != nil || e == nil {
		return []string{rec.Stream}
	}
	keys := f.route(m, e)
	for i, id := range keys {
		keys[i] = f.stream(id)
	}
	if len(keys) == 0 {
		return []string{rec.Stream}
	}
	return keys
}

func (f *feeder) stream(id string) string { return instanceStream("$"+f.def.kind, f.def.name, id) }

// decode returns the event, or nil if it concerns nobody.
func (f *feeder) decode(rec store.Record) (Meta, any, error) {
	t, ok := f.rt.codec.TypeOf(wire.Name{Category: store.Category(rec.Stream), Type: rec.Type})
	if !ok || !f.wanted[t] {
		return Meta{}, nil, nil
	}
	m, err := metaOf(rec)
	if err != nil {
		return m, nil, err
	}
	e, err := f.rt.decode(rec)
	return m, e, err
}

// Handle finds out whom an event concerns.
func (f *feeder) Handle(_ context.Context, _ *engine.Tx, rec store.Record) error {
	m, e, err := f.decode(rec)
	if err != nil {
		return engine.Permanent(err)
	}
	if e == nil {
		return nil
	}
	for _, id := range f.route(m, e) {
		if err := checkID(id); err != nil {
			return engine.Permanent(fmt.Errorf("deed: %s %s: the event gives it the id %q: %w", f.def.kind, f.def.name, id, err))
		}
		in := input{Kind: inputEvent, From: rec.Stream, Version: rec.Version, Type: rec.Type, event: e, meta: m, state: f.def.zero}
		f.inputs[f.stream(id)] = append(f.inputs[f.stream(id)], in)
	}
	return nil
}

// Flush gives the instances their inputs. What was recorded before it fails is
// recorded: an instance takes an event in only once.
func (f *feeder) Flush(ctx context.Context, _ *engine.Tx) error {
	defer clear(f.inputs)
	var all errgroup.Group
	all.SetLimit(inHand)
	for stream, inputs := range f.inputs {
		all.Go(func() error {
			for _, in := range inputs {
				if err := f.give(ctx, stream, in); err != nil {
					return fmt.Errorf("%s: %w", strings.TrimPrefix(stream, "$"), err)
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// give gives an instance one input. That others are faster all the time is no
// fault of the event's.
func (f *feeder) give(ctx context.Context, stream string, in input) error {
	_, err := f.rt.advance(ctx, stream, in)
	switch {
	case errors.Is(err, errNoInstance):
		return nil
	case isConflict(err):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// Reset forgets what was not given.
func (f *feeder) Reset() { clear(f.inputs) }

// instanceMoved tells those who wait for an instance, and those who look after
// it.
func (rt *Runtime) instanceMoved(stream string, i *Instance) {
	if i.rests() {
		rt.waiters.tell(stream)
	}
	rt.runners.offer(stream, i.Wake, i.version)
}
