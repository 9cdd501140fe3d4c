package deed

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// What an instance takes in. The kind of its input is the stored name of the
// record.
const (
	inputStarted  = "started"
	inputEvent    = "event"
	inputTimer    = "timer"
	inputDecision = "decision"
	inputWork     = "worked"  // a step that does something outside was done, or was not
	inputEnded    = "ended"   // an instance that it has begun is over
	inputGoOn     = "went-on" // nothing new: there was more to do than one append holds
	inputRequest  = "requested"
	inputStuck    = "stuck"   // it cannot go on by itself: the error would come again
	inputRefused  = "refused" // a command of a process; part of the record of another input
)

// moved is the one event of an instance's stream: what came in, and all that
// followed from it. It is recorded in the same append as the events that the
// commands sent were answered with.
type moved struct {
	Input      input           `json:"input"`
	Definition int             `json:"definition,omitzero"` // in the first one
	Parent     string          `json:"parent,omitempty"`    // in the first one
	State      json.RawMessage `json:"state,omitzero"`      // of the process or saga, if it changed
	Status     InstanceState   `json:"status,omitempty"`    // if it changed
	Code       string          `json:"code,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	Cause      *cause          `json:"cause,omitempty"` // if it was turned back by this input
	Steps      []stepMoved     `json:"steps,omitempty"`
	Sent       []sent          `json:"sent,omitempty"`
	Touched    []string        `json:"touched,omitempty"` // streams of entities that a step asked commands of
	Refused    []refused       `json:"refused,omitempty"`
	Undid      int             `json:"undid,omitzero"` // so many of the commands kept for undoing were dealt with
	Timers     []timerSet      `json:"timers,omitempty"`
	Tasks      []taskSet       `json:"tasks,omitempty"`
	Begun      []string        `json:"begun,omitempty"`  // streams of instances
	Ignored    bool            `json:"ignored,omitzero"` // it came too late to matter
	More       bool            `json:"more,omitzero"`    // there is more to do than was recorded together with this
	Wake       time.Time       `json:"wake_at,omitzero"` // when the instance goes on by itself; zero: when something comes in
}

// input is what an instance took in.
type input struct {
	Kind    string `json:"kind"`
	From    string `json:"from,omitempty"`    // stream of the event, task or instance it came from
	Version uint64 `json:"version,omitzero"`  // of the event
	Type    string `json:"type,omitempty"`    // of the event
	Name    string `json:"name,omitempty"`    // of the timer, the question, the step
	Request string `json:"request,omitempty"` // what was asked of the instance, for example "cancel"
	Choice  string `json:"choice,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Hash    string `json:"hash,omitempty"` // of the state that a saga was begun with

	event    any  // decoded
	meta     Meta // of the event
	decision Decision
	rejected Rejected
	worked   *worked
	ended    *Instance
	state    json.RawMessage // of an instance to be begun
	parent   string          // of an instance to be begun
	actor    string          // who decided or requested
	due      time.Time       // when the timer was to go off, or the instance to be looked at
}

// isAsked reports whether somebody waits for what comes of an input.
func (in input) isAsked() bool {
	return in.Kind == inputStarted || in.Kind == inputDecision || in.Kind == inputRequest
}

// cause is why an instance was turned back.
type cause struct {
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// stepMoved is what became of a step of a saga. A record has them in the order in
// which they happened; several may be about the same step.
type stepMoved struct {
	Name     string    `json:"name"`
	State    StepState `json:"state"`
	Attempts int       `json:"attempts,omitzero"`
	Error    string    `json:"error,omitempty"`
	Unclear  bool      `json:"unclear,omitzero"`
	Next     time.Time `json:"next_at,omitzero"`
}

// sent is a command that was accepted.
type sent struct {
	Stream  string       `json:"stream"`
	Command string       `json:"command"`
	ID      string       `json:"id"`
	Events  []EventRef   `json:"events"`
	Undo    *UndoCommand `json:"undo,omitempty"`
}

// refused is a command that was not.
type refused struct {
	Stream  string `json:"stream"`
	Command string `json:"command"`
	Code    string `json:"code"`
	Reason  string `json:"reason"`
}

type timerSet struct {
	Name string    `json:"name"`
	At   time.Time `json:"at,omitzero"` // zero: it was taken back, or has gone off
}

type taskSet struct {
	Name string `json:"name"`
	Task string `json:"task,omitempty"` // "": the question is settled
}

var movedType = reflect.TypeFor[moved]()

var inputKinds = []string{inputStarted, inputEvent, inputTimer, inputDecision, inputWork, inputEnded, inputGoOn, inputRequest, inputStuck}

// declareInstances makes the codec know the records of instances.
func declareInstances(c *wire.Codec) error {
	for _, category := range []string{processCategory, sagaCategory, scheduleCategory} {
		for _, kind := range inputKinds {
			if err := c.DeclareLegacy(wire.Name{Category: category, Type: kind}, moved{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitInstance splits what follows the category in the stream of an instance.
func splitInstance(s string) (name, id string) {
	name, id, _ = strings.Cut(s, "/")
	return name, id
}
