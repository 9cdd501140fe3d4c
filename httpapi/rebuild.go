package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/deed-dev/deed"
)

// How a rebuild ends, as POST /v1/rebuilds/{view} is told.
const (
	SwitchAuto  = "auto"  // by itself, when it has caught up
	SwitchAsked = "asked" // when POST /v1/rebuilds/{view}/switch is asked
)

// A RebuildRequest is the body of POST /v1/rebuilds/{view}; it may be empty.
type RebuildRequest struct {
	Switch string `json:"switch,omitempty"` // default: auto
}

func (a *api) rebuildStatus(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return a.answerRebuild(w, r, http.StatusOK)
}

func (a *api) answerRebuild(w http.ResponseWriter, r *http.Request, status int) error {
	s, err := a.rt.Rebuilds().Status(r.Context(), r.PathValue("view"))
	if err != nil {
		return err
	}
	return answer(w, status, s)
}

func (a *api) beginRebuild(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	var body RebuildRequest
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	if body.Switch != "" && body.Switch != SwitchAuto && body.Switch != SwitchAsked {
		return deed.Invalid{Field: "switch", Detail: "must be auto or asked"}
	}
	return a.doRebuild(w, r, func(ctx context.Context, view string) error {
		return a.rt.Rebuilds().Begin(ctx, view, body.Switch == SwitchAsked)
	})
}

// rebuildStep serves something to be done about a rebuild.
func (a *api) rebuildStep(do func(deed.Rebuilds, context.Context, string) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := query(r); err != nil {
			return err
		}
		return a.doRebuild(w, r, func(ctx context.Context, view string) error { return do(a.rt.Rebuilds(), ctx, view) })
	}
}

// doRebuild does something about a rebuild, in the name of the caller, and
// answers how things stand. It happens soon, and need not have happened yet.
func (a *api) doRebuild(w http.ResponseWriter, r *http.Request, do func(context.Context, string) error) error {
	call, err := callOf(r)
	if err != nil {
		return err
	}
	if err := do(deed.With(r.Context(), call), r.PathValue("view")); err != nil {
		return err
	}
	return a.answerRebuild(w, r, http.StatusAccepted)
}

// defaultSamples is how many documents that differ are shown.
const defaultSamples = 10

func (a *api) rebuildDiff(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "samples")
	if err != nil {
		return err
	}
	samples := defaultSamples
	if s := q.Get("samples"); s != "" {
		if samples, err = strconv.Atoi(s); err != nil || samples < 0 || samples > maxPage {
			return deed.Invalid{Field: "samples", Detail: "must be a number from 0 to 1000"}
		}
	}
	d, err := a.rt.Rebuilds().Diff(r.Context(), r.PathValue("view"), samples)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, d)
}
