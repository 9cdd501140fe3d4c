package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/internal/inbound"
)

// ReceptionList is the receptions there are.
type ReceptionList struct {
	Receptions []deed.ReceptionInfo `json:"receptions"`
}

func (a *api) receptions(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return answer(w, http.StatusOK, ReceptionList{a.rt.Receptions()})
}

// senderRoles returns who may send messages to the reception that a request is about.
func (a *api) senderRoles(r *http.Request) []string {
	all := a.rt.Receptions()
	i := slices.IndexFunc(all, func(x deed.ReceptionInfo) bool { return x.Name == r.PathValue("reception") })
	if i < 0 {
		return []string{auth.RoleOperator}
	}
	return append(slices.Clone(all[i].Roles), auth.RoleOperator)
}

// sendMessages takes messages of somebody that this program knows, as CloudEvents.
func (a *api) sendMessages(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	messages, err := inbound.Settings{}.Decode(r.Header, body)
	if err != nil {
		return err
	}
	got, err := a.rt.Accept(deed.With(r.Context(), call), r.PathValue("reception"), messages...)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, got)
}

// receive takes messages of a sender, which proves itself who it is. It answers 2xx
// when they are stored. What it cannot do now is 503: many senders give up what is
// answered with 4xx.
func (a *api) receive(w http.ResponseWriter, r *http.Request) error {
	reception, name := r.PathValue("reception"), r.PathValue("name")
	sender, err := a.senders.Get(r.Context(), reception, name)
	if err != nil {
		return err
	}
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	if err := sender.Verify(r, body, time.Now()); err != nil {
		return err
	}
	noteActor(r.Context(), name)
	if consent, err := sender.Consent(r.Header, body); consent != nil || err != nil {
		if err != nil {
			return err
		}
		return answer(w, http.StatusOK, consent)
	}
	messages, err := sender.Decode(r.Header, body)
	if err != nil {
		return err
	}
	call := deed.Call{Actor: name, Source: "http", Correlation: traceOf(r.Header.Get("Traceparent"))}
	got, err := a.rt.Accept(deed.With(r.Context(), call), reception, messages...)
	switch {
	case errors.Is(err, deed.ErrUnknown):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "this program does not know the reception "+reception+", though it has a sender: send it again later")
	case errors.Is(err, deed.ErrOutcomeUnknown):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "the store's answer was lost: send it again, what is stored is taken once")
	case err != nil:
		return err
	}
	return answer(w, http.StatusOK, got)
}

// consent answers a CloudEvents sender that asks whether its messages are wanted.
func (a *api) consent(w http.ResponseWriter, r *http.Request) error {
	sender, err := a.senders.Get(r.Context(), r.PathValue("reception"), r.PathValue("name"))
	if err != nil {
		return err
	}
	headers, err := sender.ConsentTo(r.Header)
	if err != nil {
		return err
	}
	for name, v := range headers {
		w.Header().Set(name, v)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// inboundProblem is the part of the mapping from errors to HTTP that is about
// messages of others.
func inboundProblem(err error) (Problem, bool) {
	refusal, refused := errors.AsType[inbound.Refusal](err)
	switch {
	case refused && refusal.Status == http.StatusUnauthorized:
		p := problem(refusal.Status, CodeUnauthenticated, refusal.Detail)
		p.challenge = `Webhook realm="deed"`
		return p, true
	case refused && refusal.Status == http.StatusForbidden:
		return problem(refusal.Status, CodeForbidden, refusal.Detail), true
	case refused:
		return problem(refusal.Status, CodeUnsupportedMedia, refusal.Detail), true
	case errors.Is(err, inbound.ErrNoSender):
		return problem(http.StatusNotFound, CodeNotFound, plain(err)), true
	case errors.Is(err, deed.ErrNoCommands):
		return problem(http.StatusUnprocessableEntity, CodeRejected, plain(err)), true
	}
	return Problem{}, false
}
