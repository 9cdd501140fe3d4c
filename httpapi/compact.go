package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
)

// compactFor is how long a request may be giving up streams. Who wants more of
// it done asks again.
const compactFor = 5 * time.Second

// compact gives up records of commands, as many as it gets done in one request.
// A dry run looks through all of them.
func (a *api) compact(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		OlderThan string `json:"older_than"`
		DryRun    bool   `json:"dry_run"`
	}
	call, err := callOf(r)
	if err != nil {
		return err
	}
	if err := a.decode(w, r, &body); err != nil {
		return err
	}
	age, err := time.ParseDuration(body.OlderThan)
	if err != nil {
		return deed.Invalid{Field: "older_than", Detail: "must be a duration, for example 720h"}
	}
	ctx := deed.With(r.Context(), call)
	if !body.DryRun {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, compactFor)
		defer stop()
	}
	out, err := a.rt.Compact(ctx, deed.Compaction{OlderThan: age, DryRun: body.DryRun})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, out)
}

func (a *api) forget(w http.ResponseWriter, r *http.Request) error {
	ctx, reason, err := a.actWithReason(w, r)
	if err != nil {
		return err
	}
	if err := a.rt.Followers().Forget(ctx, r.PathValue("name"), reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
