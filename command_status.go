package deed

import (
	"encoding/json"
	"slices"
	"time"
)

// A CommandState says where a command is in its life.
type CommandState string

// The states of a command. Completed, rejected and cancelled ones are over; an
// invalid one can be corrected, a failed one resumed.
const (
	CommandReceived  CommandState = "received"  // stored, nobody has looked at it yet
	CommandInvalid   CommandState = "invalid"   // it cannot be done as it is: correct it, or cancel it
	CommandRunning   CommandState = "running"   // its steps are being done
	CommandRetrying  CommandState = "retrying"  // a step failed and is going to be tried again by itself
	CommandUndoing   CommandState = "undoing"   // what its steps did is being undone
	CommandCompleted CommandState = "completed" // done
	CommandRejected  CommandState = "rejected"  // the domain said no
	CommandFailed    CommandState = "failed"    // a step failed too often: resume it once the cause is gone, or cancel it
	CommandCancelled CommandState = "cancelled" // somebody called it off
)

// Over reports whether nothing more becomes of a command in this state.
func (s CommandState) Over() bool {
	return s == CommandCompleted || s == CommandRejected || s == CommandCancelled
}

// stands reports whether a command stays in this state until somebody asks for
// something else.
func (s CommandState) stands() bool { return s.Over() || s == CommandInvalid || s == CommandFailed }

// A StepStatus is how a step of a command is doing.
type StepStatus struct {
	Name     string       `json:"name"`
	State    CommandState `json:"state"`             // running, retrying, completed, failed, rejected, undoing, or cancelled: it was undone
	Attempts int          `json:"attempts,omitzero"` // since the command was received or resumed
	Started  time.Time    `json:"started_at,omitzero"`
	Finished time.Time    `json:"finished_at,omitzero"`
	Error    string       `json:"error,omitempty"` // of the last attempt that failed
	Done     int          `json:"done,omitzero"`   // entities dealt with so far
}

// CommandStatus is what the records of a command say about it.
type CommandStatus struct {
	ID           string          `json:"id"`
	Command      string          `json:"command"`          // its name, for example "order.submit"
	Stream       string          `json:"stream,omitempty"` // of the entity it was asked of
	State        CommandState    `json:"state"`
	Step         string          `json:"step,omitempty"` // the one it is at
	Steps        []StepStatus    `json:"steps,omitempty"`
	Findings     []Finding       `json:"findings,omitempty"`     // what is wrong with an invalid one, and warnings: the first hundred
	FindingCount int             `json:"finding_count,omitzero"` // how many there are
	Attempts     int             `json:"attempts,omitzero"`      // of the step it is at; of a command without steps, if it took several
	Code         string          `json:"code,omitempty"`         // why a rejected or failed one is
	Reason       string          `json:"reason,omitempty"`       // the same in a sentence; of a cancelled one, what was said
	Cancelling   bool            `json:"cancelling,omitzero"`    // somebody wants it called off
	Undone       bool            `json:"undone,omitzero"`        // what its steps had done was undone, or is being
	Entities     []string        `json:"entities,omitempty"`     // streams it wrote to, the first hundred
	EntityCount  int             `json:"entity_count,omitzero"`
	Events       []EventRef      `json:"events,omitempty"` // what happened to the entity, if it is a command of one
	Version      uint64          `json:"version,omitzero"`
	Actor        string          `json:"actor,omitempty"`
	Source       string          `json:"source,omitempty"`
	Correlation  string          `json:"correlation,omitempty"`
	Causation    string          `json:"causation,omitempty"`
	Parameters   json.RawMessage `json:"parameters,omitempty"` // of a stored one; not in lists
	Received     time.Time       `json:"received_at,omitzero"`
	Finished     time.Time       `json:"finished_at,omitzero"`
	Next         time.Time       `json:"next_at,omitzero"` // when a retrying one is tried again
}

// maxNamed is how many entities a status names.
const maxNamed = 100

// take folds an event of the command's stream into the status.
func (s *CommandStatus) take(m Meta, e any) {
	if s.ID == "" {
		s.ID, s.Actor, s.Correlation, s.Causation, s.Received = m.ID, m.Actor, m.Correlation, m.Causation, m.Time
		s.Source = m.Source
	}
	switch e := e.(type) {
	case commandReceived:
		s.Command, s.Stream, s.State, s.Parameters = e.Command, e.Stream, CommandReceived, e.Body
	case commandCorrected:
		s.State, s.Parameters = CommandReceived, e.Body
		s.finds(nil, 0)
	case commandValidated:
		s.State = CommandRunning
		s.finds(e.Warnings, e.Count)
	case commandInvalid:
		s.State, s.Code, s.Reason = CommandInvalid, typeInvalid, e.Findings[0].Text
		s.finds(e.Findings, e.Count)
	case stepStarted:
		s.startStep(m, e)
	case stepProgressed:
		s.touched(e.Entities)
		if p := s.step(e.Step); p != nil {
			p.Done += len(e.Entities)
		}
	case stepCompleted:
		s.completeStep(m, e)
	case stepFailed:
		s.failStep(m, e)
	case commandUndoing:
		s.State, s.Undone, s.Code, s.Reason = CommandUndoing, true, e.Code, e.Reason
	case commandRequeued:
		s.requeue()
	case cancelRequested:
		s.Cancelling = true
		s.Reason = e.Reason
	case commandCancelled:
		s.finish(m, CommandCancelled)
		s.Code, s.Reason, s.Undone = "", e.Reason, e.Undone
	case commandFailed:
		s.finish(m, CommandFailed)
		s.Code, s.Reason = typeFailed, e.Reason
	case commandCompleted:
		s.lastAttempt()
		s.finish(m, CommandCompleted)
		s.Code, s.Reason = "", ""
		s.settle(e.outcome)
	case commandAccepted:
		s.finish(m, CommandCompleted)
		s.settle(e.outcome)
	case commandRejected:
		s.lastAttempt()
		s.finish(m, CommandRejected)
		s.settle(e.outcome)
		s.Code, s.Reason = e.Code, e.Reason
	}
}

