package httpapi

import (
	"context"
	"net/http"

	"github.com/deed-dev/deed"
)

// repairBody is what goes with a request to repair a process or saga.
type repairBody struct {
	Reason string `json:"reason"`
	Step   string `json:"step"` // that is to be passed over
}

// repair asks something of a process or saga: cancel, retry, undo, skip or
// close.
func (a *api) repair(kind, verb string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := query(r); err != nil {
			return err
		}
		call, err := callOf(r)
		if err != nil {
			return err
		}
		var body repairBody
		if err := a.decode(w, r, &body); err != nil {
			return err
		}
		if body.Step != "" && verb != "skip" {
			return deed.Invalid{Field: "step", Detail: "is only for skip"}
		}
		name, id := r.PathValue("name"), r.PathValue("id")
		i, err := a.ask(deed.With(r.Context(), call), verb, kind, name, id, body)
		if err != nil {
			return noInstance(err, kind, name, id)
		}
		return answer(w, http.StatusOK, i)
	}
}

func (a *api) ask(ctx context.Context, verb, kind, name, id string, body repairBody) (deed.Instance, error) {
	all := a.rt.Instances()
	switch verb {
	case "cancel":
		return all.Cancel(ctx, kind, name, id, body.Reason)
	case "retry":
		return all.Retry(ctx, kind, name, id, body.Reason)
	case "undo":
		return all.Undo(ctx, kind, name, id, body.Reason)
	case "skip":
		if body.Step == "" && kind == "saga" {
			return deed.Instance{}, deed.Invalid{Field: "step", Detail: "is missing: say which one to pass over"}
		}
		return all.Skip(ctx, kind, name, id, body.Step, body.Reason)
	}
	return all.Close(ctx, kind, name, id, body.Reason)
}
