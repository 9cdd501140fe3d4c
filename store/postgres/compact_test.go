package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// wholeOf is a stream as it is now.
func wholeOf(t testing.TB, s store.Log, name string) store.Whole {
	t.Helper()
	recs := must[[]store.Record](t)(collect(s.Read(t.Context(), name, store.Range{Backward: true, Limit: 1})))
	if len(recs) == 0 {
		t.Fatalf("there is no %s", name)
	}
	return store.Whole{Stream: name, Last: recs[0].Position}
}

// thinned is a log of order/0 to order/9 with gaps between their events.
func thinned(t testing.TB, s *postgres.Store) {
	t.Helper()
	var gone []store.Whole
	for i := range 20 {
		var writes []store.Write
		for j := range 10 {
			writes = append(writes, write(fmt.Sprintf("$c/%d-%d", i, j), store.None, events(2)...), write(fmt.Sprintf("order/%d", j), store.Any, event(`{}`)))
		}
		for k, w := range must[[]store.Written](t)(s.Append(t.Context(), writes...)) {
			if k%2 == 0 {
				gone = append(gone, store.Whole{Stream: writes[k].Stream, Last: w.Position})
			}
		}
	}
	for _, n := range must[[]uint64](t)(s.Compact(t.Context(), gone...)) {
		if n != 2 {
			t.Fatalf("%d events were removed", n)
		}
	}
}

// A process knows the end of streams by heart. When another one gives such a
// stream up, what the first appends to it is refused, not lost.
func TestOthersLearnOfCompaction(t *testing.T) {
	dsn := server.DSN(server.Schema())
	a, b := openWith(t, dsn, nil), openWith(t, dsn, nil)
	for round := range 20 {
		name := fmt.Sprintf("$c/%d", round)
		must[[]store.Written](t)(a.Append(t.Context(), write(name, store.None, events(2)...)))
		must[[]store.Written](t)(a.Append(t.Context(), write("order/1", store.Any, event(`{}`)))) // a knows by heart where the log ends
		if n := must[[]uint64](t)(b.Compact(t.Context(), wholeOf(t, b, name))); n[0] != 2 {
			t.Fatalf("%d events were removed", n[0])
		}
		_, err := a.Append(t.Context(), write(name, store.Exactly(2), event(`{}`)))
		if c, ok := errors.AsType[*store.ConflictError](err); !ok || c.Version != 0 {
			t.Fatalf("appending to what was given up: %v", err)
		}
		must[[]store.Written](t)(a.Append(t.Context(), write(name, store.None, event(`{}`))))
	}
	r, err := b.Check(t.Context(), func(uint64, uint64) {})
	if err != nil || len(r.Problems) > 0 || r.GivenUp != 40 || r.Events != 40 || r.Streams != 21 {
		t.Errorf("%+v, %v", r, err)
	}
}

// The check tells what is missing from what was given up, and so does whoever
// reads the log.
func TestCheckAfterCompaction(t *testing.T) {
	for name, c := range map[string]struct {
		damage string
		want   string // problem; "" = none
		reads  bool   // whoever reads the log does not notice either
	}{
		"nothing":                     {"SELECT 1", "", true},
		"an event is missing":         {"DELETE FROM {}.events WHERE pos = 33", "the event at position 33 is missing", false},
		"two are, and one is damaged": {"DELETE FROM {}.events WHERE pos IN (33, 36); UPDATE {}.events SET data = '{\"a\":1}' WHERE pos = 45", "event order/4@2 at position 45 fails", false},
		"the last one":                {"DELETE FROM {}.events WHERE pos = 600", "the event at position 600 is missing", false},
		"a gap is forgotten":          {"DELETE FROM {}.gone", "the event at position 1 is missing", false},
		"a gap covers an event":       {"UPDATE {}.gone SET bits = set_bit(bits, 33, 1)", "1 events are among those", true},
		"a stream is too long":        {"UPDATE {}.streams SET version = 25 WHERE name = 'order/3'", "stream order/3 is at version 25 but has 20", true},
	} {
		t.Run(name, func(t *testing.T) {
			schema := server.Schema()
			s := openWith(t, server.DSN(schema), nil)
			thinned(t, s)
			exec(t, session(t, server), strings.Split(strings.ReplaceAll(c.damage, "{}", schema), ";")...)
			r, err := s.Check(t.Context(), func(uint64, uint64) {})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && (len(r.Problems) > 0 || r.GivenUp != 400 || r.Events != 200 || r.Head != 600 || r.Streams != 10) {
				t.Errorf("%+v", r)
			}
			if c.want != "" && !slices.ContainsFunc(r.Problems, func(p string) bool { return strings.Contains(p, c.want) }) {
				t.Errorf("the check says %q, want %q", r.Problems, c.want)
			}
			_, err = collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
			if c.reads != (err == nil) || err != nil && !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("reading the log: %v", err)
			}
		})
	}
}

