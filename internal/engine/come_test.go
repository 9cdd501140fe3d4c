package engine

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A follower that comes while the engine runs is run at once, from where it is
// to begin; one that is removed handles nothing more, and goes on where it was
// when it comes again.
func TestFollowersComeAndGo(t *testing.T) {
	within(t, func(t *testing.T) {
		s := mem.New()
		r := run(t, s, pure(nil))
		add(t, s, "a/1", 3)
		late := pure(nil)
		late.Name, late.From, late.Colls = "late", store.CursorAt(store.Position{Seq: 1}), nil
		late.New = func(uint64) Handler { return &ledger{coll: "late"} }
		took := func(want ...uint64) {
			t.Helper()
			r.wait()
			var got []uint64
			if d, err := s.Get(t.Context(), "late", "a/1"); err != nil || json.Unmarshal(d.Data, &got) != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
		if err := r.Add(late); err != nil {
			t.Fatal(err)
		}
		if err := r.Add(late); err == nil {
			t.Error("the same follower twice")
		}
		took(2, 3)
		if err := r.Remove("late"); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove("late"); !errors.Is(err, ErrUnknownFollower) {
			t.Errorf("%v", err)
		}
		add(t, s, "a/1", 1)
		took(2, 3)
		if p, err := r.Place(t.Context(), "late"); err != nil || p.Behind != 1 {
			t.Errorf("%+v, %v", p, err)
		}
		if err := r.Add(late); err != nil {
			t.Fatal(err)
		}
		took(2, 3, 4)
		r.same()
	})
}
