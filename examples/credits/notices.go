package credits

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed"
)

// A Notice is something to tell the owner of an account.
type Notice struct {
	Account string    `json:"account"`
	What    string    `json:"what"` // it is about
	Text    string    `json:"text"`
	At      time.Time `json:"at"`
}

// Notices has one Notice per transfer for the sender, under the transfer's id,
// and one for the recipient once something has come: what was said last.
var Notices = deed.View[Notice]{
	Name:    "notices",
	Doc:     "What the owners of accounts are told about transfers.",
	Indexes: []string{"account", "at"},
}

// Notifier tells the sender what becomes of a transfer, and the recipient that
// it has come.
var Notifier = deed.EventHandler{
	Name: "transfer-notices",
	Doc:  "Tells the owners of accounts what became of a transfer.",
	On: []deed.Reaction{
		deed.Handle(func(_ context.Context, tx *deed.Tx, e deed.Recorded[TransferRequested]) error {
			what := fmt.Sprintf("%v to %s", e.Event.Amount, e.Event.To)
			return Notices.Put(tx, e.ID, Notice{e.Event.From, what, what + " is on its way", e.Time})
		}),
		deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[ValidationRequired]) error {
			return tell(ctx, tx, e.Meta, "waits for validation")
		}),
		deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[TransferSucceeded]) error {
			return tell(ctx, tx, e.Meta, "was sent")
		}),
		deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[TransferFailed]) error {
			return tell(ctx, tx, e.Meta, "could not be sent: "+e.Event.Reason)
		}),
		deed.Handle(func(_ context.Context, tx *deed.Tx, e deed.Recorded[Received]) error {
			what := fmt.Sprintf("%v from %s", e.Event.Amount, e.Event.From)
			return Notices.Put(tx, e.Event.Transfer+"-in", Notice{e.ID, what, what + " has come", e.Time})
		}),
	},
}

// tell says something else to the sender of a transfer.
func tell(ctx context.Context, tx *deed.Tx, m deed.Meta, text string) error {
	n, err := Notices.Look(ctx, tx, m.ID)
	if err != nil {
		return err
	}
	n.Text, n.At = n.What+" "+text, m.Time
	return Notices.Put(tx, m.ID, n)
}
