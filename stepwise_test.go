package deed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// move takes coins out of one jar and puts them into others.
type move struct {
	From string   `json:"from"`
	To   []string `json:"to"`
	N    int      `json:"n"`
}

// take is a drop that needs coins to be there.
type take struct{ N int }

var errTooFew = deed.Reason{Code: "too_few", Text: "there are not that many coins"}

func (c take) Decide(j jar) ([]deed.Event[jar], error) {
	if j.Coins < c.N {
		return nil, errTooFew
	}
	return []deed.Event[jar]{paid{-c.N}}, nil
}

// vault is a jar that exists once something was paid into it.
var vaults = deed.Aggregate[jar]{
	Name:     "vault",
	Events:   map[string]deed.Event[jar]{"paid": paid{}},
	Commands: map[string]deed.Command[jar]{"drop": drop{}, "take": take{}, "later": deed.Ruled(deed.Command[jar](laterDrop{}), deed.Rules{Async: true})},
}

type laterDrop struct{ N int }

func (c laterDrop) Decide(j jar) ([]deed.Event[jar], error) {
	if j.Coins+c.N > 1000 {
		return nil, errTooFew
	}
	return []deed.Event[jar]{paid(c)}, nil
}

// trip is a stage for tests of stepwise commands.
type trip struct {
	*testing.T
	store store.Store
	rt    *deed.Runtime
	def   deed.Stepwise[move]

	mu    sync.Mutex
	calls []string         // what was done outside, with its key
	hold  string           // the step that waits as long as it is named here
	stop  func()           // ends the runtime
	fail  map[string]error // by step: what it returns instead of being done
	times map[string]int   // by step: for so many attempts; 0 = always
}

func (p *trip) outside(step string, undo bool, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.hold == step {
		p.mu.Unlock()
		time.Sleep(time.Second)
		p.mu.Lock()
	}
	name := step
	if undo {
		name = "undo " + step
	}
	p.calls = append(p.calls, name)
	if err := p.fail[name]; err != nil {
		if err == errPanic {
			panic("oh")
		}
		if p.times[name] > 0 {
			if p.times[name]--; p.times[name] == 0 {
				delete(p.fail, name)
			}
		}
		return err
	}
	return nil
}

func (p *trip) did() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, ", ")
}

var errPanic = errors.New("panic")

// moves takes, announces and puts.
func (p *trip) moves() deed.Stepwise[move] {
	return deed.Stepwise[move]{
		Name:  "transfer.make",
		Rules: deed.Rules{Retry: deed.Retry{Attempts: 3, First: time.Second}},
		Check: func(ctx context.Context, r deed.Reader, _ string, c move) (found []deed.Finding, err error) {
			for i, id := range c.To {
				if _, _, err := vaults.Load(ctx, r, id); errors.Is(err, deed.ErrNotFound) {
					found = append(found, deed.Finding{Field: fmt.Sprintf("to.%d", i), Text: "there is no vault " + id, Fatal: true})
				} else if err != nil {
					return nil, err
				}
			}
			if c.N == 1 {
				found = append(found, deed.Finding{Field: "n", Text: "that is little"})
			}
			return found, p.outside("check", false, "")
		},
		Steps: []deed.Step[move]{
			{
				Name: "take",
				Do: func(ctx context.Context, w *deed.Work, c move) error {
					if err := p.outside("take", false, w.Key()); err != nil {
						return err
					}
					return errors.Join(w.Put(c.N*len(c.To)), w.Ask(ctx, deed.Send(vaults, c.From, take{c.N * len(c.To)})))
				},
				Undo: func(ctx context.Context, w *deed.Work, c move) error {
					if err := p.outside("take", true, w.Key()); err != nil {
						return err
					}
					if w.Unclear {
						return nil // in this test it was not done
					}
					return w.Ask(ctx, deed.Send(vaults, c.From, drop{c.N * len(c.To)}))
				},
			},
			{Name: "announce", Do: func(ctx context.Context, w *deed.Work, c move) error {
				n := 0
				if err := w.Get("take", &n); err != nil || n != c.N*len(c.To) {
					return deed.Permanent(fmt.Errorf("kept %d: %w", n, err))
				}
				return p.outside("announce", false, w.Key())
			}},
			{
				Name: "put", Beside: true,
				Do: func(ctx context.Context, w *deed.Work, c move) error {
					if err := p.outside("put", false, w.Key()); err != nil {
						return err
					}
					var all []deed.Sending
					for _, id := range c.To {
						all = append(all, deed.Send(vaults, id, drop{c.N}))
					}
					return w.AskTogether(ctx, all...)
				},
			},
		},
	}
}

