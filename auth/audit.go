package auth

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// auditStream is where administrative acts on keys are recorded.
const auditStream = "$audit/keys"

// act is the data of the events in "$audit/keys".
type act struct {
	Key      string    `json:"key"` // its id
	Actor    string    `json:"actor"`
	Roles    []string  `json:"roles,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	OldUntil time.Time `json:"old_until,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

// audit records an act that succeeded, with who did it.
func (k *Keys) audit(ctx context.Context, by By, typ string, a act) error {
	data, err := wire.Marshal(a)
	if err != nil {
		return err
	}
	meta, err := wire.Marshal(by)
	if err != nil {
		return err
	}
	_, err = k.store.Append(ctx, store.Write{
		Stream: auditStream, Expect: store.Any,
		Events: []store.Event{{ID: store.ID(uuid.Must(uuid.NewV7())), Type: typ, Data: data, Meta: meta}},
	})
	if err != nil {
		return fmt.Errorf("auth: it was done to the key %s, but could not be recorded in the audit stream: %w", a.Key, err)
	}
	return nil
}
