package history

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/deed-dev/deed/store"
)

// pause lets others go on for a moment.
func pause(rnd *rand.Rand) { time.Sleep(time.Duration(rnd.IntN(500)) * time.Microsecond) }

// verify checks everything clients were told against the log as it is in the
// end.
func (r *run) verify(log []store.Record) error {
	at := map[store.ID]store.Record{}
	return errors.Join(
		r.answered(),
		contiguous(log),
		unique(log, at),
		r.acknowledged(at),
		r.followed(log),
		claims(log),
		r.linearizable(at),
	)
}

// answered checks that a system says only what a store may say, and that it
// did something at all.
func (r *run) answered() error {
	done := false
	for _, o := range r.ops {
		_, conflict := errors.AsType[*store.ConflictError](o.err)
		switch {
		case o.err == nil:
			done = done || o.writes != nil
		case conflict && o.writes != nil, errors.Is(o.err, store.ErrUnknown), errors.Is(o.err, store.ErrUnavailable):
		default:
			return fmt.Errorf("client %d got an error that is none of a store: %w", o.client, o.err)
		}
	}
	if !done {
		return errors.New("no append was acknowledged: this history proves nothing")
	}
	return nil
}

// contiguous checks that versions come as 1, 2, 3 and positions grow.
func contiguous(log []store.Record) error {
	next := map[string]uint64{}
	last := store.Position{}
	for _, rec := range log {
		next[rec.Stream]++
		if rec.Version != next[rec.Stream] {
			return fmt.Errorf("the log has %s@%d where version %d should be", rec.Stream, rec.Version, next[rec.Stream])
		}
		if rec.Position.Shard == last.Shard && rec.Position.Seq <= last.Seq {
			return fmt.Errorf("position %v comes after %v", rec.Position, last)
		}
		last = rec.Position
	}
	return nil
}

func unique(log []store.Record, at map[store.ID]store.Record) error {
	for _, rec := range log {
		if other, twice := at[rec.ID]; twice {
			return fmt.Errorf("event %v is there twice: %s@%d and %s@%d", rec.ID, other.Stream, other.Version, rec.Stream, rec.Version)
		}
		at[rec.ID] = rec
	}
	return nil
}

// acknowledged checks that each append is there as it was answered: wholly if
// it was acknowledged, not at all if it was refused, one or the other if
// nobody knows.
func (r *run) acknowledged(at map[store.ID]store.Record) error {
	happened := map[store.ID]bool{} // first ids of appends that may have happened, or did when asked for again
	for _, o := range r.ops {
		if o.writes != nil && (o.err == nil || errors.Is(o.err, store.ErrUnknown)) {
			happened[o.writes[0].Events[0].ID] = true
		}
	}
	for _, o := range r.ops {
		if o.writes == nil {
			continue
		}
		there, events := 0, 0
		for i, w := range o.writes {
			for j, e := range w.Events {
				events++
				rec, ok := at[e.ID]
				if !ok {
					continue
				}
				there++
				if rec.Stream != w.Stream {
					return fmt.Errorf("event %v was appended to %s and is in %s", e.ID, w.Stream, rec.Stream)
				}
				if want := version(o, i, j); o.err == nil && rec.Version != want {
					return fmt.Errorf("event %v was acknowledged as %s@%d and is version %d", e.ID, w.Stream, want, rec.Version)
				}
			}
		}
		switch {
		case o.err == nil && there != events:
			return fmt.Errorf("client %d: an acknowledged append to %s has %d of %d events in the log", o.client, names(o.writes), there, events)
		case there != 0 && there != events:
			return fmt.Errorf("client %d: an append to %s is there by half: %d of %d events (%v)", o.client, names(o.writes), there, events, o.err)
		case there > 0 && !happened[o.writes[0].Events[0].ID]:
			return fmt.Errorf("client %d: an append to %s that failed (%v) is in the log", o.client, names(o.writes), o.err)
		}
	}
	return nil
}

// version is what an acknowledged append says about one of its events.
func version(o op, write, event int) uint64 {
	if o.err != nil {
		return 0
	}
	return o.written[write].Version - uint64(len(o.writes[write].Events)) + uint64(event) + 1
}

func names(ws []store.Write) string {
	var out []string
	for _, w := range ws {
		out = append(out, w.Stream)
	}
	return strings.Join(out, " and ")
}

