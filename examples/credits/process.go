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

	Significant bool `json:"significant,omitzero"`
	Unchecked   bool `json:"unchecked,omitzero"` // it waits for the fraud check
}

// Why a transfer may fail that the accounts would allow.
var (
	ErrRejected = deed.Reason{Code: "validation_rejected", Text: "The transfer was not approved"}
	ErrOverdue  = deed.Reason{Code: "validation_overdue", Text: "Nobody has validated the transfer in time"}
)

// Process moves the credits that are held for a transfer, when the fraud check
// has judged it. One that is significant or suspicious waits until somebody has
// validated it. If the credits cannot move they are given
// back, and the transfer has failed.
func (c Credits) Process() deed.Process[Moving] {
	return deed.Process[Moving]{
		Name: "credit-transfer",
		Doc:  "Has a transfer validated if it is significant, and moves the credits or gives them back.",
		On: []deed.ProcessReaction[Moving]{
			deed.Start(func(m *Moving, e deed.Recorded[TransferRequested]) []deed.Action {
				*m = Moving{Transfer: e.ID, From: e.Event.From, To: e.Event.To, Amount: e.Event.Amount, Significant: e.Event.Significant}
				actions := []deed.Action{
					deed.Send(Transfers, m.Transfer, takeUp{}).Undo(deed.Send(Transfers, m.Transfer, fail{})),
					deed.Send(Accounts, m.From, keep{m.Transfer}).Undo(deed.Send(Accounts, m.From, giveBack{m.Transfer})),
				}
				return append(actions, c.check(m)...)
			}),
			deed.React(c.judged),
			deed.OnTimer("fraud-check", c.unjudged),
			deed.OnDecision("validation", func(m *Moving, d deed.Decision) []deed.Action {
				switch {
				case d.Choice == "approve":
					return append([]deed.Action{deed.Send(Transfers, m.Transfer, approve{d.By, d.Reason})}, m.move()...)
				case d.Overdue:
					return []deed.Action{deed.Fail(ErrOverdue)}
				}
				return []deed.Action{deed.Fail(deed.Reason{Code: ErrRejected.Code, Text: cmp.Or(d.Reason, ErrRejected.Text)})}
			}),
		},
	}
}

// goOn has a significant transfer validated, and any other moved.
func (c Credits) goOn(m *Moving) []deed.Action {
	if m.Significant {
		return c.validate(m, "")
	}
	return m.move()
}

// validate has somebody decide; why says what else there is than the amount.
func (c Credits) validate(m *Moving, why string) []deed.Action {
	q := deed.Question{
		Text:  fmt.Sprintf("May %s send %v to %s?", m.From, m.Amount, m.To),
		Roles: []string{RoleValidator}, Within: c.deadline(),
	}
	if why == "" {
		return []deed.Action{deed.Ask("validation", q)}
	}
	q.Text += " " + why + "."
	return []deed.Action{deed.Send(Transfers, m.Transfer, requireValidation{why}), deed.Ask("validation", q)}
}

// move lets the credits go from one account to the other.
func (m *Moving) move() []deed.Action {
	return []deed.Action{
		deed.Send(Accounts, m.To, receive{m.Transfer, m.From, m.Amount}).Undo(deed.Send(Accounts, m.To, reverse{m.Transfer, m.Amount})),
		deed.Send(Accounts, m.From, settle{m.Transfer, m.To}),
		deed.Send(Transfers, m.Transfer, succeed{}),
		deed.Done(),
	}
}
