package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// A report is all that was measured.
type report struct {
	Started time.Time `json:"started"`
	Disk    []float64 `json:"sync_ms"` // of the bare disk, at the beginning of each round
	Rows    []*row    `json:"rows"`
}

// A row is a cell, what each round measured of it, and the medians.
type row struct {
	System string   `json:"system"`
	Store  string   `json:"store"`
	Shape  string   `json:"shape"`
	Flight int      `json:"flight"`
	Rounds []result `json:"rounds"`
	Median result   `json:"median"`
}

func (r *report) add(c cell, one result) {
	x := r.find(c.System, c.Store, c.Shape, c.Flight)
	if x == nil {
		x = &row{System: c.System, Store: c.Store, Shape: c.Shape, Flight: c.Flight}
		r.Rows = append(r.Rows, x)
	}
	x.Rounds = append(x.Rounds, one)
	x.Median = medians(x.Rounds)
}

func (r *report) find(system, store, shape string, flight int) *row {
	for _, x := range r.Rows {
		if x.System == system && x.Store == store && x.Shape == shape && x.Flight == flight {
			return x
		}
	}
	return nil
}

// medians takes the median of each figure for itself.
func medians(all []result) result {
	of := func(f func(result) float64) float64 {
		var v []float64
		for _, r := range all {
			v = append(v, f(r))
		}
		return median(v)
	}
	return result{
		Sagas: int(of(func(r result) float64 { return float64(r.Sagas) })),
		Rate:  of(func(r result) float64 { return r.Rate }), P50: of(func(r result) float64 { return r.P50 }), P99: of(func(r result) float64 { return r.P99 }),
		CPU: of(func(r result) float64 { return r.CPU }), Server: of(func(r result) float64 { return r.Server }),
		Settled: of(func(r result) float64 { return r.Settled }),
		Per: counts{
			Appends: of(func(r result) float64 { return r.Per.Appends }), Records: of(func(r result) float64 { return r.Per.Records }),
			Writes: of(func(r result) float64 { return r.Per.Writes }), Docs: of(func(r result) float64 { return r.Per.Docs }),
			Commits: of(func(r result) float64 { return r.Per.Commits }), Syncs: of(func(r result) float64 { return r.Per.Syncs }),
			Logged: of(func(r result) float64 { return r.Per.Logged }),
		},
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// print writes the report for people.
func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "4 KiB and a sync of the disk: %.2f ms\n", median(r.Disk))
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "store\tshape\tin flight\tsystem\tsagas/s\tp50 ms\tp99 ms\tCPU ms\tserver ms\tappends\trecords\tcommits\tsyncs\tdocs\tWAL kB\tsettle s\t")
	for _, x := range r.Rows {
		m := x.Median
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f\t\n", x.Store, x.Shape, x.Flight, x.System,
			m.Rate, m.P50, m.P99, m.CPU, m.Server, some(m.Per.Appends), some(m.Per.Records), some(m.Per.Commits), some(m.Per.Syncs), some(m.Per.Docs),
			some(m.Per.Logged/1000), m.Settled)
	}
	w.Flush()
	r.targets(out)
}

func some(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// targets says how deed stands beside DBOS: three times the sagas with many in
// flight, and a lone one no slower.
func (r *report) targets(out io.Writer) {
	for _, x := range r.Rows {
		other := r.find("dbos", x.Store, x.Shape, x.Flight)
		if x.System != "deed" || other == nil {
			continue
		}
		if x.Flight == 1 {
			ratio := x.Median.P50 / other.Median.P50
			fmt.Fprintf(out, "%s, %s: alone %.2f of DBOS's median (target <= 1) %s\n", x.Store, x.Shape, ratio, met(ratio <= 1))
			continue
		}
		ratio := x.Median.Rate / other.Median.Rate
		fmt.Fprintf(out, "%s, %s: %.1f times DBOS's sagas/s (target >= 3) %s\n", x.Store, x.Shape, ratio, met(ratio >= 3))
	}
}

func met(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSED"
}
