package deed_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	pastures = deed.Projection[animalDoc]{
		Name: "pastures", Indexes: []string{"eaten"}, Search: []string{"field"}, On: animalDocs.On,
	}
	greenCount = deed.Query[struct{}, int]{
		Name: "green-count",
		Answer: func(ctx context.Context, r deed.Reader, _ struct{}) (int, error) {
			return pastures.Count(ctx, r, store.Query{Search: "green"})
		},
	}
)

// What documents say is found on every store: as they are, as they were, after a
// rebuild, and by queries that are told when it changes.
func TestSearch(t *testing.T) {
	t.Run("mem", func(t *testing.T) { testSearch(t, mem.New()) })
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) { testSearch(t, open(t)) })
}

func testSearch(t *testing.T, s store.Store) {
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{herd, pastures, greenCount}})
	ctx := t.Context()
	var last deed.Receipt
	ask := func(id string, cmd deed.Command[animal]) {
		t.Helper()
		var err error
		if last, err = herd.Execute(ctx, rt, id, cmd); err != nil {
			t.Fatal(err)
		}
	}
	find := func(r deed.Reader, q store.Query, want string) {
		t.Helper()
		if err := rt.WaitFor(ctx, last); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for row, err := range pastures.Find(ctx, r, q) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, row.Key)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s: found %q, want %q", q.Search, got, want)
		}
	}
	answer := func(want int) {
		t.Helper()
		if n, _, err := greenCount.Ask(ctx, rt, struct{}{}); err != nil || n != want {
			t.Errorf("the query counts %d, want %d, %v", n, want, err)
		}
	}
	answer(0)
	ask("cow-1", beBorn{"the Green hill"})
	ask("cow-2", beBorn{"the green field on a hill"})
	ask("cow-3", beBorn{"a brook"})
	before := last
	find(rt, store.Query{Search: "green"}, "cow-1 cow-2")
	find(rt, store.Query{Search: `"green hill"`}, "cow-1")
	find(rt, store.Query{Search: "gre* fie*"}, "cow-2")
	answer(2)
	ask("cow-3", moveTo{"Green."})
	ask("cow-1", moveTo{"the stable"})
	ask("cow-2", eat{7})
	find(rt, store.Query{Search: "green"}, "cow-2 cow-3")
	find(rt, store.Query{Search: "green", Sort: "eaten", Desc: true, Limit: 1}, "cow-2")
	find(rt, store.Query{Search: "green", Where: []store.Cond{{Field: "eaten", Op: "=", Value: int64(0)}}}, "cow-3")
	find(rt.AtPosition(store.Cursor(before.Position)), store.Query{Search: "green"}, "cow-1 cow-2")
	answer(2)
	ask("cow-2", moveTo{"the brook"})
	answer(1)
	if n, err := pastures.Count(ctx, rt.AtPosition(store.Cursor(before.Position)), store.Query{Search: "green", Limit: 1}); err != nil || n != 2 {
		t.Errorf("there were %d, %v", n, err)
	}

	if err := rt.Rebuilds().Begin(ctx, "pastures", false); err != nil {
		t.Fatal(err)
	}
	for {
		st, err := rt.Rebuilds().Status(ctx, "pastures")
		if err != nil {
			t.Fatal(err)
		}
		if st.Shown.Generation == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	find(rt, store.Query{Search: "brook"}, "cow-2")
	ask("cow-1", moveTo{"a brook"})
	find(rt, store.Query{Search: "brook"}, "cow-1 cow-2")

	var invalid deed.Invalid
	for _, q := range []store.Query{{Search: "*"}, {Search: `"green`}, {Search: "-"}} {
		if _, err := pastures.Count(ctx, rt, q); !errors.As(err, &invalid) || invalid.Field != "search" || strings.Contains(invalid.Detail, "store:") {
			t.Errorf("%q: %v", q.Search, err)
		}
	}
}

// A projection cannot declare text that its documents do not have.
func TestSearchOfWhatIsNoText(t *testing.T) {
	for field, says := range map[string]string{"eaten": "has no text", "none": "has no text", "a;": "is not a field"} {
		p := pastures
		p.Search = []string{field}
		if _, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{herd, p}}}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", field, err)
		}
	}
	rt := deedtest.Start(t, deed.Domain{Name: "d", Parts: []deed.Part{herd, animalDocs}})
	for _, err := range animalDocs.Find(t.Context(), rt, store.Query{Search: "x", Text: []string{"field"}}) {
		if err == nil || !strings.Contains(fmt.Sprint(err), "declares no text that is searched") {
			t.Errorf("searching what is not declared: %v", err)
		}
	}
}
