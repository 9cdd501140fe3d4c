package inbox

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
)

// An Asker asks commands. It may be used by many goroutines.
type Asker interface {
	// Ask asks a command of the entity with the given id; "" = whoever handles
	// it makes one out of the command's id. It returns nil when the command is
	// done. Otherwise its errors are
	// those of [deed.Runtime.Dispatch], or an [httpapi.Problem].
	Ask(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error
}

// A Dispatcher asks commands of a runtime.
type Dispatcher struct{ Runtime *deed.Runtime }

// patience is how long a command that is handled in the background is waited
// for before others have their turn.
const patience = 2 * time.Second

// Ask implements [Asker]. A command that is handled in the background is in
// progress until something has become of it.
func (d Dispatcher) Ask(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error {
	r, err := d.Runtime.Dispatch(deed.With(ctx, call), aggregate, id, command, body)
	if err != nil || !r.Pending {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := d.Runtime.Commands().Wait(timed, r.Command)
	switch {
	case err != nil && timed.Err() != nil:
		return deed.ErrInProgress
	case err != nil:
		return err
	case s.State == deed.CommandFailed:
		return httpapi.Problem{
			Type: "about:blank", Title: http.StatusText(http.StatusInternalServerError), Status: http.StatusInternalServerError,
			Code: "failed", Detail: s.Reason + " (when the cause is gone: deed command resume " + s.ID + ")",
		}
	}
	err = httpapi.Outcome(s)
	if p, ok := errors.AsType[httpapi.Problem](err); ok && s.State == deed.CommandInvalid {
		p.Detail += " (it is stored: deed command correct " + s.ID + " JSON, or give the file another name)"
		return p
	}
	return err
}