func newTrip(t *testing.T, more ...deed.Part) *trip {
	p := &trip{T: t, store: mem.New(), fail: map[string]error{}, times: map[string]int{}}
	p.def = p.moves()
	p.rt, p.stop = runOn(t, p.store.(*mem.Store), deed.Domain{Name: "d", Parts: append(more, vaults, p.def)})
	p.stop = sync.OnceFunc(p.stop)
	t.Cleanup(func() { p.stop() })
	for _, id := range []string{"a", "b", "c"} {
		if _, err := vaults.Execute(t.Context(), p.rt, id, drop{100}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *trip) submit(id string, c move) string {
	p.Helper()
	r, err := p.def.Submit(deed.With(p.Context(), deed.Call{ID: id, Actor: "ann"}), p.rt, "", c)
	if err != nil || !r.Pending || r.Command != id {
		p.Fatalf("%+v, %v", r, err)
	}
	return id
}

func (p *trip) wait(id string) deed.CommandStatus {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 5*time.Minute)
	defer cancel()
	s, err := p.rt.Commands().Wait(ctx, id)
	if err != nil {
		p.Fatalf("%+v, %v", s, err)
	}
	return s
}

// coins are what is in the vaults.
func (p *trip) coins() string {
	p.Helper()
	var out []string
	for _, id := range []string{"a", "b", "c"} {
		j, _, err := vaults.Load(p.Context(), p.rt, id)
		if err != nil {
			p.Fatal(err)
		}
		out = append(out, fmt.Sprint(j.Coins))
	}
	return strings.Join(out, " ")
}

// story is the types of the events of a command.
func (p *trip) story(id string) string {
	p.Helper()
	var out []string
	for rec, err := range p.store.Read(p.Context(), "$command/"+id, store.Range{}) {
		if err != nil {
			p.Fatal(err)
		}
		out = append(out, rec.Type)
	}
	return strings.Join(out, " ")
}

func (p *trip) want(what string, got, want any) {
	p.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// onTrip runs a test where time does not have to be waited for.
func onTrip(t *testing.T, name string, f func(p *trip)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(newTrip(t)) }) })
}

