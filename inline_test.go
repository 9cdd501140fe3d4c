package deed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/split"
	"github.com/deed-dev/deed/store/sqlite"
)

var atOnce = deed.Projection[animalDoc]{Name: "at-once", Indexes: []string{"field", "eaten"}, Search: []string{"field"}, On: animalDocs.On, Inline: true}

// onAtomic runs a test on each store that records events and changes documents in
// one go.
func onAtomic(t *testing.T, test func(t *testing.T, open func(testing.TB) store.Store)) {
	t.Run("mem", func(t *testing.T) { s := mem.New(); test(t, func(testing.TB) store.Store { return s }) })
	t.Run("sqlite", func(t *testing.T) {
		path := t.TempDir() + "/deed.db"
		test(t, func(tb testing.TB) store.Store {
			s, err := sqlite.Open(path, nil)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { s.Close() })
			return s
		})
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Start(t).DSN("deed")
		test(t, func(tb testing.TB) store.Store {
			s, err := postgres.Open(tb.Context(), dsn, nil)
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { s.Close() })
			return s
		})
	})
}

// equalsFold demands that the documents are what a fold of the log comes to.
func equalsFold(t *testing.T, rt *deed.Runtime, p deed.Projection[animalDoc]) {
	t.Helper()
	head, err := rt.Store().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.WaitForView(t.Context(), p.Name, head); err != nil {
		t.Fatal(err)
	}
	read := func(r deed.Reader) (out []string) {
		for row, err := range p.All(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(row))
		}
		return out
	}
	if kept, folded := read(rt), read(rt.AtPosition(head)); strings.Join(kept, "\n") != strings.Join(folded, "\n") {
		t.Errorf("the documents are\n%v\nand the fold is\n%v", kept, folded)
	}
}

// Whoever has recorded something sees it, without waiting for anything.
func TestInline(t *testing.T) {
	onAtomic(t, func(t *testing.T, open func(testing.TB) store.Store) {
		sum := deed.Query[struct{}, int]{Name: "sum", Answer: func(ctx context.Context, r deed.Reader, _ struct{}) (n int, err error) {
			for row, e := range atOnce.All(ctx, r) {
				n, err = n+row.Value.Eaten, errors.Join(err, e)
			}
			return n, err
		}}
		rt := deedtest.StartOn(t, open(t), deed.Domain{Name: "d", Parts: []deed.Part{herd, atOnce, sum}})
		ctx := t.Context()
		for i := range 60 {
			id := fmt.Sprintf("cow-%d", i%7)
			var cmd deed.Command[animal] = eat{1}
			if i < 7 {
				cmd = beBorn{"hill"}
			}
			r, err := herd.Execute(ctx, rt, id, cmd)
			if err != nil {
				t.Fatal(err)
			}
			d, err := atOnce.Get(ctx, rt, id)
			if err != nil || d.Field != "hill" || d.Eaten != i/7 {
				t.Fatalf("after %d: %+v, %v", i, d, err)
			}
			if at, err := rt.ViewPosition("at-once"); err != nil || string(at) != r.Position {
				t.Fatalf("after %d: the view has read up to %s, the receipt says %s, %v", i, at, r.Position, err)
			}
			if i%10 == 9 {
				if n, _, err := sum.Ask(ctx, rt, struct{}{}); err != nil || n != i-6 {
					t.Fatalf("after %d: the query says %d, %v", i, n, err)
				}
			}
		}
		if n, err := atOnce.Count(ctx, rt, store.Query{Search: "hill"}); err != nil || n != 7 {
			t.Errorf("found %d, %v", n, err)
		}
		equalsFold(t, rt, atOnce)
		if d, err := rt.Store().Get(ctx, "inline/at-once/1", "cow-3"); err != nil || string(d.Data) != `{"animal":9}` { // the format is for ever
			t.Errorf("the mark is %s, %v", d.Data, err)
		}
	})
}

