package deed

import (
	"errors"
	"fmt"

	"github.com/deed-dev/deed/internal/wire"
)

var (
	// ErrNotFound reports that there is no such entity or document. A Decide
	// that needs an existing entity returns it too.
	ErrNotFound = errors.New("deed: not found")
	// ErrExists is what a Decide returns when it would create an entity whose
	// id is in use.
	ErrExists = errors.New("deed: already exists")
	// ErrUnknown reports a name that no domain declares.
	ErrUnknown = errors.New("deed: unknown name")
	// ErrInProgress reports that a command with the same id is being handled
	// at this moment. Ask again a little later.
	ErrInProgress = errors.New("deed: a command with this id is being handled")
	// ErrMismatch reports that the id of a command was used before, for
	// another command or other contents. Nothing was done.
	ErrMismatch = errors.New("deed: this command id was used for something else")
	// ErrOutcomeUnknown reports that the store's answer was lost: the command
	// may or may not have taken effect. Ask again with the same command id.
	ErrOutcomeUnknown = errors.New("deed: outcome unknown")
)

// A Reason is why a domain says no: a code that programs may depend on and a
// sentence for people. Declare reasons as variables and return them from
// Decide, as they are or wrapped with %w; errors.Is finds them again, even
// when the refusal is read back from the log.
type Reason struct {
	Code string // stable, for example "empty_order"
	Text string
}

func (r Reason) Error() string { return r.Text }

// Is makes reasons with the same code the same for errors.Is.
func (r Reason) Is(target error) bool {
	t, ok := target.(Reason)
	return ok && t.Code == r.Code
}

// Rejected is the error of a command to which the domain said no. Nothing
// happened to the entity.
type Rejected struct {
	Stream  string // of the entity
	Command string // for example "order.submit"
	Err     error  // what Decide returned, or why a claim could not be had
	Replay  bool   // the refusal is an earlier one: the command id was used before
}

func (r Rejected) Error() string { return fmt.Sprintf("%s on %s: %v", r.Command, r.Stream, r.Err) }

// Unwrap returns Err.
func (r Rejected) Unwrap() error { return r.Err }

// Reason returns the reason that Decide gave; its code is "rejected" if it
// gave a plain error.
func (r Rejected) Reason() Reason {
	if reason, ok := errors.AsType[Reason](r.Err); ok {
		return Reason{Code: reason.Code, Text: r.Err.Error()}
	}
	switch {
	case errors.Is(r.Err, ErrNotFound):
		return Reason{Code: codeNotFound, Text: "there is no " + r.Stream}
	case errors.Is(r.Err, ErrExists):
		return Reason{Code: codeExists, Text: r.Stream + " exists already"}
	}
	return Reason{Code: "rejected", Text: r.Err.Error()}
}

// Codes under which two sentinel errors are journaled.
const (
	codeNotFound = "not_found"
	codeExists   = "exists"
	codeConflict = "conflict" // a stored command's version of the entity had passed
)

// Invalid is the error of a command, filter or name that is malformed: it
// was never asked of the domain, and nothing was stored. A command's Validate
// returns it, or several joined with [errors.Join].
type Invalid struct {
	Field  string // path into the document, for example "items.0.quantity"; "" = all of it
	Detail string // what is wrong with it
}

func (i Invalid) Error() string {
	if i.Field == "" {
		return i.Detail
	}
	return i.Field + " " + i.Detail
}

// Required returns an [Invalid] error if v is the zero value, else nil.
func Required[T comparable](field string, v T) error {
	if v == *new(T) {
		return Invalid{Field: field, Detail: "is missing"}
	}
	return nil
}

// Conflict is the error of a command that was asked of a version the entity
// is not at (see Call.IfVersion), or that other commands overtook too often.
type Conflict struct {
	Stream  string
	Version uint64 // the stream is at this version
}

func (c Conflict) Error() string {
	return fmt.Sprintf("deed: %s is at version %d by now", c.Stream, c.Version)
}

// reason says the same of a command that was stored.
func (c Conflict) reason(want uint64) string {
	return fmt.Sprintf("the command is for version %d of %s, which is at version %d", want, c.Stream, c.Version)
}

func invalid(err error) error {
	if f, ok := errors.AsType[*wire.FieldError](err); ok {
		return Invalid{Field: f.Field, Detail: f.Detail}
	}
	return Invalid{Detail: err.Error()}
}
