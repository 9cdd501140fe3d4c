package deed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A sheep has a pen, and may be shorn; sheep are what classifiers are tried on.
type sheep struct {
	Pen   string `json:"pen,omitempty"`
	Shorn bool   `json:"shorn"`
	Seen  int    `json:"seen"`
}

type (
	penned struct {
		Pen string `json:"pen"`
	}
	shorn   struct{}
	counted struct{}
	strayed struct{}
)

func (e penned) Apply(s *sheep)  { s.Pen = e.Pen }
func (e shorn) Apply(s *sheep)   { s.Shorn = true }
func (e counted) Apply(s *sheep) { s.Seen++ }
func (e strayed) Apply(s *sheep) { s.Pen = "" }

var flock = deed.Aggregate[sheep]{
	Name:   "sheep",
	Events: map[string]deed.Event[sheep]{"penned": penned{}, "shorn": shorn{}, "counted": counted{}, "strayed": strayed{}},
}

func include(yes bool) deed.Verdict {
	if yes {
		return deed.Include
	}
	return deed.Exclude
}

var (
	inAPen = deed.Classifier[sheep]{Name: "in-a-pen", Of: flock.States("pen"), Verdict: func(s sheep) deed.Verdict { return include(s.Pen != "") }}
	ready  = deed.Classifier[sheep]{Name: "ready", Of: inAPen.Of, Within: &inAPen, Verdict: func(s sheep) deed.Verdict { return include(s.Shorn) }}
	// seenTwice says nothing of a sheep that is in no pen: that stays as it was.
	seenTwice = deed.Classifier[sheep]{Name: "seen-twice", Of: inAPen.Of, Verdict: func(s sheep) deed.Verdict {
		if s.Pen == "" {
			return deed.Unchanged
		}
		return include(s.Seen >= 2)
	}}
)

// meadow is a runtime with sheep, whose events tests record themselves.
type meadow struct {
	*testing.T
	rt *deed.Runtime
	s  store.Store
	n  int
}

func onMeadow(t *testing.T, f func(m *meadow), parts ...deed.Part) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		rt, stop := runWith(t, s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: append(parts, flock)}}})
		defer stop()
		f(&meadow{T: t, rt: rt, s: s})
	})
}

// happens records an event of a sheep, a second after the one before, and waits
// until everybody has taken it in. It returns its position.
func (m *meadow) happens(id, typ, data string) store.Cursor {
	m.Helper()
	time.Sleep(time.Second)
	m.n++
	e := store.Event{Type: typ, Data: []byte(data), Meta: []byte(`{"actor":"ann"}`)}
	copy(e.ID[:], fmt.Sprintf("%016d", m.n))
	out, err := m.s.Append(m.Context(), store.Write{Stream: "sheep/" + id, Expect: store.Any, Events: []store.Event{e}})
	if err != nil {
		m.Fatal(err)
	}
	at := store.CursorAt(out[0].Position)
	if err := m.rt.WaitFor(m.Context(), deed.Receipt{Position: string(at)}); err != nil {
		m.Fatal(err)
	}
	return at
}

func members[V any](m *meadow, r deed.Reader, c deed.Classifier[V]) (keys []string) {
	m.Helper()
	for row, err := range c.Members(m.Context(), r) {
		if err != nil {
			m.Fatal(err)
		}
		keys = append(keys, row.Key)
	}
	return keys
}

