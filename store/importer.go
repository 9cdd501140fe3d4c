package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Importer is a store that takes over records of another store as they are.
type Importer interface {
	// Import records recs at the end of the log, in their order, with their
	// ids, versions and times; only their positions are new. Nobody else may
	// append meanwhile. It is not atomic: if it fails, some of the first of
	// recs may be recorded.
	Import(ctx context.Context, recs []Record) error
}

// Import imports records, or returns [errors.ErrUnsupported].
func Import(ctx context.Context, s Store, recs []Record) error {
	im, ok := s.(Importer)
	if !ok {
		return fmt.Errorf("%w: this store takes over no records", errors.ErrUnsupported)
	}
	return im.Import(ctx, recs)
}

// A Run is consecutive records as an append would have written them.
type Run struct {
	Writes []Write
	Times  []time.Time // of the events of all writes, in their order
}

// Runs divides records into appends: for backends that import as they append.
func Runs(recs []Record) []Run {
	var runs []Run
	var seen map[string]bool
	for _, r := range recs {
		n := len(runs)
		last := n > 0 && runs[n-1].Writes[len(runs[n-1].Writes)-1].Stream == r.Stream
		if n == 0 || seen[r.Stream] && !last {
			runs, seen = append(runs, Run{}), map[string]bool{}
			n, last = n+1, false
		}
		run := &runs[n-1]
		if !last {
			run.Writes = append(run.Writes, Write{Stream: r.Stream, Expect: Exactly(r.Version - 1)})
			seen[r.Stream] = true
		}
		w := &run.Writes[len(run.Writes)-1]
		w.Events = append(w.Events, Event{ID: r.ID, Type: r.Type, Data: r.Data, Meta: r.Meta})
		run.Times = append(run.Times, r.Time)
	}
	return runs
}