func TestStepwise(t *testing.T) {
	transient := errors.New("the line is dead")
	ab := move{From: "a", To: []string{"b", "c"}, N: 10}
	onTrip(t, "done", func(p *trip) {
		s := p.wait(p.submit("k", ab))
		p.want("state", s.State, deed.CommandCompleted)
		p.want("coins", p.coins(), "80 110 110")
		p.want("entities", s.Entities, []string{"vault/a", "vault/b", "vault/c"})
		p.want("actor", s.Actor, "ann")
		for _, st := range s.Steps {
			p.want(st.Name, st.State, deed.CommandCompleted)
		}
		p.want("story begins", strings.HasPrefix(p.story("k"), "received validated step-started step-completed step-started step-started"), true)
		p.want("story ends", strings.HasSuffix(p.story("k"), "step-completed step-completed completed"), true)
		again, err := p.def.Submit(deed.With(p.Context(), deed.Call{ID: "k", Actor: "ann"}), p.rt, again0(p, "k"), ab)
		p.want("again", fmt.Sprint(again.Replay, again.Pending, err), "true true <nil>")
		other := ab
		other.N = 11
		_, err = p.def.Submit(deed.With(p.Context(), deed.Call{ID: "k"}), p.rt, again0(p, "k"), other)
		p.want("other contents", errors.Is(err, deed.ErrMismatch), true)
	})
	onTrip(t, "tried again", func(p *trip) {
		p.fail["announce"], p.times["announce"] = transient, 2
		s := p.wait(p.submit("k", ab))
		p.want("state", s.State, deed.CommandCompleted)
		p.want("attempts", s.Steps[1].Attempts, 3)
		p.want("coins", p.coins(), "80 110 110")
		p.want("calls of take", strings.Count(p.did(), "take"), 1)
		p.want("calls of put", strings.Count(p.did(), "put"), 1)
	})
	onTrip(t, "fails, is resumed", func(p *trip) {
		p.fail["announce"], p.times["announce"] = transient, 3
		s := p.wait(p.submit("k", ab))
		p.want("state", fmt.Sprint(s.State, s.Code, s.Reason), "failedfailedthe line is dead")
		found, err := p.rt.Commands().Find(p.Context(), store.Query{})
		p.want("listed", fmt.Sprint(len(found) > 0, err), "true <nil>")
		p.want("resume", p.rt.Commands().Resume(p.Context(), "k"), nil)
		p.want("state", p.wait("k").State, deed.CommandCompleted)
		p.want("calls of check", strings.Count(p.did(), "check"), 1)
		p.want("calls of take", strings.Count(p.did(), "take"), 1)
		p.want("resume again", errors.Is(p.rt.Commands().Resume(p.Context(), "k"), deed.ErrStands), true)
	})
	onTrip(t, "permanent", func(p *trip) {
		p.fail["take"] = deed.Permanent(transient)
		s := p.wait(p.submit("k", ab))
		p.want("state", fmt.Sprint(s.State, s.Steps[0].Attempts), "failed1")
	})
	onTrip(t, "panics", func(p *trip) {
		p.fail["take"] = errPanic
		p.submit("k", ab)
		s := p.wait("k")
		p.want("state", s.State, deed.CommandFailed)
		p.want("reason", strings.Contains(s.Reason, "panicked: oh"), true)
	})
	onTrip(t, "rejected at first", func(p *trip) {
		s := p.wait(p.submit("k", move{From: "a", To: []string{"b", "c"}, N: 51}))
		p.want("state", fmt.Sprint(s.State, s.Code), "rejectedtoo_few")
		p.want("coins", p.coins(), "100 100 100")
	})
	onTrip(t, "rejected late, undone", func(p *trip) {
		p.fail["announce"] = errTooFew
		s := p.wait(p.submit("k", ab))
		p.want("state", fmt.Sprint(s.State, s.Code, s.Undone), "rejectedtoo_fewtrue")
		p.want("calls", strings.HasSuffix(p.did(), "undo take"), true)
		a, _, _ := vaults.Load(p.Context(), p.rt, "a")
		p.want("coins of a", a.Coins, 100)
	})
	onTrip(t, "unclear, undone", func(p *trip) {
		p.fail["take"] = transient
		p.wait(p.submit("k", ab))
		p.want("cancel", p.rt.Commands().Cancel(p.Context(), "k", ""), nil)
		for p.wait("k").State == deed.CommandFailed {
			time.Sleep(time.Second)
		}
		p.want("calls", p.did(), "check, take, take, take, undo take")
		p.want("coins", p.coins(), "100 100 100")
	})
	onTrip(t, "undoing fails, is resumed", func(p *trip) {
		p.fail["announce"] = errTooFew
		p.fail["undo take"], p.times["undo take"] = transient, 3
		s := p.wait(p.submit("k", ab))
		p.want("state", fmt.Sprint(s.State, s.Reason), "failedthe line is dead")
		p.want("resume", p.rt.Commands().Resume(p.Context(), "k"), nil)
		s = p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Code), "rejectedtoo_few")
	})
	onTrip(t, "cancelled", func(p *trip) {
		p.fail["announce"] = transient
		p.wait(p.submit("k", ab))
		p.want("cancel", p.rt.Commands().Cancel(p.Context(), "k", "changed my mind"), nil)
		for p.wait("k").State == deed.CommandFailed {
			time.Sleep(time.Second)
		}
		s := p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Undone, s.Reason), "cancelledtruechanged my mind")
		p.want("cancel again", errors.Is(p.rt.Commands().Cancel(p.Context(), "k", ""), deed.ErrStands), true)
	})
	onTrip(t, "cancelled before anything was done", func(p *trip) {
		s := p.wait(p.submit("k", move{From: "a", To: []string{"x"}, N: 10}))
		p.want("state", s.State, deed.CommandInvalid)
		p.want("cancel", p.rt.Commands().Cancel(p.Context(), "k", "why not"), nil)
		for p.wait("k").State == deed.CommandInvalid {
			time.Sleep(time.Second)
		}
		s = p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Undone), "cancelledfalse")
	})
	onTrip(t, "invalid, corrected", func(p *trip) {
		s := p.wait(p.submit("k", move{From: "a", To: []string{"b", "x"}, N: 10}))
		p.want("state", fmt.Sprint(s.State, s.Findings), "invalid[{to.1 there is no vault x true}]")
		p.want("coins", p.coins(), "100 100 100")
		p.want("correct", p.rt.Commands().Correct(p.Context(), "k", []byte(`{"from":"a","to":["b","c"],"n":1}`)), nil)
		for p.wait("k").State == deed.CommandInvalid {
			time.Sleep(time.Second)
		}
		s = p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Findings), "completed[{n that is little false}]")
		p.want("coins", p.coins(), "98 101 101")
		p.want("correct again", errors.Is(p.rt.Commands().Correct(p.Context(), "k", []byte(`{}`)), deed.ErrStands), true)
	})
}