func (m *meadow) want(what string, got, want any) {
	m.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestClassifier(t *testing.T) {
	onMeadow(t, func(m *meadow) {
		began := time.Now()
		m.happens("a", "counted", `{}`)
		in := m.happens("a", "penned", `{"pen":"p"}`)
		m.happens("b", "penned", `{"pen":"q"}`)
		m.happens("a", "shorn", `{}`)
		m.happens("a", "strayed", `{}`)
		m.happens("a", "counted", `{}`)
		m.happens("b", "counted", `{}`)
		m.happens("b", "counted", `{}`)
		m.happens("b", "strayed", `{}`)

		m.want("in a pen", members(m, m.rt, inAPen), []string(nil))
		m.want("in a pen then", members(m, m.rt.AtPosition(in), inAPen), []string{"a"})
		m.want("in a pen at four seconds", members(m, m.rt.AsOf(began.Add(4*time.Second)), inAPen), []string{"a", "b"})
		m.want("ready at four seconds", members(m, m.rt.AsOf(began.Add(4*time.Second)), ready), []string{"a"})
		m.want("seen twice, and then gone", members(m, m.rt, seenTwice), []string{"b"})

		a, err := inAPen.Get(m.Context(), m.rt, "a")
		m.want("what is known of a", []any{a.In, a.Since.Sub(began), a.EverIn, a.EverOut, a.Of, err}, []any{false, 5 * time.Second, true, true, sheep{"", true, 2}, nil})
		a, err = inAPen.Get(m.Context(), m.rt.AtPosition(in), "a")
		m.want("what was known of a", []any{a.In, a.Since.Sub(began), a.EverIn, a.EverOut, err}, []any{true, 2 * time.Second, true, true, nil})
		b, err := inAPen.Get(m.Context(), m.rt, "b")
		m.want("what is known of b", []any{b.In, b.EverIn, b.EverOut, err}, []any{false, true, true, nil})
		_, err = inAPen.Get(m.Context(), m.rt, "c")
		m.want("nobody", errors.Is(err, deed.ErrNotFound), true)

		spells, err := inAPen.History(m.Context(), m.rt, "a")
		var told []string
		for _, s := range spells {
			told = append(told, fmt.Sprint(s.In, s.Since.Sub(began), s.Event, s.Type, s.Actor, s.Until.IsZero()))
		}
		m.want("history", told, []string{"false 1ssheep/a@1countedannfalse", "true 2ssheep/a@2pennedannfalse", "false 5ssheep/a@4strayedanntrue"})
		m.want("history", err, nil)
	}, inAPen, ready, seenTwice)
}

// A group that is kept, one that is read from the log, and a model of it are
// the same at any time.
func TestClassifierModel(t *testing.T) {
	onMeadow(t, func(m *meadow) {
		r := rand.New(rand.NewPCG(1, 2))
		states := map[string]sheep{}
		type moment struct {
			at          store.Cursor
			pens, ready []string
		}
		var moments []moment
		for range 200 {
			id := string(rune('a' + r.IntN(5)))
			s, typ, data := states[id], "", `{}`
			switch r.IntN(4) {
			case 0:
				typ, data, s.Pen = "penned", `{"pen":"p"}`, "p"
			case 1:
				typ, s.Shorn = "shorn", true
			case 2:
				typ, s.Seen = "counted", s.Seen+1
			case 3:
				typ, s.Pen = "strayed", ""
			}
			states[id] = s
			now := moment{at: m.happens(id, typ, data)}
			for _, id := range slices.Sorted(maps.Keys(states)) {
				if s := states[id]; s.Pen != "" {
					now.pens = append(now.pens, id)
					if s.Shorn {
						now.ready = append(now.ready, id)
					}
				}
			}
			moments = append(moments, now)
			m.want("kept", members(m, m.rt, inAPen), now.pens)
			m.want("kept, within another", members(m, m.rt, ready), now.ready)
		}
		unkept := ready
		unkept.Name = "nobody keeps it"
		m.want("not kept", members(m, m.rt, unkept), members(m, m.rt, ready))
		for _, then := range moments {
			m.want("then", members(m, m.rt.AtPosition(then.at), inAPen), then.pens)
			m.want("then, within another", members(m, m.rt.AtPosition(then.at), unkept), then.ready)
		}
	}, inAPen, ready)
}

// A watcher is told of what changes, once, also if it fails at first; what it
// writes is written once.
func TestWatcher(t *testing.T) {
	var told []string
	var mu sync.Mutex
	tell := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, what)
	}
	fail := true
	log := deed.View[string]{Name: "log"}
	watch := deed.Watcher[deed.Member[sheep]]{Name: "watch", Of: inAPen.Projection(), Changed: func(_ context.Context, tx *deed.Tx, c deed.Change[deed.Member[sheep]]) error {
		if c.Version == 3 && fail {
			fail = false
			return errors.New("not now")
		}
		tell(fmt.Sprint(c.Key, c.Version, c.Now.In, c.Actor))
		return log.Put(tx, fmt.Sprintf("%s-%d", c.Key, c.Version), "x")
	}}
	docs := deed.Watcher[sheep]{Name: "docs", Of: flock.States(), Changed: func(_ context.Context, _ *deed.Tx, c deed.Change[sheep]) error {
		if c.Before == nil {
			c.Before = new(sheep)
		}
		tell(fmt.Sprintf("%s %v -> %v", c.Key, *c.Before, *c.Now))
		return nil
	}}
	onMeadow(t, func(m *meadow) {
		m.happens("a", "counted", `{}`)
		m.happens("a", "penned", `{"pen":"p"}`)
		m.happens("a", "strayed", `{}`)
		m.happens("a", "counted", `{}`)
		m.happens("b", "penned", `{"pen":"p"}`)
		m.happens("b", "penned", `{"pen":"p"}`)
		m.happens("b", "penned", `{"pen":"q"}`)
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(told)
		m.want("told", told, []string{
			"a { false 0} -> { false 1}", "a { false 1} -> { false 2}", "a { false 1} -> {p false 1}", "a {p false 1} -> { false 1}",
			"a2 trueann", "a3 falseann",
			"b { false 0} -> {p false 0}", "b {p false 0} -> {q false 0}", // not when it was penned in the same pen again
			"b1 trueann",
		})
		n := 0
		for _, err := range log.All(m.Context(), m.rt) {
			if n++; err != nil {
				m.Fatal(err)
			}
		}
		m.want("written", n, 3)
	}, inAPen, log, watch, docs)
}

