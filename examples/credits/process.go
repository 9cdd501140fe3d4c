package credits

import (
	"cmp"
	"fmt"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/examples/money"
)

// Moving is the state of the process that carries out a transfer.
type Moving struct {
	Transfer string      `json:"transfer"`
	From     string      `json:"from"`
	To       string      `json:"to"`
	Amount   money.Money `json:"amount"`
}

// Why a transfer may fail that the accounts would allow.
var (
	ErrRejected = deed.Reason{Code: "validation_rejected", Text: "The transfer was not approved"}
	ErrOverdue  = deed.Reason{Code: "validation_overdue", Text: "Nobody has validated the transfer in time"}
)

// Process holds the credits of a transfer at once. A significant one waits until
// somebody has validated it; then, and all others at once, the credits move. If
// that cannot be they are given back, and the transfer has failed.
func (c Credits) Process() deed.Process[Moving] {
	accounts, transfers := Accounts, c.Transfers()
	// move lets the credits go from one account to the other.
	move := func(m *Moving) []deed.Action {
		return []deed.Action{
			deed.Send(accounts, m.To, receive{m.Transfer, m.From, m.Amount}).Undo(deed.Send(accounts, m.To, reverse{m.Transfer, m.Amount})),
			deed.Send(accounts, m.From, settle{m.Transfer, m.To}),
			deed.Send(transfers, m.Transfer, succeed{}),
			deed.Done(),
		}
	}
	return deed.Process[Moving]{
		Name: "credit-transfer",
		Doc:  "Holds the credits of a transfer, has it validated if it is significant, and moves them.",
		On: []deed.ProcessReaction[Moving]{
			deed.Start(func(m *Moving, e deed.Recorded[TransferRequested]) []deed.Action {
				*m = Moving{e.ID, e.Event.From, e.Event.To, e.Event.Amount}
				actions := []deed.Action{
					deed.Send(transfers, m.Transfer, examine{c.significant()}).Undo(deed.Send(transfers, m.Transfer, fail{})),
					deed.Send(accounts, m.To, expect{m.Amount}),
					deed.Send(accounts, m.From, hold{m.Transfer, m.Amount}).Undo(deed.Send(accounts, m.From, giveBack{m.Transfer})),
				}
				if m.Amount.Amount < c.significant() {
					return append(actions, move(m)...)
				}
				return append(actions, deed.Ask("validation", deed.Question{
					Text:  fmt.Sprintf("May %s send %v to %s?", m.From, m.Amount, m.To),
					Roles: []string{RoleValidator}, Within: c.deadline(),
				}))
			}),
			deed.OnDecision("validation", func(m *Moving, d deed.Decision) []deed.Action {
				switch {
				case d.Choice == "approve":
					return append([]deed.Action{deed.Send(transfers, m.Transfer, approve{d.By, d.Reason})}, move(m)...)
				case d.Overdue:
					return []deed.Action{deed.Fail(ErrOverdue)}
				}
				return []deed.Action{deed.Fail(deed.Reason{Code: ErrRejected.Code, Text: cmp.Or(d.Reason, ErrRejected.Text)})}
			}),
		},
	}
}