// lastAttempt counts the one that came to an end, if others failed before. A
// command without steps is not said to begin.
func (s *CommandStatus) lastAttempt() {
	if len(s.Steps) == 0 && s.Attempts > 0 {
		s.Attempts++
	}
}

// finds notes what a look at the command found. Programs have recorded more
// findings than are shown.
func (s *CommandStatus) finds(found []Finding, count int) {
	s.Findings, s.FindingCount = firstFindings(found), max(count, len(found))
}

// settle takes in what the outcome of a command says, which may be all that is
// recorded of it.
func (s *CommandStatus) settle(o outcome) {
	s.Command, s.Stream, s.Version, s.Events = o.Command, o.Stream, o.Version, o.Events
	if len(o.Events) > 0 {
		s.touched([]string{o.Stream})
	}
	s.touched(o.Entities)
}

func (s *CommandStatus) finish(m Meta, state CommandState) {
	s.State, s.Finished, s.Next, s.Step = state, m.Time, time.Time{}, ""
}

func (s *CommandStatus) step(name string) *StepStatus {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i]
		}
	}
	return nil
}

func (s *CommandStatus) startStep(m Meta, e stepStarted) {
	p := s.step(e.Step)
	if p == nil {
		s.Steps = append(s.Steps, StepStatus{Name: e.Step})
		p = &s.Steps[len(s.Steps)-1]
	}
	if p.Started.IsZero() || e.Undo {
		p.Started = m.Time
	}
	p.Attempts, p.Finished = e.Attempt, time.Time{}
	if s.Step, s.Attempts, s.Next = e.Step, e.Attempt, (time.Time{}); e.Undo {
		p.State = CommandUndoing
		return
	}
	p.State, s.State = CommandRunning, CommandRunning
}

func (s *CommandStatus) completeStep(m Meta, e stepCompleted) {
	s.touched(e.Entities)
	if p := s.step(e.Step); p != nil {
		p.State, p.Finished, p.Error = CommandCompleted, m.Time, ""
		if e.Undo {
			p.State = CommandCancelled
		}
	}
}

func (s *CommandStatus) failStep(m Meta, e stepFailed) {
	if p := s.step(e.Step); p != nil {
		p.Error, p.State = e.Error, CommandFailed
		switch {
		case !e.Next.IsZero():
			p.State = CommandRetrying
		case e.No:
			p.State, p.Finished = CommandRejected, m.Time
		default:
			p.Finished = m.Time
		}
	}
	if s.Reason = e.Error; !e.Undo && !e.Next.IsZero() {
		s.State = CommandRetrying
	}
	s.Step, s.Attempts, s.Next = e.Step, e.Attempt, e.Next
}

// requeue lets attempts count from the beginning.
func (s *CommandStatus) requeue() {
	s.Code, s.Reason, s.Attempts, s.Next, s.Finished = "", "", 0, time.Time{}, time.Time{}
	s.State = CommandReceived
	for i := range s.Steps {
		if p := &s.Steps[i]; p.State != CommandCompleted && p.State != CommandCancelled {
			p.Attempts = 0
		}
		s.State = CommandRunning
	}
	if s.Undone {
		s.State = CommandUndoing
	}
}

// touched notes entities that the command wrote to.
func (s *CommandStatus) touched(streams []string) {
	for _, stream := range streams {
		if len(s.Entities) < maxNamed && slices.Contains(s.Entities, stream) {
			continue
		}
		if s.EntityCount++; len(s.Entities) < maxNamed {
			s.Entities = append(s.Entities, stream)
		}
	}
}

// commandStatuses has the status of every command that was stored first, or was
// rejected. Of those that were done at once, the log tells.
func commandStatuses() Projection[CommandStatus] {
	return Projection[CommandStatus]{
		Name:    "commands",
		Doc:     "The life of each command that was stored first, and those that were rejected.",
		Indexes: []string{"state", "command", "actor", "received_at"},
		On: []Handler[CommandStatus]{
			lives[commandReceived](), lives[commandCorrected](), lives[commandValidated](), lives[commandInvalid](),
			lives[stepStarted](), lives[stepProgressed](), lives[stepCompleted](), lives[stepFailed](),
			lives[commandUndoing](), lives[commandRequeued](), lives[cancelRequested](), lives[commandCancelled](),
			lives[commandFailed](), lives[commandCompleted](), lives[commandRejected](),
			forgets[CommandStatus](givenUp.commands),
		},
	}
}

func lives[E any]() Handler[CommandStatus] {
	return On(func(s *CommandStatus, e Recorded[E]) {
		s.take(e.Meta, e.Event)
		s.Parameters = nil // they are in the command's stream, and may be large
	})
}
