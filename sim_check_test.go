package deed

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// checkTurns compares what the turns of a plan came to with the fold of what was
// recorded: they must be the same, but for times.
func (rt *Runtime) checkTurns(w *simWorld, writes []store.Write, written []store.Written) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, wr := range writes {
		if store.Category(wr.Stream) == purses.Name {
			rt.checkPurse(w, wr.Stream, written[n].Version)
		}
		if c := store.Category(wr.Stream); c != processCategory && c != sagaCategory {
			continue
		}
		f := w.folds[wr.Stream]
		if f == nil {
			f = &folded[Instance]{}
			w.folds[wr.Stream] = f
		}
		cell, ok := rt.instances.byID.Peek(wr.Stream)
		if !ok || f.version >= written[n].Version { // another node has appended meanwhile, and was looked at first
			continue
		}
		last := store.Range{From: f.version + 1, Limit: int(written[n].Version - f.version)}
		for rec, err := range w.store.Read(context.Background(), wr.Stream, last) {
			if err == nil {
				err = rt.foldOne(&f.state, rec)
			}
			if err != nil {
				w.wrong = append(w.wrong, fmt.Sprintf("%s: %v", wr.Stream, err))
				return
			}
		}
		f.version = written[n].Version
		if got, want := essence(cell.state), essence(f.state); !reflect.DeepEqual(got, want) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s@%d: the turn came to\n%+v, its records to\n%+v", wr.Stream, f.version, got, want))
		}
	}
}

// checkPurse compares what the one who has appended to a purse thinks that is in
// it with what is.
func (rt *Runtime) checkPurse(w *simWorld, stream string, version uint64) {
	k, err := purses.kind(rt)
	if err != nil {
		w.wrong = append(w.wrong, err.Error())
		return
	}
	cell, ok := k.cells.byID.Peek(strings.TrimPrefix(stream, "purse/"))
	if !ok || cell.version != version {
		return
	}
	var is purse
	for rec, err := range w.store.Read(context.Background(), stream, store.Range{Limit: int(version)}) {
		var e any
		if err == nil {
			e, err = rt.decode(rec)
		}
		if err != nil {
			w.wrong = append(w.wrong, fmt.Sprintf("%s: %v", stream, err))
			return
		}
		e.(Event[purse]).Apply(&is)
	}
	if has := *cell.state.(*purse); is != has {
		w.wrong = append(w.wrong, fmt.Sprintf("%s@%d has %v in it, and a node thinks it has %v", stream, version, is, has))
	}
}

func (rt *Runtime) foldOne(i *Instance, rec store.Record) error {
	m, err := metaOf(rec)
	if err != nil {
		return err
	}
	e, err := rt.decode(rec)
	if err != nil {
		return err
	}
	i.take(m, e.(moved))
	return nil
}

// essence is all of an instance but times.
func essence(i Instance) Instance {
	seen := i.seen
	i = i.clone()
	i.seen = maps.Clone(seen)
	i.Started, i.Changed, i.Finished, i.Wake = time.Time{}, time.Time{}, time.Time{}, i.Wake.Round(0).UTC()
	for n := range i.Steps {
		st := &i.Steps[n]
		st.Started, st.Finished, st.Next = time.Time{}, time.Time{}, st.Next.Round(0).UTC()
	}
	for name, at := range i.Timers {
		i.Timers[name] = at.Round(0).UTC()
	}
	// Nothing is as good as empty.
	i.Timers, i.Tasks, i.seen = orNil(i.Timers), orNil(i.Tasks), orNil(i.seen)
	i.Steps, i.Entities, i.Undo = append([]InstanceStep(nil), i.Steps...), append([]string(nil), i.Entities...), append([]UndoCommand(nil), i.Undo...)
	return i
}

func orNil[V any](m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	return m
}

// A simLog is the log of a simulation, taken apart.
type simLog struct {
	*testing.T
	wrong     func(format string, args ...any)
	commands  map[string]string         // id -> stream and versions of its events
	sent      map[string]string         // id -> stream of the instance that says it sent it
	coins     map[string]int            // purse -> what is in it
	net       map[string]map[string]int // instance -> purse -> what it has moved
	marks     map[string]mark           // by name
	holders   map[int]string            // number -> mark that has it
	instances map[string]*simStory      // by stream
	tasks     map[string][]string       // by stream: types of events
	orders    map[string][]store.Record // what processes react to, by stream
	poured    int                       // coins that came from nowhere
}

// simThings are what was done outside: instance -> what -> whether it is done.
type simThings map[string]map[string]bool

// note notes one, by its name: the instance, a slash, and what it is.
func (t simThings) note(name string, done bool) {
	i := strings.LastIndexByte(name, '/')
	if t[name[:i]] == nil {
		t[name[:i]] = map[string]bool{}
	}
	t[name[:i]][name[i+1:]] = done
}

// A simStory is what the records of an instance tell.
type simStory struct {
	stream string
	inst   Instance
	ends   []InstanceState
	timers map[string]time.Time
	undone []string // steps, in the order in which they were undone
	done   []string
}