// A projection that becomes inline on a log with events: a document is up to date
// from the first command on, though the follower has still to come there, and takes in
// nothing twice.
func TestInlineOnAnExistingLog(t *testing.T) {
	onAtomic(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := open(t)
		ctx := t.Context()
		program := func(parts ...deed.Part) *deed.Runtime {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: parts}}})
			if err != nil {
				t.Fatal(err)
			}
			return rt
		}
		ask := func(rt *deed.Runtime, id string, cmd deed.Command[animal]) {
			t.Helper()
			if _, err := herd.Execute(ctx, rt, id, cmd); err != nil {
				t.Fatal(err)
			}
		}
		old := program(herd)
		for i := range 50 {
			ask(old, fmt.Sprintf("cow-%d", i%5), eat{1})
		}
		rt := program(herd, atOnce) // nobody moves its followers
		ask(rt, "cow-3", eat{5})
		ask(old, "cow-3", eat{100}) // a program that does not know of it
		ask(rt, "cow-3", eat{5})
		if d, err := atOnce.Get(ctx, rt, "cow-3"); err != nil || d.Eaten != 120 {
			t.Errorf("the document is %+v, %v", d, err)
		}
		if _, err := atOnce.Get(ctx, rt, "cow-4"); !errors.Is(err, deed.ErrNotFound) {
			t.Errorf("the document of another one: %v", err)
		}
		run, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- rt.Run(run) }()
		for i := range 20 {
			ask(rt, fmt.Sprintf("cow-%d", i%5), eat{1})
		}
		equalsFold(t, rt, atOnce)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Rebuilds, roll-backs and a pause while commands come all the time: nothing is lost,
// doubled or seen to go back.
func TestInlineRebuilds(t *testing.T) {
	onAtomic(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s := open(t)
		domain := deed.Domain{Name: "d", Parts: []deed.Part{herd, atOnce}}
		start := func(s store.Store) *deed.Runtime {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{domain}, Poll: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- rt.Run(ctx) }()
			t.Cleanup(func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			return rt
		}
		rts := []*deed.Runtime{start(s)}
		if store.IsShared(s) {
			rts = append(rts, start(open(t)))
		}
		ctx := t.Context()
		writing, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		var asked atomic.Int64
		for i := range 4 {
			rt, r := rts[i%len(rts)], rand.New(rand.NewPCG(uint64(i), 1))
			wg.Go(func() {
				seen := map[string]int{}
				for writing.Err() == nil {
					id := fmt.Sprintf("cow-%d", 4*r.IntN(8)+i)
					if _, err := herd.Execute(ctx, rt, id, eat{1}); err != nil {
						t.Error(err)
						return
					}
					asked.Add(1)
					seen[id]++
					d, err := atOnce.Get(ctx, rt, id)
					if err != nil || d.Eaten < seen[id] {
						t.Errorf("%s has eaten %d, and the document says %d, %v", id, seen[id], d.Eaten, err)
						return
					}
				}
			})
		}
		become := func(gen uint64) {
			t.Helper()
			for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
				st, err := rts[0].Rebuilds().Status(ctx, "at-once")
				if err == nil && st.Shown.Generation == gen && st.Rebuild == nil {
					return
				}
				if err != nil || time.Now().After(end) {
					t.Fatalf("%+v %+v, %v", st, st.Rebuild, err)
				}
			}
		}
		for gen := uint64(2); gen < 4; gen++ {
			if err := rts[0].Rebuilds().Begin(ctx, "at-once", false); err != nil {
				t.Fatal(err)
			}
			become(gen)
		}
		for asked.Load() < 50 { // the documents are used
			time.Sleep(time.Millisecond)
		}
		if err := rts[0].Rebuilds().RollBack(ctx, "at-once"); err != nil {
			t.Fatal(err)
		}
		become(2)
		stop()
		wg.Wait()
		for _, rt := range rts {
			equalsFold(t, rt, atOnce)
		}
		if d, err := rts[0].Rebuilds().Diff(ctx, "at-once", 3); err != nil || d.Changed+d.Added+d.Gone > 0 {
			t.Errorf("the generations differ: %+v, %v", d, err)
		}
		t.Logf("%d commands", asked.Load())
	})
}