// again0 is the id that the runtime made for a stepwise command.
func again0(p *trip, id string) string {
	s, err := p.rt.Commands().Get(p.Context(), id)
	if err != nil {
		p.Fatal(err)
	}
	return strings.TrimPrefix(s.Stream, "transfer/")
}

// A command of one entity can be stored first too.
func TestAsync(t *testing.T) {
	onTrip(t, "by rule", func(p *trip) {
		ctx := deed.With(p.Context(), deed.Call{ID: "k", Actor: "ann"})
		r, err := vaults.Execute(ctx, p.rt, "a", laterDrop{5})
		p.want("pending", fmt.Sprint(r.Pending, err), "true <nil>")
		s := p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Version, s.Events), "completed2 [{paid 2}]")
		p.want("story", p.story("k"), "received completed")
		r, err = vaults.Execute(ctx, p.rt, "a", laterDrop{5})
		p.want("again", fmt.Sprint(r.Pending, r.Replay, r.Version, err), "false true 2 <nil>")
	})
	onTrip(t, "by wish", func(p *trip) {
		r, err := vaults.Submit(p.Context(), p.rt, "a", take{500})
		p.want("pending", fmt.Sprint(r.Pending, err), "true <nil>")
		s := p.wait(r.Command)
		p.want("state", fmt.Sprint(s.State, s.Code), "rejectedtoo_few")
	})
	onTrip(t, "many", func(p *trip) {
		var ids []string
		for i := range 200 {
			r, err := vaults.Submit(p.Context(), p.rt, fmt.Sprint(i%20), drop{1})
			if err != nil {
				p.Fatal(err)
			}
			ids = append(ids, r.Command)
		}
		for _, id := range ids {
			p.want(id, p.wait(id).State, deed.CommandCompleted)
		}
		for i := range 20 {
			j, _, _ := vaults.Load(p.Context(), p.rt, fmt.Sprint(i))
			p.want(fmt.Sprint(i), j.Coins, 10)
		}
	})
}

