package farm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed"
)

// InspectTB is a TB inspection of a group of cattle.
type InspectTB struct {
	Cows      []string `json:"cows"`
	Reactors  []string `json:"reactors"` // those of Cows that were not clear
	Date      string   `json:"date"`
	Inspector string   `json:"inspector"`
}

// maxInspected is how many entities one atomic decision can concern.
const maxInspected = 500

func (c InspectTB) Validate() error {
	errs := []error{checkDay("date", c.Date, false), deed.Required("inspector", c.Inspector), distinct("cows", c.Cows)}
	if n := len(c.Cows); n < 1 || n > maxInspected {
		errs = append(errs, deed.Invalid{Field: "cows", Detail: fmt.Sprintf("must name from 1 to %d animals", maxInspected)})
	}
	for i, id := range c.Reactors {
		if !slices.Contains(c.Cows, id) {
			errs = append(errs, deed.Invalid{Field: fmt.Sprintf("reactors.%d", i), Detail: "is not one of those inspected"})
		}
	}
	return errors.Join(errs...)
}

// InspectHerd is one decision about a named group. If one of the animals is
// unknown, nothing is recorded of any.
var InspectHerd = deed.Stepwise[InspectTB]{
	Name: "herd.tb-inspection",
	Doc:  "Records a TB inspection of a group of cattle, of all of them or of none.",
	Check: func(ctx context.Context, r deed.Reader, _ string, c InspectTB) ([]deed.Finding, error) {
		return unknown(ctx, r, Cows, "cows", c.Cows)
	},
	Steps: []deed.Step[InspectTB]{{Name: "record", Do: func(ctx context.Context, w *deed.Work, c InspectTB) error {
		var all []deed.Sending
		for _, id := range c.Cows {
			all = append(all, deed.Send(Cows, id, inspect{TBInspected{
				Inspection: w.Command, Date: c.Date, Inspector: c.Inspector, Reactor: slices.Contains(c.Reactors, id),
			}}))
		}
		return w.AskTogether(ctx, all...)
	}}},
}

// RelocateHerd moves many animals to one place.
type RelocateHerd struct {
	Cows []string `json:"cows"`
	To   string   `json:"to"`
}

func (c RelocateHerd) Validate() error {
	return errors.Join(checkPlace("to", c.To), deed.Required("cows", len(c.Cows)), distinct("cows", c.Cows))
}

// MoveHerd moves a group of any size, one animal after the other. Where each
// was is kept first: if one of them cannot be moved, or somebody calls the
// command off, those that were moved go back.
//
// Undo belongs to the first step for that reason: it holds whatever the second
// got done.
var MoveHerd = deed.Stepwise[RelocateHerd]{
	Name: "herd.relocate",
	Doc:  "Moves many animals to a field or barn.",
	Check: func(ctx context.Context, r deed.Reader, _ string, c RelocateHerd) ([]deed.Finding, error) {
		cows, err1 := unknown(ctx, r, Cows, "cows", c.Cows)
		to, err2 := unknownPlace(ctx, r, "to", c.To)
		return append(cows, to...), errors.Join(err1, err2)
	},
	Steps: []deed.Step[RelocateHerd]{
		{
			Name: "remember",
			Do: func(ctx context.Context, w *deed.Work, c RelocateHerd) error {
				places := make([]string, len(c.Cows))
				err := each(ctx, c.Cows, func(ctx context.Context, i int) error {
					cow, _, err := Cows.Load(ctx, w.Reader(), c.Cows[i])
					places[i] = cow.Place
					return err
				})
				return errors.Join(err, w.Put(places))
			},
			Undo: func(ctx context.Context, w *deed.Work, c RelocateHerd) error {
				var places []string
				if err := w.Get("remember", &places); errors.Is(err, deed.ErrNotFound) {
					return nil // nothing was moved yet
				} else if err != nil {
					return err
				}
				var all []deed.Sending
				for i, id := range c.Cows {
					all = append(all, deed.Send(Cows, id, putBack{From: places[i], To: c.To}))
				}
				return w.Ask(ctx, all...)
			},
		},
		{Name: "relocate", Do: func(ctx context.Context, w *deed.Work, c RelocateHerd) error {
			var all []deed.Sending
			for _, id := range c.Cows {
				all = append(all, deed.Send(Cows, id, Relocate{To: c.To}))
			}
			return w.Ask(ctx, all...)
		}},
	},
}

// unknown finds the members of a group that do not exist.
func unknown[S any](ctx context.Context, r deed.Reader, a deed.Aggregate[S], field string, ids []string) ([]deed.Finding, error) {
	missing := make([]bool, len(ids))
	err := each(ctx, ids, func(ctx context.Context, i int) error {
		_, _, err := a.Load(ctx, r, ids[i])
		if missing[i] = errors.Is(err, deed.ErrNotFound); missing[i] {
			return nil
		}
		return err
	})
	var found []deed.Finding
	for i, id := range ids {
		if missing[i] {
			found = append(found, deed.Finding{Field: fmt.Sprintf("%s.%d", field, i), Text: "there is no " + a.Name + " " + id, Fatal: true})
		}
	}
	return found, err
}

func unknownPlace(ctx context.Context, r deed.Reader, field, place string) ([]deed.Finding, error) {
	kind, id, _ := strings.Cut(place, "/")
	var found []deed.Finding
	var err error
	if kind == Barns.Name {
		found, err = unknown(ctx, r, Barns, field, []string{id})
	} else {
		found, err = unknown(ctx, r, Fields, field, []string{id})
	}
	for i := range found {
		found[i].Field = field
	}
	return found, err
}

// each looks at many ids, some at the same time.
func each(ctx context.Context, ids []string, look func(ctx context.Context, i int) error) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(32)
	for i := range ids {
		all.Go(func() error { return look(ctx, i) })
	}
	return all.Wait()
}

// distinct refuses ids that are no ids or stand there twice.
func distinct(field string, ids []string) error {
	var errs []error
	seen := map[string]bool{}
	for i, id := range ids {
		switch at := fmt.Sprintf("%s.%d", field, i); {
		case id == "" || strings.ContainsAny(id, "/\\") || strings.TrimSpace(id) != id || len(id) > deed.MaxID:
			errs = append(errs, deed.Invalid{Field: at, Detail: "is no id"})
		case seen[id]:
			errs = append(errs, deed.Invalid{Field: at, Detail: "is named twice"})
		}
		seen[id] = true
	}
	return errors.Join(errs...)
}