// While it is paused, a view stands still, and commands go on.
func TestInlinePaused(t *testing.T) {
	rt := deedtest.Start(t, deed.Domain{Name: "d", Parts: []deed.Part{herd, atOnce}})
	ctx := t.Context()
	ask := func(n int) {
		t.Helper()
		if _, err := herd.Execute(ctx, rt, "cow", eat{n}); err != nil {
			t.Fatal(err)
		}
	}
	ask(1)
	if err := rt.Followers().Pause(ctx, "at-once"); err != nil {
		t.Fatal(err)
	}
	ask(2)
	if d, err := atOnce.Get(ctx, rt, "cow"); err != nil || d.Eaten != 1 {
		t.Errorf("paused: %+v, %v", d, err)
	}
	if err := rt.Followers().Resume(ctx, "at-once"); err != nil {
		t.Fatal(err)
	}
	ask(4)
	if d, err := atOnce.Get(ctx, rt, "cow"); err != nil || d.Eaten != 7 {
		t.Errorf("resumed: %+v, %v", d, err)
	}
	equalsFold(t, rt, atOnce)
}

// A projection that fails is parked, as any; what is asked is done all the same.
func TestInlineFails(t *testing.T) {
	var broken atomic.Bool
	p := atOnce
	p.On = []deed.Handler[animalDoc]{deed.On(func(d *animalDoc, e ate) {
		if e.N == 2 && broken.Load() {
			panic("two")
		}
		d.Eaten += e.N
	})}
	rt := deedtest.Start(t, deed.Domain{Name: "d", Parts: []deed.Part{herd, p}})
	ctx := t.Context()
	broken.Store(true)
	for n := range 4 {
		if _, err := herd.Execute(ctx, rt, "cow", eat{n}); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := p.Get(ctx, rt, "cow"); err != nil || d.Eaten != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	head, _ := rt.Store().Head(ctx)
	if err := rt.WaitForView(ctx, "at-once", head); err != nil {
		t.Fatal(err)
	}
	letters, _, err := rt.Followers().DeadLetters(ctx, "at-once", "", 10)
	if err != nil || len(letters) != 2 {
		t.Fatalf("%+v, %v", letters, err)
	}
	broken.Store(false)
	if _, err := herd.Execute(ctx, rt, "cow", eat{10}); err != nil { // it waits behind the one that is parked
		t.Fatal(err)
	}
	if d, err := p.Get(ctx, rt, "cow"); err != nil || d.Eaten != 1 {
		t.Errorf("while something is parked: %+v, %v", d, err)
	}
	if _, err := rt.Followers().Redrive(ctx, letters[0].ID); err != nil {
		t.Fatal(err)
	}
	equalsFold(t, rt, p)
	if _, err := herd.Execute(ctx, rt, "cow", eat{100}); err != nil {
		t.Fatal(err)
	}
	if d, err := p.Get(ctx, rt, "cow"); err != nil || d.Eaten != 116 {
		t.Errorf("after the redrive: %+v, %v", d, err)
	}
}

// forgetful does what it is asked, and loses every third answer.
type forgetful struct {
	*mem.Store
	n atomic.Int64
}

func (f *forgetful) AppendWith(ctx context.Context, ws []store.Write, cs []store.Change, hs []store.Hold) ([]store.Written, error) {
	written, err := f.Store.AppendWith(ctx, ws, cs, hs)
	if err == nil && f.n.Add(1)%3 == 0 {
		return nil, store.ErrUnknown
	}
	return written, err
}

// A lost answer is asked for again, and the document has taken in the events once.
func TestInlineLostAnswers(t *testing.T) {
	s := &forgetful{Store: mem.New()}
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{herd, atOnce}})
	for range 30 {
		if _, err := herd.Execute(t.Context(), rt, "cow", eat{1}); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := atOnce.Get(t.Context(), rt, "cow"); err != nil || d.Eaten != 30 {
		t.Errorf("%+v, %v", d, err)
	}
	equalsFold(t, rt, atOnce)
}

// What cannot be inline is refused, with what to do.
func TestInlineRefused(t *testing.T) {
	byField := deed.Projection[fieldDoc]{Name: "fields", On: fieldDocs.On, Inline: true}
	timed := deed.Projection[animalDoc]{Name: "timed", Inline: true, On: []deed.Handler[animalDoc]{deed.On(func(*animalDoc, deed.Recorded[ate]) {})}}
	for _, c := range []struct {
		s    store.Store
		p    deed.Part
		says string
	}{
		{split.New(mem.New(), mem.New()), atOnce, "keep log and views together on SQLite or PostgreSQL"},
		{mem.New(), byField, "derives keys from events"},
		{mem.New(), timed, "see deed.Stamper"},
	} {
		if _, err := deed.New(c.s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{herd, c.p}}}}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
}