// A stream of which an event is missing is not given up.
func TestDamageIsNotCompacted(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), nil)
	must[[]store.Written](t)(s.Append(t.Context(), write("$c/1", store.None, events(3)...), write("$c/2", store.None, events(3)...)))
	one, two := wholeOf(t, s, "$c/1"), wholeOf(t, s, "$c/2")
	exec(t, session(t, server), "DELETE FROM "+schema+".events WHERE pos = 2")
	if _, err := s.Compact(t.Context(), two, one); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "$c/1") {
		t.Errorf("compacting what is damaged: %v", err)
	}
	if n := must[[]uint64](t)(s.Compact(t.Context(), two)); n[0] != 3 {
		t.Errorf("%d events were removed", n[0])
	}
}

// The connection is cut in the middle of a compaction: what the store says is
// true, and all of it has happened or nothing.
func TestLostAnswersOfCompactions(t *testing.T) {
	schema := server.Schema()
	s, p := disturbed(t, schema, *quick)
	other := openWith(t, server.DSN(schema), quick) // sees what happened
	round := 0
	prepare := func() (batch []store.Whole) {
		round++
		var writes []store.Write
		for i := range 6 {
			writes = append(writes, write(fmt.Sprintf("$c/%04d-%d", round, i), store.None, events(2)...))
		}
		for i, w := range must[[]store.Written](t)(other.Append(t.Context(), writes...)) {
			batch = append(batch, store.Whole{Stream: writes[i].Stream, Last: w.Position})
		}
		eventually(t, 5*time.Second, "the store works", func() bool { // with a connection that knows the statements
			_, err := s.Compact(t.Context(), batch[5])
			return err == nil
		})
		return batch[:5]
	}
	for range 2 { // the first describes the statements
		batch := prepare()
		p.arm(-1, -1)
		must[[]uint64](t)(s.Compact(t.Context(), batch...))
	}
	up, down, _ := p.arm(-1, -1)
	count := map[string]int{}
	for _, c := range places(up, down, *cuts/2) {
		batch := prepare()
		p.arm(c.up, c.down)
		_, err := s.Compact(t.Context(), batch...)
		p.arm(-1, -1)
		eventually(t, 10*time.Second, "its transaction ends", func() bool { // who has the head is waited for
			_, e := other.Append(t.Context(), store.Write{Stream: "a/none", Expect: store.Exactly(1 << 40)})
			_, conflict := errors.AsType[*store.ConflictError](e)
			return conflict
		})
		there := 0
		for _, w := range batch {
			there += len(must[[]store.Record](t)(collect(other.Read(t.Context(), w.Stream, store.Range{}))))
		}
		switch {
		case !honest(err):
			t.Errorf("cut at %v: %v", c, err)
		case there != 0 && there != 10, err == nil && there > 0, errors.Is(err, store.ErrUnavailable) && there == 0:
			t.Errorf("cut at %v: %v, and %d of 10 events are there", c, err, there)
		}
		count[fmt.Sprintf("unknown %v, done %v", errors.Is(err, store.ErrUnknown), there == 0)]++
	}
	t.Logf("%d bytes up, %d down: %v", up, down, count)
	if count["unknown true, done true"] == 0 || count["unknown false, done false"] == 0 {
		t.Error("these cuts prove nothing")
	}
	r, err := other.Check(t.Context(), func(uint64, uint64) {})
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// An installation of the first version goes on, and gets what it lacks.
func TestOldSchemaIsMigrated(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), nil)
	must[[]store.Written](t)(s.Append(t.Context(), write("$c/1", store.None, events(3)...), write("a/1", store.None, events(2)...)))
	s.Close()
	exec(t, session(t, server), "DROP TABLE "+schema+".gone", "DROP TABLE "+schema+".searched", "ALTER TABLE "+schema+".docs DROP COLUMN words", "DELETE FROM "+schema+".migrations WHERE n > 1")
	golden := func(version string) {
		t.Helper()
		got := strings.ReplaceAll(noise.ReplaceAllString(dump(t, server, "postgres", "--schema-only", "-n", schema), ""), schema, "deed")
		if want := string(must[[]byte](t)(os.ReadFile("testdata/schema-" + version + ".sql"))); got != want {
			t.Errorf("it is not the schema of version %s:\n%s", version, got)
		}
	}
	golden("1")
	s = openWith(t, server.DSN(schema), nil)
	golden("3")
	if n := must[[]uint64](t)(s.Compact(t.Context(), wholeOf(t, s, "$c/1"))); n[0] != 3 || len(logOf(t, s)) != 2 {
		t.Errorf("%d events were removed, %d are there", n[0], len(logOf(t, s)))
	}
}
