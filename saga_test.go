package deed_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// haul is the state of a saga that moves coins: it takes them out of one vault,
// has them blessed outside, and pays them into another.
type haul struct {
	From    string `json:"from"`
	To      string `json:"to"`
	N       int    `json:"n"`
	Blessed string `json:"blessed,omitempty"`
	Seal    string `json:"seal,omitempty"`
	Choice  string `json:"choice,omitempty"`
}

// outside is what the steps of a saga do outside, and what they are told to
// answer.
type outside struct {
	mu     sync.Mutex
	calls  []string
	errs   map[string][]error // by call: the answers to come
	always map[string]error
}

func (o *outside) call(what, key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, what)
	if err := o.always[what]; err != nil {
		return err
	}
	if errs := o.errs[what]; len(errs) > 0 {
		o.errs[what] = errs[1:]
		return errs[0]
	}
	return nil
}

func (o *outside) done() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.calls, ", ")
}

// halfDone is a no to something of which a part was done before.
var halfDone = deed.Reason{Code: "half_done", Text: "there is not enough wax"}

// hauls is the saga of these tests.
func hauls(o *outside) deed.Saga[haul] {
	return deed.Saga[haul]{
		Name: "haul",
		Steps: []deed.SagaStep[haul]{
			{
				Name: "take",
				Send: func(_ string, h haul) []deed.Sending { return []deed.Sending{deed.Send(vaults, h.From, take{h.N})} },
				Undo: func(_ string, h haul) []deed.Sending { return []deed.Sending{deed.Send(vaults, h.From, drop{h.N})} },
			},
			{
				Name: "bless", Retry: deed.Retry{Attempts: 3, First: time.Second},
				Do: func(_ context.Context, w *deed.Work, h *haul) error {
					h.Blessed = "yes"
					return o.call("bless", w.Key())
				},
				UndoDo: func(_ context.Context, w *deed.Work, h *haul) error {
					h.Blessed = ""
					return o.call("unbless", w.Key())
				},
			},
			{
				Name: "seal", Beside: true, Retry: deed.Retry{Attempts: 3, First: time.Second},
				Do: func(_ context.Context, w *deed.Work, h *haul) error {
					h.Seal = "wax"
					err := o.call("seal", w.Key())
					w.Unclear = errors.Is(err, halfDone)
					return err
				},
				UndoDo:    func(_ context.Context, w *deed.Work, h *haul) error { return o.call("unseal", w.Key()) },
				UndoRetry: deed.Retry{Attempts: 5, First: time.Second},
			},
			{
				Name: "approve",
				When: func(_ string, h haul) bool { return h.N >= 100 },
				Ask: func(_ string, h haul) deed.Question {
					return deed.Question{Text: fmt.Sprintf("%d coins?", h.N), Roles: []string{"boss"}, Within: 24 * time.Hour}
				},
			},
			{
				Name: "pay",
				Send: func(_ string, h haul) []deed.Sending { return []deed.Sending{deed.Send(vaults, h.To, laterDrop{h.N})} },
				Undo: func(_ string, h haul) []deed.Sending { return []deed.Sending{deed.Send(vaults, h.To, take{h.N})} },
			},
		},
	}
}

// sagas is a stage with a runtime that runs a saga.
type sagas struct {
	*testing.T
	rt   *deed.Runtime
	s    store.Store
	out  *outside
	saga deed.Saga[haul]
	stop func()
}

func stageSagas(t *testing.T, out *outside, parts ...deed.Part) *sagas {
	t.Helper()
	p := &sagas{T: t, s: mem.New(), out: out, saga: hauls(out)}
	p.begin(append(parts, vaults, p.saga)...)
	return p
}

func (p *sagas) begin(parts ...deed.Part) {
	p.Helper()
	p.rt, p.stop = runSlowly(p.T, p.s, deed.Domain{Name: "test", Parts: parts})
}

// runSlowly is runOn for tests in which days pass: followers do not look for
// themselves every second.
func runSlowly(t *testing.T, s store.Store, domain deed.Domain) (*deed.Runtime, func()) {
	t.Helper()
	return runWith(t, s, deed.Config{Domains: []deed.Domain{domain}, Poll: time.Hour})
}

func (p *sagas) fill(vault string, n int) {
	p.Helper()
	if _, err := vaults.Execute(p.Context(), p.rt, vault, drop{n}); err != nil {
		p.Fatal(err)
	}
}

func (p *sagas) coins(vault string) int {
	p.Helper()
	j, _, err := vaults.Load(p.Context(), p.rt, vault)
	if err != nil && !errors.Is(err, deed.ErrNotFound) {
		p.Fatal(err)
	}
	return j.Coins
}

