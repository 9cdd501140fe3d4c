package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A CommandStatus is the life of a command.
type CommandStatus struct {
	deed.CommandStatus
	History []Event `json:"history"` // the first thousand events of the command's own stream
}

// commandStatus answers what became of a command. With wait=N it answers when
// that is settled, or after so many seconds.
func (a *api) commandStatus(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "wait")
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	wait, err := waitParam(q)
	if err != nil {
		return err
	}
	if q.Get("wait") != "" {
		if _, err := a.settled(r.Context(), id, wait); err != nil {
			return noCommand(err)
		}
	}
	s, err := a.life(r.Context(), id)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, s)
}

// life reads a command's status and its history.
func (a *api) life(ctx context.Context, id string) (CommandStatus, error) {
	status, err := a.rt.Commands().Get(ctx, id)
	if err != nil {
		return CommandStatus{}, noCommand(err)
	}
	history, err := a.history(ctx, "$command/"+id)
	return CommandStatus{status, history}, err
}

// history is the first thousand events of a stream.
func (a *api) history(ctx context.Context, stream string) ([]Event, error) {
	all := []Event{}
	for rec, err := range a.rt.Store().Read(ctx, stream, store.Range{Limit: maxPage}) {
		if err != nil {
			return nil, err
		}
		all = append(all, eventOf(rec))
	}
	return all, nil
}

func noCommand(err error) error {
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "no command with this id is recorded")
	}
	return err
}

// MaxCommandWait is how long a request may wait for a command, process or saga.
const MaxCommandWait = time.Minute

// waitParam reads how long a request wants to wait for one.
func waitParam(q url.Values) (time.Duration, error) {
	s := q.Get("wait")
	if s == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(s)
	if err != nil || wait < 0 || wait > MaxCommandWait {
		return 0, deed.Invalid{Field: "wait", Detail: "must be a duration from 0s to 60s, for example 10s"}
	}
	return wait, nil
}

// settled waits for a command to stay in a state, but not for ever.
func (a *api) settled(ctx context.Context, id string, wait time.Duration) (deed.CommandStatus, error) {
	timed, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	s, err := a.rt.Commands().Wait(timed, id)
	if err != nil && ctx.Err() == nil && timed.Err() != nil {
		err = nil
	}
	return s, err
}

// stored answers a command that is handled in the background: with what became
// of it, if the caller wants to wait and that is soon enough, else with where
// to look. Who does not want to wait gets the same answer however soon it is done.
func (a *api) stored(w http.ResponseWriter, r *http.Request, receipt deed.Receipt, p preference) error {
	s, err := a.settled(r.Context(), receipt.Command, p.wait)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/commands/"+url.PathEscape(receipt.Command))
	if p.wait == 0 {
		return answer(w, http.StatusAccepted, s)
	}
	w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(p.wait/time.Second)))
	if s.State == deed.CommandCompleted {
		return answer(w, http.StatusOK, s)
	}
	if err := Outcome(s); err != nil {
		return err
	}
	return answer(w, http.StatusAccepted, s)
}

// Outcome is the problem that became of a stored command, the same as if it had
// been handled at once; nil if it is completed, or nobody knows yet.
func Outcome(s deed.CommandStatus) error {
	switch s.State {
	case deed.CommandRejected:
		return refused(s)
	case deed.CommandInvalid:
		return wrong(s)
	case deed.CommandCancelled:
		return problem(http.StatusConflict, CodeConflict, "the command was cancelled: "+s.Reason)
	}
	return nil
}

// refused is the problem of a stored command to which the domain said no.
func refused(s deed.CommandStatus) Problem {
	switch s.Code {
	case CodeNotFound:
		return problem(http.StatusNotFound, CodeNotFound, s.Reason)
	case CodeConflict, reasonExists:
		return problem(http.StatusConflict, CodeConflict, s.Reason)
	}
	p := problem(http.StatusUnprocessableEntity, CodeRejected, s.Reason)
	p.Reason = s.Code
	return p
}

