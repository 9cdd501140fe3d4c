package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/deed-dev/deed"
)

// command asks a command of an entity. Without an id in the path the server
// makes one, and answers 201 with its place.
func (a *api) command(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	prefer, err := preferenceOf(r.Header)
	if err != nil {
		return err
	}
	call.Async = prefer.async
	if call.Callbacks, err = callbacksOf(r.Header); err != nil {
		return err
	}
	body, err := a.body(w, r)
	if err != nil {
		return err
	}
	aggregate, id, name := r.PathValue("aggregate"), r.PathValue("id"), r.PathValue("command")
	receipt, err := a.rt.Dispatch(deed.With(r.Context(), call), aggregate, id, name, body)
	a.metrics.command(aggregate, name, err)
	if err != nil {
		return err
	}
	if receipt.Replay {
		w.Header().Set("Idempotent-Replay", "true")
	}
	if receipt.Pending {
		return a.stored(w, r, receipt, prefer)
	}
	w.Header().Set("ETag", etag(receipt.Version))
	status := http.StatusOK
	if id == "" {
		_, made, _ := strings.Cut(receipt.Stream, "/")
		w.Header().Set("Location", "/v1/"+aggregate+"/"+url.PathEscape(made))
		status = http.StatusCreated
	}
	return answer(w, status, receipt)
}

// body reads the body of a request.
func (a *api) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.opts.MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, err
		}
		return nil, deed.Invalid{Detail: "the body could not be read to its end"}
	}
	return body, nil
}

// noCommandHeaders refuses the headers that only commands have.
func noCommandHeaders(r *http.Request) error {
	for _, name := range []string{"If-Match", "Deed-Callback"} {
		if len(r.Header.Values(name)) > 0 {
			return deed.Invalid{Detail: "the header " + name + " is for commands"}
		}
	}
	return nil
}

// callOf reads the circumstances of a command from the headers.
func callOf(r *http.Request) (deed.Call, error) {
	h := r.Header
	for _, name := range []string{"Idempotency-Key", "If-Match", "X-Actor", "X-Correlation-Id", "X-Causation-Id"} {
		if len(h.Values(name)) > 1 {
			return deed.Call{}, deed.Invalid{Detail: "the header " + name + " is given twice"}
		}
	}
	call := deed.Call{
		ID: unquote(h.Get("Idempotency-Key")), Actor: h.Get("X-Actor"), Source: "http",
		Correlation: h.Get("X-Correlation-Id"), Causation: h.Get("X-Causation-Id"),
	}
	if call.ID == "" && len(h.Values("Idempotency-Key")) > 0 {
		return call, deed.Invalid{Detail: "the Idempotency-Key is empty"}
	}
	if trace := h.Get("Traceparent"); isTraceparent(trace) {
		call.Trace = trace
	}
	if call.Correlation == "" {
		call.Correlation = traceOf(h.Get("Traceparent"))
	}
	if m := h.Get("If-Match"); m != "" {
		v, err := strconv.ParseUint(unquote(m), 10, 63)
		if err != nil {
			return call, deed.Invalid{Detail: `If-Match must be a version in quotes, as in If-Match: "3"`}
		}
		call.IfVersion = &v
	}
	return asking(r, call), nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// An Entity is the state of an entity.
type Entity struct {
	Aggregate string  `json:"aggregate"`
	ID        string  `json:"id"`
	Version   uint64  `json:"version"`
	State     rawJSON `json:"state"`
}

// state answers an entity's state, now or in the past.
func (a *api) state(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "version", "at", "position", "effective")
	if err != nil {
		return err
	}
	from, err := a.reader(q)
	if err != nil {
		return err
	}
	aggregate, id := r.PathValue("aggregate"), r.PathValue("id")
	data, version, err := a.rt.State(r.Context(), from, aggregate, id)
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "there is no "+aggregate+"/"+short(id))
	}
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(version))
	if r.Header.Get("If-None-Match") == etag(version) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return answer(w, http.StatusOK, Entity{aggregate, id, version, rawJSON(data)})
}
