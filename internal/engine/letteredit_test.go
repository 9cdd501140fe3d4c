package engine

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// A reading is what a handler was given.
type reading struct {
	ledger
	data []string
	bad  func(string) bool
}

func (h *reading) Handle(ctx context.Context, tx *Tx, rec store.Record) error {
	if h.bad(string(rec.Data)) {
		return Permanent(errBad)
	}
	h.data = append(h.data, rec.Position.String()+string(rec.Data))
	return h.ledger.Handle(ctx, tx, rec)
}

// together is a reading that takes in many records at once.
type together struct{ *reading }

func (h together) HandleAll(ctx context.Context, tx *Tx, recs []store.Record) []error {
	errs := make([]error, len(recs))
	failed := map[string]bool{}
	for i, rec := range recs {
		if failed[rec.Stream] {
			errs[i] = ErrBehind
		} else if errs[i] = h.Handle(ctx, tx, rec); errs[i] != nil {
			failed[rec.Stream] = true
		}
	}
	return errs
}

// editable is a follower that cannot bear a by of 1 in the stream a/1 until it is edited.
func editable(batches bool) (Follower, *reading) {
	h := &reading{ledger: ledger{coll: "ledger/1", docs: map[string][]uint64{}, direct: true}}
	n := 0
	h.bad = func(data string) bool { n++; return data == `{"by":1}` && n == 1 || data == `{"by":"nonsense"}` }
	f := Follower{Name: "ledger", Filter: store.Filter{Categories: []string{"a"}}, Editable: true, New: func(uint64) Handler {
		if batches {
			return together{h}
		}
		return h
	}}
	return f, h
}

// Whoever edits a dead letter has its follower see something else, at the same
// place and in its turn. The event, and what was put in its place before, stay.
func TestEdit(t *testing.T) {
	for _, batches := range []bool{false, true} {
		within(t, func(t *testing.T) {
			s := newShelf()
			f, h := editable(batches)
			r := run(t, s, f)
			add(t, s, "a/1", 3)
			r.wait()
			if got := r.parked(); got != "a/1@1 dead, a/1@2 waiting, a/1@3 waiting" {
				t.Fatal(got)
			}
			edit := func(data string) error {
				return r.Edit(t.Context(), "ledger.1", LetterEdit{Data: json.RawMessage(data), By: "ann", Why: "a misprint"})
			}
			for data, want := range map[string]error{`{`: errNoJSON, `"` + strings.Repeat("x", maxCopy) + `"`: errTooLarge} {
				if err := edit(data); !errors.Is(err, want) {
					t.Errorf("%.10s: %v", data, err)
				}
			}
			if err := edit(`{"by":"nonsense"}`); err != nil {
				t.Fatal(err)
			}
			if n, err := r.Redrive(t.Context(), "ledger.1"); n != 0 || !errors.Is(err, errBad) {
				t.Errorf("%d, %v", n, err)
			}
			if err := edit(`{"by":7}`); err != nil {
				t.Fatal(err)
			}
			// It is still so when somebody else goes on.
			r.stop()
			h.docs, h.dirty = map[string][]uint64{}, nil
			r = run(t, s, f)
			r.wait()
			l, err := r.DeadLetter(t.Context(), "ledger.1")
			if err != nil || string(l.Data) != `{"by":1}` || len(l.Edits) != 2 || l.Edits[1].By != "ann" || l.Edits[1].Why != "a misprint" || l.Edits[0].At.IsZero() {
				t.Errorf("%+v, %v", l, err)
			}
			if n, err := r.Redrive(t.Context(), "ledger.1"); n != 3 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if want := []string{`1{"by":7}`, `2{"by":1}`, `3{"by":1}`}; !slices.Equal(h.data, want) {
				t.Errorf("it saw %q", h.data)
			}
			for rec, err := range s.Read(t.Context(), "a/1", store.Range{Limit: 1}) {
				if err != nil || string(rec.Data) != `{"by":1}` {
					t.Errorf("the log says %s, %v", rec.Data, err)
				}
			}
			closed, err := r.ClosedLetter(t.Context(), "ledger.1")
			if err != nil || closed.State != StateHandled || string(closed.Data) != `{"by":1}` || string(closed.Edits[1].Data) != `{"by":7}` || closed.Closed.At.IsZero() {
				t.Errorf("%+v, %v", closed, err)
			}
			d, err := s.Get(t.Context(), editedColl("ledger"), deadKey(1, store.Position{Seq: 1}))
			got := blank(string(d.Data), `"event":"`, "ID")
			want := `{"id":"ledger.1","follower":"ledger","state":"dead","stream":"a/1","version":1,"type":"added","position":"1","event":"ID","keys":["a/1"],"reason":"bad event","attempts":2,"first_at":"2000-01-01T00:00:00Z","last_at":"2000-01-01T00:00:00Z","data":{"by":1},"meta":{"actor":"ann"},` +
				`"edits":[{"data":{"by":"nonsense"},"at":"2000-01-01T00:00:00Z","by":"ann","why":"a misprint"},{"data":{"by":7},"at":"2000-01-01T00:00:00Z","by":"ann","why":"a misprint"}],"handled_at":"2000-01-01T00:00:00Z"}`
			if err != nil || got != want {
				t.Errorf("stored %v\n%s\n%s", err, got, want)
			}
		})
	}
}

// What has to be what the log says cannot be edited.
func TestEditOfWhatIsDerived(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		r := run(t, s, pure(func(h *ledger) { h.fail = at("a/1", 1, func() error { return Permanent(errBad) }) }))
		add(t, s, "a/1", 1)
		r.wait()
		if err := r.Edit(t.Context(), "ledger.1", LetterEdit{Data: json.RawMessage("{}")}); !errors.Is(err, ErrNotEditable) {
			t.Error(err)
		}
	})
}

// A list of everything says what waits behind what; two followers' letters and
// partitions are told apart, and so are letters of several keys.
func TestBehind(t *testing.T) {
	for _, parts := range []int{1, 3} {
		within(t, func(t *testing.T) {
			s := newShelf()
			m := badly("a/1@1", "a/2@1")
			f := effectful(func(h *ledger) { h.fail = m.fail })
			f.Partitions = parts
			r := run(t, s, f)
			for range 2 {
				add(t, s, "a/1", 1)
				add(t, s, "a/2", 1)
			}
			time.Sleep(time.Minute)
			var got []string
			for l, err := range r.Letters(t.Context(), "ledger", "") {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, l.ID+" "+l.Behind+" "+l.Fingerprint)
				if l.Kind != f.Kind {
					t.Errorf("%+v", l)
				}
			}
			fp := FingerprintOf("bad event", "")
			if want := []string{"ledger.1  " + fp, "ledger.2  " + fp, "ledger.3 ledger.1 ", "ledger.4 ledger.2 "}; !slices.Equal(got, want) {
				t.Errorf("%q", got)
			}
			st := r.status()
			if st.OldestDead == nil || time.Since(*st.OldestDead) != time.Minute {
				t.Errorf("%+v", st)
			}
			m.relent()
			if n, err := r.RedriveAll(t.Context(), "ledger"); n != 4 || err != nil {
				t.Error(n, err)
			}
			if st := r.status(); st.OldestDead != nil {
				t.Errorf("%+v", st)
			}
		})
	}
}