// expect waits until a saga is over or stuck and compares what became of it and
// of its steps.
func (p *sagas) expect(id, want string) deed.Instance {
	p.Helper()
	i, err := p.rt.Instances().Wait(p.Context(), "saga", "haul", id)
	if err != nil {
		p.Fatal(err)
	}
	got := []string{string(i.State)}
	if i.Code != "" {
		got = append(got, i.Code)
	}
	for _, st := range i.Steps {
		got = append(got, st.Name+" "+string(st.State))
	}
	if s := strings.Join(got, ", "); s != want {
		p.Errorf("saga %s is\n%s, wanted\n%s (%s)", id, s, want, i.Reason)
	}
	return i
}

func TestSagaCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stageSagas(t, &outside{})
		defer p.stop()
		p.fill("a", 50)
		if _, err := p.saga.Start(t.Context(), p.rt, "s1", haul{From: "a", To: "b", N: 20}); err != nil {
			t.Fatal(err)
		}
		i := p.expect("s1", "completed, take done, bless done, seal done, approve skipped, pay done")
		if a, b := p.coins("a"), p.coins("b"); a != 30 || b != 20 {
			t.Errorf("a has %d, b has %d", a, b)
		}
		if !strings.Contains(string(i.Data), `"blessed":"yes"`) || !strings.Contains(string(i.Data), `"seal":"wax"`) {
			t.Errorf("its state is %s", i.Data)
		}
		if again, err := p.saga.Start(t.Context(), p.rt, "s1", haul{From: "a", To: "b", N: 20}); err != nil || again.State != deed.InstanceCompleted {
			t.Errorf("started again: %v, %v", again.State, err)
		}
		if _, err := p.saga.Start(t.Context(), p.rt, "s1", haul{From: "a", To: "b", N: 21}); !errors.Is(err, deed.ErrMismatch) {
			t.Errorf("started with another state: %v", err)
		}
		if a, b := p.coins("a"), p.coins("b"); a != 30 || b != 20 {
			t.Errorf("in the end a has %d, b has %d", a, b)
		}
	})
}

func TestSagaTurnsBack(t *testing.T) {
	no := deed.Reason{Code: "unworthy", Text: "they are not worthy"}
	down := errors.New("the church is closed")
	for name, c := range map[string]struct {
		out  *outside
		n    int
		full int // in the vault that is paid into
		want string
	}{
		"first step refused": {n: 60, want: "undone, too_few, take refused"},
		"a no outside": {
			n: 20, out: &outside{always: map[string]error{"seal": no}},
			want: "undone, unworthy, take undone, bless undone, seal refused",
		},
		"a no outside, half way": {
			n: 20, out: &outside{always: map[string]error{"seal": halfDone}},
			want: "undone, half_done, take undone, bless undone, seal undone",
		},
		"failed too often": {
			n: 20, out: &outside{always: map[string]error{"bless": down}},
			want: "undone, failed, take undone, bless undone, seal undone",
		},
		"works the third time": {
			n: 20, out: &outside{errs: map[string][]error{"bless": {down, down}}},
			want: "completed, take done, bless done, seal done, approve skipped, pay done",
		},
		"last step refused": {
			n: 20, full: 1000, want: "undone, too_few, take undone, bless undone, seal undone, approve skipped, pay refused",
		},
		"undo fails at first": {
			n: 20, full: 1000, out: &outside{errs: map[string][]error{"unseal": {down, down, down, down}}},
			want: "undone, too_few, take undone, bless undone, seal undone, approve skipped, pay refused",
		},
		"undo fails for good": {
			n: 20, full: 1000, out: &outside{always: map[string]error{"unseal": down}},
			want: "stuck, stuck, take done, bless done, seal undoing, approve skipped, pay refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := stageSagas(t, cmp.Or(c.out, &outside{}))
				defer p.stop()
				p.fill("a", 50)
				if c.full > 0 {
					p.fill("b", c.full)
				}
				if _, err := p.saga.Start(t.Context(), p.rt, "s1", haul{From: "a", To: "b", N: c.n}); err != nil {
					t.Fatal(err)
				}
				i := p.expect("s1", c.want)
				if c.full > 0 && !strings.HasSuffix(p.out.done(), "unseal, unbless") && i.State == deed.InstanceUndone {
					t.Errorf("not undone in reverse: %s", p.out.done())
				}
				if i.State == deed.InstanceUndone && (p.coins("a") != 50 || p.coins("b") != c.full) {
					t.Errorf("a has %d, b has %d", p.coins("a"), p.coins("b"))
				}
			})
		})
	}
}

