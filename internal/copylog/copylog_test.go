package copylog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

func fill(t *testing.T, s store.Store, n int) {
	t.Helper()
	for i := range n {
		e := store.Event{Type: "done", Data: fmt.Appendf(nil, `{"n":%d}`, i), Meta: []byte(`{"actor":"a"}`)}
		rand.Read(e.ID[:])
		w := store.Write{Stream: fmt.Sprintf("a/%d", i%7), Expect: store.Any, Events: []store.Event{e}}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
}

func records(t *testing.T, s store.Store) (out []store.Record) {
	t.Helper()
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out
}

// What was copied is the same log; what was copied in part goes on; what is
// another log is left alone.
func TestCopy(t *testing.T) {
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	from := mem.New()
	from.Now = func() time.Time { old = old.Add(time.Second); return old }
	fill(t, from, 2500)
	all := records(t, from)

	half := mem.New()
	if err := half.Import(t.Context(), all[:1234]); err != nil {
		t.Fatal(err)
	}
	other := mem.New()
	fill(t, other, 3)
	longer := mem.New()
	if err := longer.Import(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	fill(t, longer, 1)
	whole := mem.New()
	if err := whole.Import(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	sums := map[string]bool{}
	for _, test := range []struct {
		name   string
		to     store.Store
		verify bool
		found  uint64
		err    error
	}{
		{"to nothing", mem.New(), false, 0, nil},
		{"on with a half", half, false, 1234, nil},
		{"again", whole, false, 2500, nil},
		{"only look", whole, true, 2500, nil},
		{"only look, at nothing", mem.New(), true, 0, ErrDiffers},
		{"to another log", other, false, 0, ErrDiffers},
		{"to a longer log", longer, false, 2500, ErrDiffers},
	} {
		before := len(records(t, test.to))
		r, err := Run(t.Context(), from, test.to, Options{VerifyOnly: test.verify})
		if !errors.Is(err, test.err) || r.Found != test.found {
			t.Errorf("%s: %+v, %v", test.name, r, err)
		}
		after := records(t, test.to)
		if test.err != nil {
			if len(after) != before {
				t.Errorf("%s: %d records became %d", test.name, before, len(after))
			}
			continue
		}
		sums[r.Checksum] = true
		for i, rec := range after {
			if err := same(all[i], rec); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if len(after) != len(all) {
			t.Errorf("%s: %d records", test.name, len(after))
		}
	}
	if len(sums) != 1 {
		t.Errorf("checksums differ: %v", sums)
	}
}

// A store that lies about a record it took over is found out.
type liar struct{ *mem.Store }

func (l liar) Import(ctx context.Context, recs []store.Record) error {
	recs = append([]store.Record(nil), recs...)
	recs[len(recs)/2].Data = []byte(`{"n":-1}`)
	return l.Store.Import(ctx, recs)
}

func TestDifferenceIsFound(t *testing.T) {
	from := mem.New()
	fill(t, from, 100)
	if _, err := Run(t.Context(), from, liar{mem.New()}, Options{}); !errors.Is(err, ErrDiffers) {
		t.Errorf("a changed record was not noticed: %v", err)
	}
}

// A sharedStore is one that others use too.
type sharedStore struct{ *mem.Store }

func (sharedStore) Shared() bool { return true }

// A log with gaps is copied as it is. What is given up while it is copied could
// be there in part: then the copy is none.
func TestCopyAndCompaction(t *testing.T) {
	from := sharedStore{mem.New()}
	fill(t, from, 3000)
	gone := records(t, from)
	whole := func(stream string) store.Whole {
		for i := len(gone) - 1; ; i-- {
			if gone[i].Stream == stream {
				return store.Whole{Stream: stream, Last: gone[i].Position}
			}
		}
	}
	compact := func(stream string) {
		t.Helper()
		if n, err := from.Compact(t.Context(), whole(stream)); err != nil || n[0] == 0 {
			t.Fatal(n, err)
		}
	}
	compact("a/3")
	to := mem.New()
	r, err := Run(t.Context(), from, to, Options{})
	if err != nil || r.Records != uint64(len(records(t, from))) {
		t.Fatalf("%+v, %v", r, err)
	}
	source := records(t, from)
	for i, rec := range records(t, to) {
		if want := source[i]; rec.ID != want.ID || rec.Version != want.Version {
			t.Fatalf("record %d is %s@%d, want %s@%d", i, rec.Stream, rec.Version, want.Stream, want.Version)
		}
	}
	once := false
	_, err = Run(t.Context(), from, mem.New(), Options{Progress: func(doing string, done, _ uint64) {
		if doing == "copying" && done == 2000 && !once {
			once = true
			compact("a/5")
		}
	}})
	if !once || !errors.Is(err, ErrGivenUp) {
		t.Errorf("given up while it was copied: %v", err)
	}
	compact("a/6")
	if _, err := Run(t.Context(), from, to, Options{}); !errors.Is(err, ErrDiffers) {
		t.Errorf("going on with a copy of what was given up since: %v", err)
	}
}
