package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
)

// A Problem is the body of every answer that is not a success (RFC 9457).
// Its code is stable; the detail is for people.
type Problem struct {
	Type    string         `json:"type"` // "about:blank": the code says it all
	Title   string         `json:"title"`
	Status  int            `json:"status"`
	Code    string         `json:"code"`
	Detail  string         `json:"detail,omitempty"`
	Reason  string         `json:"reason,omitempty"`  // the domain's own code, if code is rejected
	Version *uint64        `json:"version,omitempty"` // the entity's version now, if code is conflict
	Errors  []FieldProblem `json:"errors,omitempty"`  // what is wrong with which field, if code is invalid
	Request string         `json:"request,omitempty"` // the request's id, as in the log of the server

	retry     time.Duration // when to ask again
	challenge string        // what to show instead (WWW-Authenticate)
}

// A FieldProblem says what is wrong with a field of the request.
type FieldProblem struct {
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail"`
}

// The codes of problems.
const (
	CodeInvalid             = "invalid"
	CodeUnauthenticated     = "unauthenticated"
	CodeForbidden           = "forbidden"
	CodeNotFound            = "not_found"
	CodeMethodNotAllowed    = "method_not_allowed"
	CodeConflict            = "conflict"
	CodeInProgress          = "in_progress"
	CodeRejected            = "rejected"
	CodeIdempotencyMismatch = "idempotency_mismatch"
	CodeTooLarge            = "too_large"
	CodeQuotaExceeded       = "quota_exceeded"
	CodeUnavailable         = "unavailable"
	CodeOutcomeUnknown      = "outcome_unknown"
	CodeCorrupt             = "corrupt"
	CodeUnsupported         = "unsupported"
	CodeUnsupportedMedia    = "unsupported_media_type"
	CodeInternal            = "internal"
)

// codes are all of them.
var codes = []string{
	CodeInvalid, CodeUnauthenticated, CodeForbidden, CodeNotFound, CodeMethodNotAllowed, CodeConflict, CodeInProgress, CodeRejected, CodeIdempotencyMismatch,
	CodeTooLarge, CodeQuotaExceeded, CodeUnavailable, CodeOutcomeUnknown, CodeCorrupt, CodeUnsupported, CodeUnsupportedMedia, CodeInternal,
}

// reasonExists is the code under which it is recorded that an id is in use.
const reasonExists = "exists"

func problem(status int, code, detail string) Problem {
	return Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf is the whole mapping from errors to HTTP. What it does not know
// is internal, and none of the caller's business.
func problemOf(err error) Problem {
	var (
		rejected deed.Rejected
		conflict deed.Conflict
		faster   *store.ConflictError
		tooLarge *http.MaxBytesError
		quota    deed.QuotaExceeded
		given    Problem
	)
	if p, ok := authProblem(err); ok {
		return p
	}
	if p, ok := subscriptionProblem(err); ok {
		return p
	}
	if p, ok := inboundProblem(err); ok {
		return p
	}
	switch {
	case errors.As(err, &given):
		return given
	case errors.As(err, &rejected):
		return rejection(rejected)
	case errors.As(err, &conflict):
		p := problem(http.StatusConflict, CodeConflict, "the entity has changed: read it again, then decide")
		p.Version = &conflict.Version
		return p
	case errors.As(err, &faster):
		return problem(http.StatusConflict, CodeConflict, "others were faster: ask again")
	case errors.As(err, &quota):
		p := problem(http.StatusTooManyRequests, CodeQuotaExceeded, plain(quota))
		p.retry = quota.Retry
		return p
	case isForbidden(err):
		return problem(http.StatusForbidden, CodeForbidden, plain(err))
	case errors.As(err, &tooLarge):
		return problem(http.StatusRequestEntityTooLarge, CodeTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit))
	case isInvalid(err):
		p := problem(http.StatusBadRequest, CodeInvalid, "")
		p.Errors = fields(err)
		p.Detail = summary(p.Errors)
		return p
	case errors.Is(err, deed.ErrUnknown), errors.Is(err, deed.ErrNotFound),
		errors.Is(err, deed.ErrNoFollower), errors.Is(err, deed.ErrNoDeadLetter), errors.Is(err, deed.ErrNoJob):
		return problem(http.StatusNotFound, CodeNotFound, plain(err))
	case errors.Is(err, deed.ErrInProgress):
		return problem(http.StatusConflict, CodeInProgress, "a command with this Idempotency-Key is being handled: ask again shortly")
	case errors.Is(err, deed.ErrMismatch):
		return problem(http.StatusUnprocessableEntity, CodeIdempotencyMismatch, "this Idempotency-Key was used for another command or other contents: use a new key")
	case errors.Is(err, deed.ErrNotRebuildable), errors.Is(err, deed.ErrNotEditable), errors.Is(err, deed.ErrNotRunning), errors.Is(err, deed.ErrStands),
		errors.Is(err, deed.ErrVersionGone), errors.Is(err, deed.ErrDecided), errors.Is(err, deed.ErrClaimed),
		errors.Is(err, deed.ErrFollowerInUse), errors.Is(err, deed.ErrCompacting),
		errors.Is(err, deed.ErrNoRebuild), errors.Is(err, deed.ErrRebuilding), errors.Is(err, deed.ErrNoFormer),
		errors.Is(err, deed.ErrNotCaughtUp), errors.Is(err, deed.ErrOtherVersion):
		return problem(http.StatusConflict, CodeConflict, plain(err))
	case errors.Is(err, store.ErrInvalid):
		return problem(http.StatusBadRequest, CodeInvalid, plain(err))
	case errors.Is(err, deed.ErrOutcomeUnknown):
		return problem(http.StatusGatewayTimeout, CodeOutcomeUnknown, "the store's answer was lost: ask again with the same Idempotency-Key")
	case errors.Is(err, deed.ErrNotPublic):
		return problem(http.StatusInternalServerError, CodeInternal, plain(err))
	case errors.Is(err, errors.ErrUnsupported):
		return problem(http.StatusNotImplemented, CodeUnsupported, plain(err))
	case errors.Is(err, store.ErrCorrupt):
		return problem(http.StatusInternalServerError, CodeCorrupt, "stored data is damaged: the log says where; run deed check, then restore a backup")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, "the store cannot serve at the moment: ask again later")
	}
	return problem(http.StatusInternalServerError, CodeInternal, "this is a defect of the program: the server's log has the details")
}