// readSimLog takes a log apart, and checks what can be checked on the way.
func readSimLog(t *testing.T, rt *Runtime, wrong func(string, ...any)) *simLog {
	l := &simLog{
		T: t, wrong: wrong, commands: map[string]string{}, sent: map[string]string{}, coins: map[string]int{}, net: map[string]map[string]int{},
		marks: map[string]mark{}, holders: map[int]string{}, instances: map[string]*simStory{}, tasks: map[string][]string{}, orders: map[string][]store.Record{},
	}
	for rec, err := range rt.store.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		l.take(rt, rec)
	}
	return l
}

func (l *simLog) take(rt *Runtime, rec store.Record) {
	m, err := metaOf(rec)
	if err != nil {
		l.Fatal(err)
	}
	switch store.Category(rec.Stream) {
	case "purse", "mark":
		l.fact(rt, rec, m)
	case "order":
		l.orders[rec.Stream] = append(l.orders[rec.Stream], rec)
	case processCategory, sagaCategory:
		l.story(rt, rec, m)
	case taskCategory:
		l.tasks[rec.Stream] = append(l.tasks[rec.Stream], rec.Type)
	}
}

// fact takes in an event of an entity.
func (l *simLog) fact(rt *Runtime, rec store.Record, m Meta) {
	// The events of one command follow each other: here there is one.
	if prior, twice := l.commands[m.Command]; twice {
		l.wrong("the command %s was accepted twice: as %s and as %s@%d", m.Command, prior, rec.Stream, rec.Version)
	}
	l.commands[m.Command] = fmt.Sprintf("%s@%d", rec.Stream, rec.Version)
	e, err := rt.decode(rec)
	if err != nil {
		l.Fatal(err)
	}
	n := 0
	switch e := e.(type) {
	case came:
		n = e.N
	case went:
		n = -e.N
	case made, removed:
		l.mark(rec, m.ID, e.(Event[mark]))
		return
	}
	l.coins[m.ID] += n
	if l.coins[m.ID] < 0 || l.coins[m.ID] > purseHolds {
		l.wrong("there are %d coins in %s@%d", l.coins[m.ID], rec.Stream, rec.Version)
	}
	if !strings.HasPrefix(m.Causation, "$") {
		l.poured += n
		return
	}
	if l.net[m.Causation] == nil {
		l.net[m.Causation] = map[string]int{}
	}
	l.net[m.Causation][m.ID] += n
}

// mark takes in that a mark was made or removed. No two of them are the same at a
// time.
func (l *simLog) mark(rec store.Record, id string, e Event[mark]) {
	s := l.marks[id]
	e.Apply(&s)
	l.marks[id] = s
	switch e := e.(type) {
	case made:
		if other, held := l.holders[e.N]; held {
			l.wrong("%s@%d is the mark %d, which %s has", rec.Stream, rec.Version, e.N, other)
		}
		l.holders[e.N] = id
	case removed:
		if l.holders[e.N] == id {
			delete(l.holders, e.N)
		}
	}
}

// story takes in a record of an instance.
func (l *simLog) story(rt *Runtime, rec store.Record, m Meta) {
	s := l.instances[rec.Stream]
	if s == nil {
		s = &simStory{stream: rec.Stream, timers: map[string]time.Time{}}
		l.instances[rec.Stream] = s
	}
	decoded, err := rt.decode(rec)
	if err != nil {
		l.Fatal(err)
	}
	e := decoded.(moved)
	over := s.inst.State.Over()
	if over && !e.Ignored && e.Input.Kind != inputRequest && e.Input.Kind != inputGoOn {
		l.wrong("%s@%d: %s after it was %s: %s", rec.Stream, rec.Version, rec.Type, s.inst.State, rec.Data)
	}
	if e.Input.Kind == inputTimer {
		l.timer(s, rec, e)
	}
	for _, t := range e.Timers {
		if delete(s.timers, t.Name); !t.At.IsZero() {
			s.timers[t.Name] = t.At
		}
	}
	for _, c := range e.Sent {
		if prior, twice := l.sent[c.ID]; twice {
			l.wrong("%s@%d sends the command %s, and %s does", rec.Stream, rec.Version, c.ID, prior)
		}
		l.sent[c.ID] = rec.Stream
		for _, ref := range c.Events {
			if got := l.commands[c.ID]; got != fmt.Sprintf("%s@%d", c.Stream, ref.Version) {
				l.wrong("%s@%d says that %s led to %s@%d, but it led to %q", rec.Stream, rec.Version, c.ID, c.Stream, ref.Version, got)
			}
		}
	}
	for _, st := range e.Steps {
		switch st.State {
		case StepDone:
			s.done = append(s.done, st.Name)
		case StepUndone:
			s.undone = append(s.undone, st.Name)
		}
	}
	s.inst.take(m, e)
	if e.Status.Over() {
		s.ends = append(s.ends, e.Status)
	}
}