// A decision takes place in the same append as what follows from it; a late one
// is refused; nobody but who may decides.
func TestSagaAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := stageSagas(t, &outside{})
		defer func() { p.stop() }()
		p.fill("a", 900)
		for _, id := range []string{"yes", "no", "late", "cancel"} {
			if _, err := p.saga.Start(t.Context(), p.rt, id, haul{From: "a", To: id, N: 100}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		p.stop()
		p.begin(vaults, p.saga)
		boss := deed.With(t.Context(), deed.Call{Actor: "ann", Restricted: true, Roles: []string{"boss"}})
		task := func(id string) string {
			i, err := p.rt.Instances().Get(t.Context(), "saga", "haul", id)
			if err != nil || i.Tasks["approve"] == "" {
				t.Fatalf("saga %s has no task: %+v, %v", id, i, err)
			}
			return i.Tasks["approve"]
		}
		ben := deed.With(t.Context(), deed.Call{Actor: "ben", Restricted: true, Roles: []string{"clerk"}})
		if _, err := p.rt.Tasks().Decide(ben, task("yes"), "approve", "", nil); !errors.As(err, &deed.Forbidden{}) {
			t.Errorf("a clerk decides: %v", err)
		}
		var invalid deed.Invalid
		if _, err := p.rt.Tasks().Decide(boss, task("yes"), "perhaps", "", nil); !errors.As(err, &invalid) {
			t.Errorf("a choice there is not: %v", err)
		}
		yes := task("yes")
		for range 2 {
			if got, err := p.rt.Tasks().Decide(boss, yes, "approve", "", nil); err != nil || got.State != deed.TaskDecided {
				t.Errorf("%+v, %v", got, err)
			}
		}
		p.expect("yes", "completed, take done, bless done, seal done, approve done, pay done")
		if _, err := p.rt.Tasks().Decide(boss, yes, "reject", "", nil); !errors.Is(err, deed.ErrDecided) {
			t.Errorf("decided otherwise later: %v", err)
		}
		if _, err := p.rt.Tasks().Decide(boss, task("no"), "reject", "too much", nil); err != nil {
			t.Error(err)
		}
		if i := p.expect("no", "undone, decided_reject, take undone, bless undone, seal undone, approve refused"); i.Reason != "too much" {
			t.Error(i.Reason)
		}
		if _, err := p.rt.Instances().Cancel(t.Context(), "saga", "haul", "cancel", "changed my mind"); err != nil {
			t.Error(err)
		}
		p.expect("cancel", "undone, cancelled, take undone, bless undone, seal undone, approve refused")
		late := task("late")
		time.Sleep(25 * time.Hour)
		p.expect("late", "undone, overdue, take undone, bless undone, seal undone, approve refused")
		if _, err := p.rt.Tasks().Decide(boss, late, "approve", "", nil); !errors.Is(err, deed.ErrDecided) {
			t.Errorf("decided when it was too late: %v", err)
		}
		if a := p.coins("a"); a != 800 {
			t.Errorf("a has %d", a)
		}
	})
}

// The commands of one step are accepted together or not at all, also those that
// undo it: a step that was refused half way has done nothing.
func TestStepIsAllOrNothing(t *testing.T) {
	type both struct{ Out, Back int }
	saga := deed.Saga[both]{
		Name: "both",
		Steps: []deed.SagaStep[both]{
			{
				Name: "first",
				Send: func(_ string, s both) []deed.Sending {
					return []deed.Sending{deed.Send(vaults, "a", drop{1}), deed.Send(vaults, "c", drop{1})}
				},
				Undo: func(_ string, s both) []deed.Sending {
					return []deed.Sending{deed.Send(vaults, "a", take{1}), deed.Send(vaults, "c", take{s.Back})}
				},
			},
			{
				Name: "second",
				Send: func(_ string, s both) []deed.Sending {
					return []deed.Sending{deed.Send(vaults, "a", drop{5}), deed.Send(vaults, "d", drop{5}), deed.Send(vaults, "b", take{s.Out})}
				},
				Undo: func(string, both) []deed.Sending { panic("it was refused, and has done nothing") },
			},
		},
	}
	synctest.Test(t, func(t *testing.T) {
		p := stageSagas(t, &outside{}, saga)
		defer p.stop()
		p.fill("a", 10)
		play := func(id string, s both, want string) {
			i, err := saga.Start(t.Context(), p.rt, id, s)
			if err != nil {
				t.Fatal(err)
			}
			vaults := []int{p.coins("a"), p.coins("c"), p.coins("d")}
			if got := fmt.Sprintln(i.State, vaults, i.Commands); got != want+"\n" {
				t.Errorf("%s: %s, wanted %s (%s)", id, got, want, i.Reason)
			}
		}
		play("turned back", both{Out: 1, Back: 1}, "undone [10 0 0] 4")
		play("stuck", both{Out: 1, Back: 500}, "stuck [11 1 0] 2")
		if i, err := p.rt.Instances().Retry(t.Context(), "saga", "both", "stuck", ""); err != nil || i.State != deed.InstanceStuck {
			t.Errorf("tried again: %s, %v", i.State, err)
		}
		play("the next", both{Out: 1, Back: 1}, "undone [11 1 0] 4")
	})
}
