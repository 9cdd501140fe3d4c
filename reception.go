package deed

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// A Reception turns messages of others into commands: it says which types of
// messages it knows, and which commands follow from each. It is the counterpart
// of a [Publication].
//
//	deed.Reception{
//		Name: "payments",
//		Messages: []deed.Receiving{
//			deed.Receive("payment.settled.v1", func(_ context.Context, m deed.Received[Settled]) ([]deed.Sending, error) {
//				return []deed.Sending{deed.Send(Orders, m.Data.Order, Pay{m.ID})}, nil
//			}),
//		},
//	}
//
// Whatever way a message comes in, it is stored before its sender hears that it
// was accepted, see [Runtime.Accept]. Its commands are asked after that: all of
// them are accepted, in one append, or none is, and that happens once, however
// often the message is sent and whatever crashes.
//
// A message of which no commands can be made, or whose commands are refused, is
// a dead letter of the follower that has the name of the reception.
type Reception struct {
	Name     string
	Doc      string // one sentence for people
	Messages []Receiving

	Others  Treatment // of messages of other types
	Refused Treatment // of messages to whose commands the domain says no

	Retry      Retry // of a function that returned an error
	Ordered    bool  // messages with the same partitionkey, or else the same subject, are handled one after the other: behind a dead letter they wait
	Parallel   int   // so many messages at once, up to 256; default 16
	Partitions int   // in which nodes share the work; default 1, and no more if they are ordered

	Roles []string // who may send messages with a key or token of this program, when access is checked; none = operators
}

// A Treatment is what becomes of a message that cannot be turned into commands.
type Treatment int

const (
	ToDeadLetters Treatment = iota // it is a dead letter at once: somebody redrives or discards it
	TryAgain                       // it is tried again as Retry says; then it is a dead letter
	PassOver                       // nothing
)

// A Receiving makes commands of one type of message. Make one with [Receive].
type Receiving struct {
	typ  string
	data reflect.Type
	run  func(context.Context, *Runtime, InboundMessage) ([]Sending, error)
}

// Receive makes commands of messages of the given type, whose data are JSON of a
// D. Fields that D does not have are ignored; D may have a method Validate() error.
// A D of []byte is the data as they are.
//
// f returns none, one or several commands, of one or several entities. It may look
// something up, and is called again after a crash. An error makes the runtime try
// again later, unless it is [Permanent]; a panic does not.
func Receive[D any](typ string, f func(context.Context, Received[D]) ([]Sending, error)) Receiving {
	r := Receiving{typ: typ, data: reflect.TypeFor[D]()}
	if f != nil {
		r.run = func(ctx context.Context, rt *Runtime, m InboundMessage) ([]Sending, error) {
			d, err := decodeData[D](m)
			if err != nil {
				return nil, Permanent(err)
			}
			return f(ctx, Received[D]{m, d, rt})
		}
	}
	return r
}

// reception is a Reception at work in a runtime.
type reception struct {
	Reception
	by map[string]Receiving // by type
}

// usualParallel is how many messages are handled at once if nobody says.
const usualParallel = 16

// receptionKind is the kind of followers that receptions are.
const receptionKind = "reception"

func (r Reception) order() int { return 4 }

func (r Reception) register(rt *Runtime) error {
	if err := checkName("reception", r.Name); err != nil {
		return err
	}
	at := &reception{Reception: r, by: map[string]Receiving{}}
	for _, m := range r.Messages {
		switch {
		case m.run == nil:
			return fmt.Errorf("reception %s: nothing is made of %q: make it with Receive and a function", r.Name, m.typ)
		case m.typ == "" || len(m.typ) > maxMessageText || !printable(m.typ):
			return fmt.Errorf("reception %s: the type %q of a message is not printable, or longer than %d bytes", r.Name, m.typ, maxMessageText)
		case at.by[m.typ].run != nil:
			return fmt.Errorf("reception %s makes two things of %q: put them into one function", r.Name, m.typ)
		}
		at.by[m.typ] = m
	}
	if r.Others == TryAgain {
		return fmt.Errorf("reception %s: messages of other types stay what they are: Others is ToDeadLetters or PassOver", r.Name)
	}
	if r.Ordered && r.Partitions > 1 {
		return fmt.Errorf("reception %s: one node keeps messages in order: leave Partitions out", r.Name)
	}
	if r.Parallel < 0 || r.Parallel > 256 {
		return fmt.Errorf("reception %s: Parallel is from 1 to 256", r.Name)
	}
	rt.receptions[r.Name] = at
	return rt.addFollower(engine.Follower{
		Name: r.Name, Kind: receptionKind, Partitions: r.Partitions, Outward: true, Editable: true,
		Filter: store.Filter{Categories: []string{messageCategory}, Types: []string{typeReceived}},
		Retry:  engine.Retry{Attempts: r.Retry.Attempts, First: r.Retry.First, Max: r.Retry.Max},
		New:    func(uint64) engine.Handler { return receiver{rt, at} }, Elsewhere: rt.cfg.Guest,
	})
}

// A ReceptionInfo describes a reception to tools and people.
type ReceptionInfo struct {
	Name    string   `json:"name"`
	Doc     string   `json:"doc,omitempty"`
	Types   []string `json:"types"` // of messages that it knows
	Ordered bool     `json:"ordered,omitzero"`
	Roles   []string `json:"roles,omitempty"` // who may send messages, when access is checked; none = operators
}

// Receptions lists the receptions there are, in the order of their names.
func (rt *Runtime) Receptions() []ReceptionInfo {
	out := []ReceptionInfo{}
	for _, name := range slices.Sorted(maps.Keys(rt.receptions)) {
		r := rt.receptions[name]
		out = append(out, ReceptionInfo{Name: name, Doc: r.Doc, Types: slices.Sorted(maps.Keys(r.by)), Ordered: r.Ordered, Roles: r.Roles})
	}
	return out
}