// timer checks that a timer that goes off was set, for a time that has come.
func (l *simLog) timer(s *simStory, rec store.Record, e moved) {
	at, set := s.timers[e.Input.Name]
	switch {
	case !set:
		l.wrong("%s@%d: the timer %s goes off and is not set", rec.Stream, rec.Version, e.Input.Name)
	case rec.Time.Before(at):
		l.wrong("%s@%d: the timer %s goes off %v early", rec.Stream, rec.Version, e.Input.Name, at.Sub(rec.Time))
	}
	delete(s.timers, e.Input.Name)
	if s.inst.Kind != "process" {
		return
	}
	for _, before := range l.orders["order/"+s.inst.ID] {
		if before.Time.Before(at) && s.inst.seen[before.Stream] < before.Version {
			l.wrong("%s@%d: the timer %s, of %v, goes off before %s of %v was taken in", rec.Stream, rec.Version, e.Input.Name, at, before.Type, before.Time)
		}
	}
}

// check compares what became of the instances with what became of everything
// else.
func (l *simLog) check(things simThings) {
	for id, stream := range l.sent {
		if l.commands[id] == "" && !l.leftNothing(stream) {
			l.wrong("%s says that it sent %s, which nobody got", stream, id)
		}
	}
	sum := 0
	for _, n := range l.coins {
		sum += n
	}
	if sum != l.poured {
		l.wrong("there are %d coins, and %d were poured in", sum, l.poured)
	}
	for _, stream := range slices.Sorted(maps.Keys(l.instances)) {
		l.checkOne(l.instances[stream], things)
	}
	for stream, events := range l.tasks {
		closed := 0
		for _, typ := range events {
			if typ == "decided" || typ == "closed" {
				closed++
			}
		}
		if closed != 1 || events[0] != "opened" || events[len(events)-1] != "decided" && events[len(events)-1] != "closed" {
			l.wrong("%s has the events %v", stream, events)
		}
	}
}

// leftNothing reports whether an instance may have sent commands without events:
// marks that are made or removed already.
func (l *simLog) leftNothing(stream string) bool { return strings.HasPrefix(stream, "$saga/haul/") }

func (l *simLog) checkOne(s *simStory, things simThings) {
	i := s.inst
	last := InstanceState("")
	for _, end := range s.ends {
		if last != "" && !(last == InstanceCompleted && end == InstanceUndone) { // somebody has asked for that
			l.wrong("%s ends as %v", s.stream, s.ends)
		}
		last = end
	}
	if !i.State.Over() {
		l.wrong("%s is %s at the end (%s, wake %v, steps %+v)", s.stream, i.State, i.Reason, i.Wake, i.Steps)
		return
	}
	completed := i.State == InstanceCompleted
	var w want
	if err := wire.Unmarshal(i.Data, &w); err != nil {
		l.wrong("%s: %v", s.stream, err)
	}
	for purse, n := range l.expected(i, w) {
		if got := l.net[s.stream][purse]; got != n {
			l.wrong("%s is %s and has moved %d coins to %s, not %d: %v", s.stream, i.State, got, purse, n, l.net[s.stream])
		}
		delete(l.net[s.stream], purse)
	}
	for purse, n := range l.net[s.stream] {
		if n != 0 {
			l.wrong("%s is %s and has moved %d coins to %s", s.stream, i.State, n, purse)
		}
	}
	if i.Kind == "process" {
		return
	}
	for what, done := range things[s.stream] {
		if done != completed {
			l.wrong("%s is %s, and its %s is done: %v", s.stream, i.State, what, done)
		}
	}
	for _, name := range []string{"haul-" + i.ID, "take-" + i.ID} {
		if i.Name == "haul" && l.marks[name].Made != completed {
			l.wrong("%s is %s, and the mark %s is made: %v", s.stream, i.State, name, l.marks[name].Made)
		}
	}
	l.inReverse(s)
}

// expected is what an instance is to have moved.
func (l *simLog) expected(i Instance, w want) map[string]int {
	switch {
	case i.State != InstanceCompleted:
		return nil
	case i.Name == "errand":
		return map[string]int{w.From: -1, w.To: 1}
	case i.Kind == "process" && l.net[i.stream()]["rest-"+w.To] != 0:
		return map[string]int{w.From: -w.N, "rest-" + w.To: w.N}
	}
	return map[string]int{w.From: -w.N, w.To: w.N}
}

// inReverse checks that steps were undone in the reverse order of the definition,
// as far as they had been done.
func (l *simLog) inReverse(s *simStory) {
	if s.inst.State != InstanceUndone {
		return
	}
	place := map[string]int{}
	for n, name := range []string{"call", "toll", "take", "mark", "seal", "stamp", "child", "ask", "wait", "pay"} {
		place[name] = n
	}
	for n := 1; n < len(s.undone); n++ {
		if place[s.undone[n]] >= place[s.undone[n-1]] {
			l.wrong("%s is undone in the order %v", s.stream, s.undone)
		}
	}
	for _, name := range s.done {
		if !slices.Contains(s.undone, name) {
			l.wrong("%s is undone, but its step %s is not: %v", s.stream, name, s.undone)
		}
	}
}
