package deed

import "time"

// A CommandError is what went wrong with a command: the domain rejected it, a
// step failed too often, or it was invalid. There is one for each such command,
// a document of the view "command-errors" whose key is the command's id; it
// says what went wrong last, and whether that was put right.
type CommandError struct {
	ID           string       `json:"id"`
	Command      string       `json:"command"`          // its name, for example "order.submit"
	Stream       string       `json:"stream,omitempty"` // of the entity it was asked of
	State        CommandState `json:"state"`            // rejected, failed or invalid
	Code         string       `json:"code"`
	Reason       string       `json:"reason,omitempty"`
	Findings     []Finding    `json:"findings,omitempty"`     // what was wrong with an invalid one, the first hundred
	FindingCount int          `json:"finding_count,omitzero"` // how many there were
	Step         string       `json:"step,omitempty"`
	Attempts     int          `json:"attempts,omitzero"` // at the step
	Actor        string       `json:"actor,omitempty"`
	Source       string       `json:"source,omitempty"`
	Correlation  string       `json:"correlation,omitempty"`
	Causation    string       `json:"causation,omitempty"`
	Time         time.Time    `json:"at"`      // when it went wrong last
	Times        int          `json:"times"`   // how often it did
	Version      uint64       `json:"version"` // of the command's stream, as of which all this is so

	Resolved   bool      `json:"resolved"`             // nobody has to do anything about it any more
	Resolution string    `json:"resolution,omitempty"` // completed, corrected or cancelled
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
}

// commandErrors has what went wrong with commands. A rejected one is over, but
// it is not resolved: what was asked was not done.
func commandErrors() Projection[CommandError] {
	return Projection[CommandError]{
		Name:    "command-errors",
		Doc:     "Commands that were rejected, have failed or were invalid, and whether that was put right.",
		Indexes: []string{"state", "code", "command", "actor", "stream", "at", "resolved"},
		On: []Handler[CommandError]{
			goesWrong[commandRejected](), goesWrong[commandFailed](), goesWrong[commandInvalid](),
			putsRight[commandCompleted](), putsRight[commandCorrected](), putsRight[commandCancelled](),
			forgets[CommandError](givenUp.commands),
		},
	}
}

func goesWrong[E any]() Handler[CommandError] {
	return On(func(c *CommandError, e Recorded[E]) { c.take(e.Meta, e.Event) })
}

// putsRight changes a record that is there; most commands never have one.
func putsRight[E any]() Handler[CommandError] {
	h := goesWrong[E]()
	h.handler.later = true
	return h
}

// take folds an event of the command's stream.
func (c *CommandError) take(m Meta, e any) {
	switch e := e.(type) {
	case commandRejected:
		c.wrong(m, CommandRejected, e.Command, e.Stream)
		c.Code, c.Reason, c.Step, c.Attempts = e.Code, e.Reason, e.Step, e.Attempts
	case commandFailed:
		c.wrong(m, CommandFailed, e.Command, e.Stream)
		c.Code, c.Reason, c.Step, c.Attempts = typeFailed, e.Reason, e.Step, e.Attempts
	case commandInvalid:
		c.wrong(m, CommandInvalid, e.Command, e.Stream)
		c.Code, c.Reason = typeInvalid, e.Findings[0].Text
		c.Findings, c.FindingCount = firstFindings(e.Findings), max(e.Count, len(e.Findings))
	case commandCompleted:
		c.right(m, typeCompleted)
	case commandCorrected:
		c.right(m, typeCorrected)
	case commandCancelled:
		c.right(m, typeCancelled)
	}
}

func (c *CommandError) wrong(m Meta, state CommandState, command, stream string) {
	*c = CommandError{
		ID: m.ID, Command: command, Stream: stream, State: state,
		Actor: m.Actor, Source: m.Source, Correlation: m.Correlation, Causation: m.Causation,
		Time: m.Time, Times: c.Times + 1, Version: m.Version,
	}
}

func (c *CommandError) right(m Meta, how string) {
	if c.Times > 0 {
		c.Resolved, c.Resolution, c.ResolvedAt, c.Version = true, how, m.Time, m.Version
	}
}
