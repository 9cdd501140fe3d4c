package bank

import (
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

// TransferProcess takes the money of a transfer from the source, and when it is
// cleared gives it to the target. If the target does not take it, or somebody
// cancels the transfer before, it goes back. If the source does not take it back
// the process is stuck, and somebody has to see to it.
func (b Bank) TransferProcess() deed.Process[Moving] {
	return deed.Process[Moving]{
		Name:  "money-transfer",
		Doc:   "Moves the money of a transfer, or gives it back.",
		Roles: []string{RoleTeller},
		On: []deed.ProcessReaction[Moving]{
			deed.Start(func(m *Moving, e deed.Recorded[TransferInitiated]) []deed.Action {
				*m = Moving{e.ID, e.Event.From, e.Event.To, e.Event.Amount}
				out := []deed.Action{
					deed.Send(Transfers, m.Transfer, takeUp{}).Undo(deed.Send(Transfers, m.Transfer, fail{})),
					deed.Send(Accounts, m.From, sendOff{m.Transfer, m.To, m.Amount}).Undo(deed.Send(Accounts, m.From, refund{m.Transfer, m.Amount})),
					deed.Send(Transfers, m.Transfer, fund{}).Undo(deed.Send(Transfers, m.Transfer, startRefund{})),
				}
				if b.Clearing > 0 {
					return append(out, deed.After("clearing", b.Clearing))
				}
				return append(out, m.deliver()...)
			}),
			deed.OnTimer("clearing", (*Moving).deliver),
			deed.React(func(m *Moving, e CancellationRequested) []deed.Action {
				return []deed.Action{deed.Fail(deed.Reason{Code: ErrCancelled.Code, Text: e.Reason})}
			}),
		},
	}
}

// deliver gives the money to the target, unless somebody has cancelled the
// transfer a moment ago.
func (m *Moving) deliver() []deed.Action {
	return []deed.Action{
		deed.Send(Transfers, m.Transfer, clear{}),
		deed.Send(Accounts, m.To, takeIn{m.Transfer, m.From, m.Amount}),
		deed.Send(Transfers, m.Transfer, complete{}),
		deed.Done(),
	}
}
