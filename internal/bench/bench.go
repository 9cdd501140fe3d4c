// Package bench measures deed on SQLite as ratios to what the disk itself can
// do, taken in the same run: disks differ, and differ from minute to minute.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// Options say what to measure.
type Options struct {
	Dir      string  // on the disk to measure; "" = a fresh folder below the present one
	Seconds  float64 // for each rate; default 3
	Events   int     // in the log that is read; default 1,000,000
	Progress io.Writer
}

// A Figure is something measured.
type Figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Ratio  float64 `json:"ratio,omitempty"`  // to Of
	Of     string  `json:"of,omitempty"`     // the reference
	Target float64 `json:"target,omitempty"` // of the ratio, or of the value if there is none
	AtMost bool    `json:"at_most,omitempty"`
	Met    bool    `json:"met"` // the target is met, or there is none
}

// A Report is all that was measured.
type Report struct {
	Seconds float64  `json:"seconds"`
	Events  int      `json:"events"`
	Figures []Figure `json:"figures"`
}

// Print writes the report for people.
func (r Report) Print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tRATIO\tTARGET\t")
	for _, f := range r.Figures {
		ratio, target, met := "", "", ""
		if f.Of != "" {
			ratio = fmt.Sprintf("%.2f of %s", f.Ratio, f.Of)
		}
		if f.Target > 0 {
			sign := ">="
			if f.AtMost {
				sign = "<="
			}
			target = fmt.Sprintf("%s %s", sign, number(f.Target))
			if met = "ok"; !f.Met {
				met = "MISSED"
			}
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, ratio, target, met)
	}
	w.Flush()
}

func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// run is one run of the benchmark.
type run struct {
	Options
	ctx    context.Context
	d      time.Duration
	report Report
	raw1   float64
	raw64  float64
}

// Run measures everything.
func Run(ctx context.Context, o Options) (_ Report, err error) {
	if o.Seconds <= 0 {
		o.Seconds = 3
	}
	if o.Events <= 0 {
		o.Events = 1_000_000
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	r := &run{Options: o, ctx: ctx, d: time.Duration(o.Seconds * float64(time.Second)), report: Report{Seconds: o.Seconds, Events: o.Events}}
	if r.Dir, err = os.MkdirTemp(orHere(o.Dir), "deed-bench-"); err != nil {
		return r.report, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.Dir)) }()
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"the bare disk", r.disk}, {"appends", r.appends}, {"commands", r.commands}, {"the journal", r.journal}, {"commands over HTTP", r.overHTTP},
		{fmt.Sprintf("a log of %d events", o.Events), r.log}, {fmt.Sprintf("a view of %d documents", o.Events), r.views},
	} {
		fmt.Fprintf(o.Progress, "measuring %s ...\n", step.name)
		if err := step.run(); err != nil {
			return r.report, fmt.Errorf("bench: %s: %w", step.name, err)
		}
		if err := ctx.Err(); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

func orHere(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

func (r *run) path(name string) string { return filepath.Join(r.Dir, name) }

// note adds a plain figure.
func (r *run) note(name string, v float64, unit string) {
	r.report.Figures = append(r.report.Figures, Figure{Name: name, Value: v, Unit: unit, Met: true})
}

// ratio adds a figure whose ratio to a reference has a target.
func (r *run) ratio(name string, v float64, unit string, of string, reference, target float64) {
	f := Figure{Name: name, Value: v, Unit: unit, Ratio: v / reference, Of: of, Target: target}
	f.Met = f.Ratio >= target
	r.report.Figures = append(r.report.Figures, f)
}

// atLeast and atMost add figures that have targets of their own.
func (r *run) atLeast(name string, v float64, unit string, target float64) {
	r.report.Figures = append(r.report.Figures, Figure{Name: name, Value: v, Unit: unit, Target: target, Met: v >= target})
}

func (r *run) atMost(name string, v float64, unit string, target float64) {
	r.report.Figures = append(r.report.Figures, Figure{Name: name, Value: v, Unit: unit, Target: target, AtMost: true, Met: v <= target})
}

func (r *run) disk() (err error) {
	if r.raw1, err = rawSingle(r.Dir, r.d); err != nil {
		return err
	}
	if r.raw64, err = rawGroup(r.Dir, 64, r.d); err != nil {
		return err
	}
	r.note("disk: append + fdatasync, 1 writer", r.raw1, "appends/s")
	r.note("disk: group commit, 64 writers", r.raw64, "appends/s")
	return nil
}
