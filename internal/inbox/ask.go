package inbox

import (
	"context"

	"github.com/deed-dev/deed"
)

// An Asker asks commands. It may be used by many goroutines.
type Asker interface {
	// Ask asks a command of the entity with the given id; "" = whoever handles
	// it makes one out of the command's id. It returns nil when the command is
	// in safe hands: done, or stored so that it will be. Otherwise its errors
	// are those of [deed.Runtime.Dispatch].
	Ask(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error
}

// A Dispatcher asks commands of a runtime.
type Dispatcher struct{ Runtime *deed.Runtime }

// Ask implements [Asker].
func (d Dispatcher) Ask(ctx context.Context, call deed.Call, aggregate, id, command string, body []byte) error {
	_, err := d.Runtime.Dispatch(deed.With(ctx, call), aggregate, id, command, body)
	return err
}