// A step that asks several things, of which one is refused, has done a part: it
// is undone, and the refusal says who refused.
func TestRefusedHalfWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := halfWay("half.ask", func(ctx context.Context, w *deed.Work) error {
			if err := w.Ask(ctx, deed.Send(vaults, "a", drop{5})); err != nil {
				return err
			}
			return w.Ask(ctx, deed.Send(vaults, "b", take{500}))
		})
		one := halfWay("half.one", func(ctx context.Context, w *deed.Work) error {
			return w.Ask(ctx, deed.Send(vaults, "b", take{500}))
		})
		group := halfWay("half.group", func(ctx context.Context, w *deed.Work) error {
			return w.AskTogether(ctx, deed.Send(vaults, "a", drop{5}), deed.Send(vaults, "b", take{500}))
		})
		p := newTrip(t, def, one, group)
		for _, c := range []struct {
			def   deed.Stepwise[move]
			state string
		}{{def, "rejected true cancelled"}, {one, "rejected false rejected"}, {group, "rejected false rejected"}} {
			r, err := c.def.Submit(t.Context(), p.rt, "h", move{})
			if err != nil {
				t.Fatal(err)
			}
			s := p.wait(r.Command)
			p.want(c.def.Name, fmt.Sprint(s.State, " ", s.Undone, " ", s.Steps[0].State), c.state)
			p.want("who", s.Reason, "vault/b: there are not that many coins")
			p.want("coins", p.coins(), "100 100 100")
		}
	})
}

// halfWay has one step, which is undone by taking back what a got.
func halfWay(name string, do func(context.Context, *deed.Work) error) deed.Stepwise[move] {
	return deed.Stepwise[move]{Name: name, Steps: []deed.Step[move]{{
		Name: "give",
		Do:   func(ctx context.Context, w *deed.Work, _ move) error { return do(ctx, w) },
		Undo: func(ctx context.Context, w *deed.Work, _ move) error {
			if !w.Unclear {
				return errors.New("it is not clear what was done")
			}
			return w.Ask(ctx, deed.Send(vaults, "a", take{5}))
		},
	}}}
}

// A program that is stopped in order, however often, uses up no attempt.
func TestStoppedInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, open := mem.New(), false
		wait := func(ctx context.Context) error {
			if open {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		def := deed.Stepwise[move]{Name: "long.walk", Rules: deed.Rules{Retry: deed.Retry{Attempts: 2}}, Steps: []deed.Step[move]{{
			Name: "walk", Timeout: time.Hour,
			Do: func(ctx context.Context, _ *deed.Work, _ move) error { return wait(ctx) },
		}}}
		run := func(f func(rt *deed.Runtime)) {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults, def}}}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- rt.Run(ctx) }()
			f(rt)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		ctx := deed.With(t.Context(), deed.Call{ID: "k"})
		for i := range 4 {
			run(func(rt *deed.Runtime) {
				if i == 0 {
					if _, err := def.Submit(ctx, rt, "l", move{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if st, err := rt.Commands().Get(ctx, "k"); err != nil || st.State != deed.CommandRunning || st.Attempts != 1 {
					t.Errorf("start %d: %s, attempt %d, %v", i, st.State, st.Attempts, err)
				}
			})
		}
		open = true
		run(func(rt *deed.Runtime) {
			if st, err := rt.Commands().Wait(ctx, "k"); err != nil || st.State != deed.CommandCompleted {
				t.Errorf("%s %s, %v", st.State, st.Reason, err)
			}
		})
	})
}

// A command that is stored first is for a version of its entity too.
func TestAsyncForAVersion(t *testing.T) {
	onTrip(t, "passed", func(p *trip) {
		for version, want := range map[uint64]string{0: "rejected conflict", 1: "completed "} {
			call := deed.Call{ID: fmt.Sprint("k", version), IfVersion: &version}
			if _, err := vaults.Submit(deed.With(p.Context(), call), p.rt, "a", drop{1}); err != nil {
				p.Fatal(err)
			}
			s := p.wait(call.ID)
			p.want(call.ID, fmt.Sprint(s.State, " ", s.Code), want)
		}
	})
}