// followed checks that each follower saw exactly the log.
func (r *run) followed(log []store.Record) error {
	for i, tail := range r.tails {
		for j := range max(len(tail), len(log)) {
			if j >= len(tail) || j >= len(log) || tail[j].ID != log[j].ID {
				return fmt.Errorf("follower %d saw %d events, the log has %d; they part at %d", i, len(tail), len(log), j)
			}
		}
	}
	return nil
}

// claims checks that nobody took what another held.
func claims(log []store.Record) error {
	holder := map[string]string{}
	for _, rec := range log {
		switch rec.Type {
		case typeTaken:
			if h := holder[rec.Stream]; h != "" {
				return fmt.Errorf("%s@%d: %s took what %s held", rec.Stream, rec.Version, rec.Data, h)
			}
			holder[rec.Stream] = string(rec.Data)
		case typeReleased:
			if h := holder[rec.Stream]; h != string(rec.Data) {
				return fmt.Errorf("%s@%d: %s released what %q held", rec.Stream, rec.Version, rec.Data, h)
			}
			delete(holder, rec.Stream)
		}
	}
	return nil
}

// A step is what an operation means for one stream.
type step struct {
	stream   string
	read     bool
	ids      string // read, or appended
	expect   store.Expect
	version  uint64 // answered
	conflict bool
	lost     bool // the answer is unknown; it did happen
}

// idLen is how many characters of an id tell events of a history apart.
const idLen = 12

func idString(id store.ID) string { return strings.ReplaceAll(id.String(), "-", "")[:idLen] }

// model is a stream: the ids of its events, one after the other.
var model = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range ops {
			s := o.Input.(step).stream
			by[s] = append(by[s], o)
		}
		var out [][]porcupine.Operation
		for _, part := range by {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		s, in := state.(string), input.(step)
		length := uint64(len(s) / idLen)
		switch {
		case in.read:
			return in.ids == s, s
		case in.conflict:
			return !in.expect.Met(length) && in.version == length, s
		case in.expect >= 0 && uint64(len(s)) >= uint64(in.expect)*idLen && in.ids != "" && strings.HasPrefix(s[uint64(in.expect)*idLen:], in.ids):
			return in.lost || in.version == uint64(in.expect)+uint64(len(in.ids)/idLen), s // has happened before
		case !in.expect.Met(length):
			return false, s
		}
		next := s + in.ids
		return in.lost || in.version == uint64(len(next)/idLen), next
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// linearizable checks each stream with porcupine.
func (r *run) linearizable(at map[store.ID]store.Record) error {
	var ops []porcupine.Operation
	for _, o := range r.ops {
		for _, s := range steps(o, at) {
			p := porcupine.Operation{ClientId: o.client, Input: s, Call: o.call, Return: o.ret}
			if s.lost {
				p.Return = math.MaxInt64
			}
			ops = append(ops, p)
		}
	}
	switch porcupine.CheckOperationsTimeout(model, ops, 20*time.Second) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return errors.New("porcupine did not come to an end: make histories shorter")
	}
	return errors.New("the history of a stream is not linearizable")
}

// steps is what an operation means for each stream it touches. An append
// whose answer was lost means what the log says: it happened, some time after
// it was called, or never.
func steps(o op, at map[store.ID]store.Record) []step {
	if o.writes == nil {
		if o.err != nil {
			return nil
		}
		return []step{{stream: o.stream, read: true, ids: join(o.ids)}}
	}
	var c *store.ConflictError
	if errors.As(o.err, &c) {
		i := slices.IndexFunc(o.writes, func(w store.Write) bool { return w.Stream == c.Stream })
		if i < 0 {
			return []step{{stream: c.Stream, conflict: true, version: math.MaxUint64}} // names a stream nobody wrote to
		}
		return []step{{stream: c.Stream, conflict: true, expect: o.writes[i].Expect, version: c.Version}}
	}
	if _, there := at[o.writes[0].Events[0].ID]; o.err != nil && (!there || !errors.Is(o.err, store.ErrUnknown)) {
		return nil
	}
	var out []step
	for i, w := range o.writes {
		s := step{stream: w.Stream, expect: w.Expect, lost: o.err != nil}
		for _, e := range w.Events {
			s.ids += idString(e.ID)
		}
		if o.err == nil {
			s.version = o.written[i].Version
		}
		out = append(out, s)
	}
	return out
}

func join(ids []store.ID) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(idString(id))
	}
	return b.String()
}