// wrong is the problem of a stored command that cannot be done as it is.
func wrong(s deed.CommandStatus) Problem {
	p := problem(http.StatusBadRequest, CodeInvalid, "")
	for _, f := range s.Findings[:min(len(s.Findings), maxFields)] {
		p.Errors = append(p.Errors, FieldProblem{f.Field, f.Text})
		if p.Detail != "" {
			p.Detail += "; "
		}
		if f.Field != "" {
			p.Detail += f.Field + ": "
		}
		p.Detail += f.Text
	}
	if more := s.FindingCount - len(p.Errors); more > 0 {
		p.Detail += fmt.Sprintf("; and %d more: the first hundred are in the command's status", more)
	}
	return p
}

// preference is what a Prefer header asks for (RFC 7240).
type preference struct {
	async bool
	wait  time.Duration
}

func preferenceOf(h http.Header) (p preference, err error) {
	for _, line := range h.Values("Prefer") {
		for part := range strings.SplitSeq(line, ",") {
			part, _, _ = strings.Cut(part, ";") // parameters, of which there are none that we know
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				p.async = true
			case "wait":
				n, err := strconv.Atoi(unquote(strings.TrimSpace(value)))
				if err != nil || n < 0 {
					return p, deed.Invalid{Detail: "Prefer: wait=N takes a number of seconds"}
				}
				p.wait = min(time.Duration(n)*time.Second, MaxCommandWait)
			}
		}
	}
	return p, nil
}

// A CommandPage is some commands.
type CommandPage struct {
	Commands []deed.CommandStatus `json:"commands"`
	Next     string               `json:"next,omitempty"` // pass as after to go on; missing = there are no more
}

// commandStates are the states that a command can be in.
var commandStates = []deed.CommandState{
	deed.CommandReceived, deed.CommandRunning, deed.CommandRetrying, deed.CommandInvalid, deed.CommandFailed,
	deed.CommandUndoing, deed.CommandCompleted, deed.CommandRejected, deed.CommandCancelled,
}

// commands answers a page of commands, the latest first unless the request says
// otherwise.
func (a *api) commands(w http.ResponseWriter, r *http.Request) error {
	filters := []string{"state", "command", "actor"}
	q, err := query(r, append(append(filters, "sort", "limit", "after"), viewParams...)...)
	if err != nil {
		return err
	}
	if err := oneOf("state", q.Get("state"), commandStates); err != nil {
		return err
	}
	filterBy(q, q, filters...)
	if q.Get("sort") == "" {
		q.Set("sort", "-received_at")
	}
	rows, next, err := a.page(w, r, "commands", q)
	if err != nil {
		return err
	}
	commands, err := documentsOf[deed.CommandStatus]("commands", rows)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, CommandPage{Commands: commands, Next: next})
}

// cancelCommand asks for a command to be called off.
func (a *api) cancelCommand(w http.ResponseWriter, r *http.Request) error {
	reason, err := a.reason(w, r)
	if err != nil {
		return err
	}
	return a.askOf(w, r, func(ctx context.Context, id string) error { return a.rt.Commands().Cancel(ctx, id, reason) })
}

// resumeCommand lets a command go on that is stuck.
func (a *api) resumeCommand(w http.ResponseWriter, r *http.Request) error {
	return a.askOf(w, r, a.rt.Commands().Resume)
}

// correctCommand gives an invalid command other parameters.
func (a *api) correctCommand(w http.ResponseWriter, r *http.Request) error {
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	return a.askOf(w, r, func(ctx context.Context, id string) error { return a.rt.Commands().Correct(ctx, id, body) })
}

func (a *api) askOf(w http.ResponseWriter, r *http.Request, do func(context.Context, string) error) error {
	if _, err := query(r); err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if err := do(deed.With(r.Context(), call), id); err != nil {
		return noCommand(err)
	}
	s, err := a.life(r.Context(), id)
	if err != nil {
		return err
	}
	return answer(w, http.StatusAccepted, s)
}

// liveCommand sends the events of a command's stream as they happen, until it
// is over (server-sent events).
func (a *api) liveCommand(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	return a.liveStream(w, r, "$command/"+id, func(ctx context.Context) (bool, error) {
		s, err := a.rt.Commands().Get(ctx, id)
		return s.State.Over(), noCommand(err)
	})
}