// A watcher that comes late, and is told only what is new, knows what was.
func TestWatcherFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		run := func(parts ...deed.Part) (*meadow, func()) {
			rt, stop := runWith(t, s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: append(parts, flock)}}})
			return &meadow{T: t, rt: rt, s: s}, stop
		}
		m, stop := run()
		m.happens("a", "penned", `{"pen":"p"}`)
		stop()
		var told []string
		watch := deed.Watcher[sheep]{Name: "watch", Of: flock.States(), FromNow: true, Changed: func(_ context.Context, _ *deed.Tx, c deed.Change[sheep]) error {
			told = append(told, fmt.Sprint(c.Before, c.Now))
			return nil
		}}
		for range 2 { // the second time it goes on where it was
			m, stop = run(watch)
			m.n = 100 * (1 + len(told))
			m.happens("a", "counted", `{}`)
			stop()
		}
		m.want("told", told, []string{"&{p false 0} &{p false 1}", "&{p false 1} &{p false 2}"})
	})
}

// A tail of a view tells what has changed, from any place on, and nothing else.
func TestViewTail(t *testing.T) {
	onMeadow(t, func(m *meadow) {
		tail := func(view, key string, after store.Cursor) *deed.ViewTail {
			tail, err := m.rt.ViewTail(view, key, after)
			if err != nil {
				m.Fatal(err)
			}
			return tail
		}
		told := func(tail *deed.ViewTail) (out []string) {
			changes, _, err := tail.Next(m.Context())
			if err != nil {
				m.Fatal(err)
			}
			for _, c := range changes {
				out = append(out, c.Key)
			}
			return out
		}
		all, group, one := tail("sheep-states", "", store.Start), tail("in-a-pen", "", store.Start), tail("in-a-pen", "b", store.Start)
		m.happens("a", "counted", `{}`)
		m.want("a new document", told(all), []string{"a"})
		m.want("a group without it", told(group), []string(nil))
		before := m.happens("b", "penned", `{"pen":"p"}`)
		m.happens("a", "shorn", `{}`)
		m.happens("a", "shorn", `{}`)
		m.want("two more", told(all), []string{"b", "a"})
		m.want("a member", told(group), []string{"b"})
		m.want("of one", told(one), []string{"b"})
		again := m.happens("a", "shorn", `{}`)
		m.want("nothing new", told(all), []string(nil))
		m.want("nothing new, to one who comes late", told(tail("sheep-states", "", all.After())), []string(nil))
		m.want("to one who was away", told(tail("sheep-states", "", before)), []string{"a"})
		m.happens("b", "strayed", `{}`)
		m.want("left", told(group), []string{"b"})
		m.want("left, to one who comes late", told(tail("in-a-pen", "", again)), []string{"b"})
		m.want("nothing", told(group), []string(nil))
	}, inAPen, flock.States())
}

func TestClassifiersRefuse(t *testing.T) {
	type pen struct {
		Limit int `json:"limit"`
	}
	other := inAPen
	other.Of = flock.States()
	other.Of.Name = "other"
	within := ready
	within.Within = &other
	for name, part := range map[string]deed.Part{
		"no verdict":             deed.Classifier[sheep]{Name: "g", Of: flock.States()},
		"within another's":       within,
		"a reserved parameter":   deed.Classifiers[pen, sheep]{Name: "g", With: func(pen) deed.Classifier[sheep] { return inAPen }},
		"parameters, no struct":  deed.Classifiers[int, sheep]{Name: "g", With: func(int) deed.Classifier[sheep] { return inAPen }},
		"no function":            deed.Classifiers[struct{}, sheep]{Name: "g"},
		"a watcher of nobody":    deed.Watcher[sheep]{Name: "w", Of: flock.States()},
		"a watcher of no events": deed.Watcher[sheep]{Name: "w", Changed: func(context.Context, *deed.Tx, deed.Change[sheep]) error { return nil }},
	} {
		if _, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{flock, part}}}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