// A program that does not have what a command has begun leaves it alone, and
// says so; one that has it again goes on.
func TestAnotherProgram(t *testing.T) {
	ab := move{From: "a", To: []string{"b", "c"}, N: 10}
	for name, change := range map[string]func(*deed.Stepwise[move]) []deed.Part{
		"renamed step":    func(d *deed.Stepwise[move]) []deed.Part { d.Steps[0].Name = "grab"; return []deed.Part{vaults, *d} },
		"removed command": func(*deed.Stepwise[move]) []deed.Part { return []deed.Part{vaults} },
	} {
		onTrip(t, name, func(p *trip) {
			p.fail["announce"] = deed.Permanent(errors.New("the line is dead"))
			p.wait(p.submit("k", ab))
			p.stop()
			other := p.moves()
			rt, stop := runOn(p.T, p.store.(*mem.Store), deed.Domain{Name: "d", Parts: change(&other)})
			p.want("cancel", rt.Commands().Cancel(p.Context(), "k", "no more"), nil)
			time.Sleep(10 * time.Minute)
			s, err := rt.Commands().Get(p.Context(), "k")
			p.want("left alone", fmt.Sprint(s.State, s.Undone, err), "failedfalse <nil>")
			p.want("reason", strings.Contains(s.Reason, "this program"), true)
			stop()
			p.rt, stop = runOn(p.T, p.store.(*mem.Store), deed.Domain{Name: "d", Parts: []deed.Part{vaults, p.moves()}})
			defer stop()
			p.want("resume", p.rt.Commands().Resume(p.Context(), "k"), nil)
			time.Sleep(time.Minute)
			s = p.wait("k")
			p.want("state", fmt.Sprint(s.State, s.Undone), "cancelledtrue")
			a, _, _ := vaults.Load(p.Context(), p.rt, "a")
			p.want("coins of a", a.Coins, 100)
		})
	}
}

// Asking to cancel twice while a step runs loses nothing of what the step does.
func TestCancelledTwiceMeanwhile(t *testing.T) {
	onTrip(t, "twice", func(p *trip) {
		p.mu.Lock()
		p.hold = "announce"
		p.mu.Unlock()
		p.submit("k", move{From: "a", To: []string{"b", "c"}, N: 10})
		time.Sleep(time.Second)
		for range 3 {
			p.want("cancel", p.rt.Commands().Cancel(p.Context(), "k", "no"), nil)
		}
		p.mu.Lock()
		p.hold = ""
		p.mu.Unlock()
		time.Sleep(time.Minute)
		s := p.wait("k")
		p.want("state", fmt.Sprint(s.State, s.Undone), "cancelledtrue")
		p.want("requests", strings.Count(p.story("k"), "cancel-requested"), 1)
		p.want("completed", strings.Contains(p.story("k"), "completed"), true)
		a, _, _ := vaults.Load(p.Context(), p.rt, "a")
		p.want("coins of a", a.Coins, 100)
	})
}

// The keys that the guide gives as examples are for ever.
func TestKeysAreForEver(t *testing.T) {
	guide, err := os.ReadFile("docs/guide-commands.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		keys, failed := map[string]string{}, false
		note := func(in string, w *deed.Work) error {
			if before, again := keys[in]; again && before != w.Key() {
				t.Errorf("the key in %s is %s, and then %s", in, before, w.Key())
			}
			if keys[in] = w.Key(); !failed {
				failed = true
				return errors.New("the line is dead")
			}
			return nil
		}
		def := deed.Stepwise[move]{Name: "payment.make", Steps: []deed.Step[move]{
			{
				Name: "tell",
				Do:   func(_ context.Context, w *deed.Work, _ move) error { return note("Do", w) },
				Undo: func(_ context.Context, w *deed.Work, _ move) error { return note("Undo", w) },
			},
			{Name: "refuse", Do: func(context.Context, *deed.Work, move) error { failed = false; return errTooFew }},
		}}
		rt, stop := runOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{vaults, def}})
		defer stop()
		if _, err := def.Submit(deed.With(t.Context(), deed.Call{ID: "7f1c"}), rt, "", move{}); err != nil {
			t.Fatal(err)
		}
		if st, err := rt.Commands().Wait(t.Context(), "7f1c"); err != nil || st.State != deed.CommandRejected || !st.Undone {
			t.Fatalf("%s, %v", st.State, err)
		}
		for in, key := range keys {
			if line := "| `" + in + "` of `tell` | `" + key + "` |"; !strings.Contains(string(guide), line) {
				t.Errorf("the guide lacks %s", line)
			}
		}
		if len(keys) != 2 || keys["Do"] == keys["Undo"] {
			t.Errorf("%v", keys)
		}
	})
}
