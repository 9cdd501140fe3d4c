package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/deed-dev/deed"
)

// A Blame says which fields of a state events have changed, and which of
// them it was that made each what it is.
type Blame struct {
	Aggregate string             `json:"aggregate"`
	ID        string             `json:"id"`
	Changes   []deed.FieldChange `json:"changes"`
}

// blame compares two states of an entity.
func (a *api) blame(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r, "from", "to")
	if err != nil {
		return err
	}
	from, err := a.moment(q, "from")
	if err != nil {
		return err
	}
	to, err := a.moment(q, "to")
	if err != nil {
		return err
	}
	if to == nil {
		to = a.rt
	}
	aggregate, id := r.PathValue("aggregate"), r.PathValue("id")
	changes, err := a.rt.Blame(r.Context(), from, to, aggregate, id)
	if errors.Is(err, deed.ErrNotFound) {
		return problem(http.StatusNotFound, CodeNotFound, "there was no "+aggregate+"/"+short(id))
	}
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, Blame{aggregate, id, changes})
}

// moment is the reader of a version or a time; nil if none is given.
func (a *api) moment(q url.Values, name string) (deed.Reader, error) {
	text := q.Get(name)
	if text == "" {
		return nil, nil
	}
	if v, err := strconv.ParseUint(text, 10, 63); err == nil {
		if v == 0 {
			return nil, nil
		}
		return a.rt.AtVersion(v), nil
	}
	t, err := timeParam(q, name)
	if err != nil {
		return nil, deed.Invalid{Field: name, Detail: "must be a version or a time, like 3 or 2026-02-03T04:05:06Z"}
	}
	return a.rt.AsOf(t), nil
}
