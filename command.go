package deed

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A Command asks something of an S. Decide answers with the events that
// follow, or with an error that says why not. It must not do anything else:
// the runtime calls it again when another command got in between, and it must
// not change what the state refers to.
//
// Returning no events and no error means there is nothing to do. Return
// [ErrNotFound] where the entity must exist and does not, [ErrExists] where
// it must not and does, a [Reason] otherwise.
//
// A command may also have
//
//	Validate() error                   // is it well-formed? see [Invalid]
//	Stamp(deed.Stamp) deed.Command[S]  // see [Stamper]
type Command[S any] interface {
	Decide(S) ([]Event[S], error)
}

// A Stamper is a Command that wants to know when, by whom and of which entity
// it is asked. The runtime calls Stamp once, before the first Decide.
type Stamper[S any] interface {
	Command[S]
	Stamp(Stamp) Command[S]
}

// A Stamp is what a command cannot know by itself.
type Stamp struct {
	ID      string    // of the entity
	Time    time.Time // now
	Actor   string    // who asks; "" = nobody said
	Command string    // the command's id: unique, but the caller may have chosen it
	Secret  string    // 128 bits of randomness nobody can guess, as text
	Why     Reason    // of a command that undoes something for a process or saga: what made it turn back
}

type validator interface{ Validate() error }

// A Call is the circumstances in which a command is asked. The zero Call is
// fine: the runtime makes a command id.
type Call struct {
	ID          string  // the command's id: asking again with the same id gives the first answer again
	IfVersion   *uint64 // the command runs only on this version of the entity; nil = on any
	Actor       string
	Correlation string // id of the flow; default: the command's id
	Causation   string // id of what led directly to this command
	Trace       string // of whoever asks: a traceparent as in W3C Trace Context, which public events have, too
	Source      string // where the command comes from, for example "http"
	Async       bool   // store the command first and handle it in the background

	// Callbacks are told what becomes of the command, as far as the program
	// allows it, see Config.Callbacks. A command that has any is stored first.
	Callbacks []Callback

	// Restricted commands are checked: the caller must have one of the roles
	// that the command takes, see Rules. Go code is trusted by default.
	Restricted bool
	Roles      []string // the caller's

	direct bool   // a step asks, and needs the answer: it is not stored first, whatever its rules say
	why    Reason // what made the process or saga turn back that asks
}

type callKey struct{}

// With returns a context in which commands are asked as call says.
func With(ctx context.Context, call Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

func callOf(ctx context.Context) Call {
	call, _ := ctx.Value(callKey{}).(Call)
	return call
}

// MaxKey is the greatest length of a command id, in bytes.
const MaxKey = 128

func (c Call) check() error {
	for name, v := range map[string]string{"command id": c.ID, "actor": c.Actor, "correlation id": c.Correlation, "causation id": c.Causation, "trace": c.Trace} {
		if len(v) > MaxKey {
			return Invalid{Detail: fmt.Sprintf("the %s is longer than %d bytes", name, MaxKey)}
		}
		if name == "command id" && (v == "." || v == "..") {
			return Invalid{Detail: "the command id must not be . or .."}
		}
		if !printable(v) {
			return Invalid{Detail: fmt.Sprintf("the %s must be printable UTF-8 without control characters", name)}
		}
	}
	return nil
}

// MaxID is the greatest length of an entity's id, in bytes.
const MaxID = 200

// checkID reports whether id can name an entity.
func checkID(id string) error {
	switch {
	case id == "":
		return Invalid{Detail: "the id is empty"}
	case len(id) > MaxID:
		return Invalid{Detail: fmt.Sprintf("the id is longer than %d bytes", MaxID)}
	case !printable(id) || strings.TrimSpace(id) != id:
		return Invalid{Detail: "the id must be printable UTF-8 without control characters or blanks around it"}
	case strings.ContainsAny(id, "/\\") || id == "." || id == "..":
		return Invalid{Detail: "the id must not contain a slash or a backslash, nor be . or .."}
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 })
}

// A Receipt says what became of a command.
type Receipt struct {
	Command  string     `json:"command"`            // the command's id
	Stream   string     `json:"stream"`             // of the entity
	Version  uint64     `json:"version"`            // of the stream, after the command
	Position string     `json:"position,omitempty"` // in the log; pass it to WaitFor to read your own write
	Events   []EventRef `json:"events"`             // what happened
	Pending  bool       `json:"-"`                  // the command is stored, and handled in the background: [Commands] tells what becomes of it
	Replay   bool       `json:"-"`                  // the answer is an earlier one: the command id was used before

	streams []string // of the entities, if it was a group of commands
}

// An EventRef names an event of the receipt's stream.
type EventRef struct {
	Type    string `json:"type"`
	Version uint64 `json:"version"`
}