// plain is an error's text without the names of packages.
func plain(err error) string {
	s := err.Error()
	for _, prefix := range []string{"deed: ", "engine: ", "store: ", "unknown name: ", "invalid argument: ", "unsupported operation: ", "auth: ", "invalid: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}

func rejection(r deed.Rejected) Problem {
	reason := r.Reason()
	switch {
	case errors.Is(r.Err, deed.ErrNotFound):
		return problem(http.StatusNotFound, CodeNotFound, reason.Text)
	case errors.Is(r.Err, deed.ErrExists):
		return problem(http.StatusConflict, CodeConflict, reason.Text)
	}
	p := problem(http.StatusUnprocessableEntity, CodeRejected, reason.Text)
	p.Reason = reason.Code
	return p
}

func isForbidden(err error) bool {
	_, ok := errors.AsType[deed.Forbidden](err)
	return ok
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[deed.Invalid](err)
	return ok
}

// maxFields bounds how many field problems one answer lists.
const maxFields = 20

// fields lists every Invalid in a tree of joined errors.
func fields(err error) []FieldProblem {
	if inv, ok := err.(deed.Invalid); ok {
		return []FieldProblem{{inv.Field, inv.Detail}}
	}
	switch x := err.(type) {
	case interface{ Unwrap() []error }:
		var out []FieldProblem
		for _, e := range x.Unwrap() {
			out = append(out, fields(e)...)
		}
		return out[:min(len(out), maxFields)]
	case interface{ Unwrap() error }:
		return fields(x.Unwrap())
	}
	return nil
}

func summary(ps []FieldProblem) string {
	s := ""
	for i, p := range ps {
		if i > 0 {
			s += "; "
		}
		if p.Field != "" {
			s += p.Field + " "
		}
		s += p.Detail
	}
	return s
}

// Error makes a Problem an error, so that helpers can return one.
func (p Problem) Error() string { return p.Code + ": " + p.Detail }

func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	p.Request = requestID(r.Context())
	if p.Status >= 500 && r.Context().Err() == nil {
		a.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("request", p.Request), slog.Any("error", err))
	}
	if p.Status == http.StatusServiceUnavailable {
		p.retry = time.Second
	}
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	if rejected, ok := errors.AsType[deed.Rejected](err); ok && rejected.Replay {
		w.Header().Set("Idempotent-Replay", "true")
	}
	if p.challenge != "" {
		w.Header().Set("WWW-Authenticate", p.challenge)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the caller may be gone: then nobody minds
}
