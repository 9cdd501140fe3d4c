package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/deed-dev/deed/store"
)

// importClauses hold for stores that are importers; others pass.
var importClauses = []Clause{
	clause("import/as-they-are", "a log that is moved to another store must stay the same log: ids, versions, order, times", func(ctx context.Context, s store.Store) {
		im, ok := s.(store.Importer)
		if !ok {
			return
		}
		recs := exported()
		check(im.Import(ctx, recs[:5]), "import")
		check(im.Import(ctx, recs[5:]), "import of the rest")
		got := all(ctx, s, store.Start, store.Filter{})
		equal(len(got), len(recs), "records")
		for i := range got {
			g, w := got[i], recs[i]
			if g.ID != w.ID || g.Stream != w.Stream || g.Version != w.Version || g.Type != w.Type || !g.Time.Equal(w.Time) || string(g.Data) != string(w.Data) || string(g.Meta) != string(w.Meta) {
				fail("record %d is %+v, want %+v", i, g, w)
			}
		}
		equal(len(stream(ctx, s, "a/1")), 5, "records of a stream")
	}),
	clause("import/then-append", "an imported log goes on: positions and times grow, expectations hold", func(ctx context.Context, s store.Store) {
		im, ok := s.(store.Importer)
		if !ok {
			return
		}
		recs := exported()
		check(im.Import(ctx, recs), "import")
		before := head(ctx, s)
		_, err := s.Append(ctx, write("a/1", store.Exactly(4), evs(1)...))
		wantConflict(err, "a/1", 5)
		w := must(ctx, s, write("a/1", store.Exactly(5), evs(2)...), write("new/1", store.None, evs(1)...))
		if last := recs[len(recs)-1]; w[0].Time.Before(last.Time) || before.Covers(w[0].Position) {
			fail("after %+v came %+v", last, w[0])
		}
	}),
}

// exported is a log whose streams interleave, of years ago but for its end.
func exported() (recs []store.Record) {
	at := time.Date(2019, 5, 6, 7, 8, 9, 123456000, time.UTC)
	versions := map[string]uint64{}
	for i, name := range []string{"a/1", "b/1", "a/1", "a/1", "c/1", "b/1", "a/1", "c/2", "a/1", "b/1"} {
		versions[name]++
		e := ev("done", fmt.Sprintf(`{"n":%d}`, i))
		recs = append(recs, store.Record{
			ID: e.ID, Stream: name, Version: versions[name], Type: e.Type, Time: at.Add(time.Duration(i/2) * time.Hour), Data: e.Data, Meta: e.Meta,
		})
	}
	recs[len(recs)-1].Time = time.Now().UTC().Truncate(time.Microsecond).Add(time.Minute) // by a clock that is ahead
	return recs
}
