package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A yard is a depot that fails in every way there is: a projection that panics, an
// event handler and a subscription that refuse, and a queue whose consumers give up.
type yard struct {
	*depot
	letters deed.DeadLetters

	mu    sync.Mutex
	bad   map[string]bool // destinations that nobody can bear
	seen  []string        // what the clerk took in: stream:version and destination
	slow  time.Duration   // what it takes the clerk to do so
	tried int
}

// inYard runs f in simulated time.
func inYard(t *testing.T, f func(y *yard)) {
	synctest.Test(t, func(t *testing.T) {
		y, end := newYard(t, mem.New())
		defer end()
		f(y)
	})
}

func newYard(t *testing.T, s store.Store) (*yard, func()) {
	t.Helper()
	y := &yard{depot: &depot{t: t, boxes: &boxes{}}, bad: map[string]bool{}}
	rt, err := deed.New(s, deed.Config{
		Domains: []deed.Domain{crates(crateTopic(), y.map1(), y.clerk())}, Targets: map[string]deed.TargetKind{"box": y.boxes},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	y.rt, y.subs, y.letters = rt, rt.Subscriptions(), rt.DeadLetters()
	ctx, cancel := context.WithCancel(context.Background())
	var end sync.WaitGroup
	end.Go(func() { rt.Run(ctx) })
	return y, func() { cancel(); end.Wait() }
}

// map1 is a projection: where crates go.
func (y *yard) map1() deed.Projection[crate] {
	return deed.Projection[crate]{Name: "places", On: []deed.Handler[crate]{deed.On(func(c *crate, e shipped) {
		if y.refuses(e.To) != nil {
			panic("no such place: " + fmt.Sprintf("%q", e.To))
		}
		c.Goods = append(c.Goods, e.To)
	})}}
}

// clerk is an event handler: it writes down where crates go.
func (y *yard) clerk() deed.EventHandler {
	return deed.EventHandler{Name: "clerk", On: []deed.Reaction{deed.Handle(func(_ context.Context, _ *deed.Tx, e deed.Recorded[shipped]) error {
		time.Sleep(y.slow)
		y.mu.Lock()
		y.tried++
		y.mu.Unlock()
		if err := y.refuses(e.Event.To); err != nil {
			return deed.Permanent(fmt.Errorf("crate %s: %w", e.ID, err))
		}
		y.mu.Lock()
		defer y.mu.Unlock()
		y.seen = append(y.seen, fmt.Sprintf("%s:%d %s", e.ID, e.Version, e.Event.To))
		return nil
	})}}
}

func (y *yard) refuses(to string) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.bad[to] {
		return fmt.Errorf("nobody drives to %q", to)
	}
	return nil
}

func (y *yard) dislike(to ...string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	clear(y.bad)
	for _, t := range to {
		y.bad[t] = true
	}
}

func (y *yard) saw() []string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return slices.Clone(y.seen)
}

// to ships crates somewhere.
func (y *yard) to(place string, ids ...string) {
	y.t.Helper()
	for _, id := range ids {
		if _, err := crateAggregate().Execute(y.t.Context(), y.rt, id, ship{place}); err != nil {
			y.t.Fatal(err)
		}
	}
}

// list returns the letters of a filter as "follower stream@version state".
func (y *yard) list(f deed.LetterFilter) (out []string) {
	y.t.Helper()
	for after := ""; ; {
		page, next, err := y.letters.List(y.t.Context(), f, after, 3)
		y.must(err)
		for _, l := range page {
			out = append(out, fmt.Sprintf("%s %s@%d %s", strings.SplitN(l.Follower, ".k", 2)[0], l.Stream, l.Version, l.State))
		}
		if after = next; next == "" {
			return out
		}
	}
}

// over waits until a job is over.
func (y *yard) over(j deed.LetterJob, err error) deed.LetterJob {
	y.t.Helper()
	y.must(err)
	for j.State == deed.JobRunning {
		time.Sleep(20 * time.Millisecond)
		j, err = y.letters.Job(y.t.Context(), j.ID)
		y.must(err)
	}
	return j
}

func (y *yard) equal(what string, got, want any) {
	y.t.Helper()
	if a, b := fmt.Sprint(got), fmt.Sprint(want); a != b {
		y.t.Errorf("%s: %s, want %s", what, a, b)
	}
}

// failing ships what nobody can bear, to subscribers of every kind.
func (y *yard) failing() (queue deed.Queue) {
	y.t.Helper()
	y.put("shop", "", func(s *deed.Subscription) { s.Retry = []string{"1s"} })
	y.boxes.of("freight/shop").failing(func(e deed.CloudEvent) error {
		var data crateShipped
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return err
		}
		return y.refuses(data.To)
	})
	y.put("work", "", func(s *deed.Subscription) { s.Target = json.RawMessage(`{"kind":"queue","ordered":true}`) })
	queue, err := y.rt.Queue(y.t.Context(), "freight", "work")
	y.must(err)
	y.dislike("Atlantis", "Utopia")
	y.to("Atlantis", "axe", "bay")
	y.to("Cork", "axe", "cod") // that of a waits
	y.to("Utopia", "dew")
	time.Sleep(time.Minute)
	for _, m := range y.lock(queue, 10) {
		if m.Event.Aggregate == "cod" {
			y.must(queue.Complete(y.t.Context(), m.Token))
		} else {
			y.must(queue.DeadLetter(y.t.Context(), m.Token, "who is "+m.Event.Aggregate+"?"))
		}
	}
	return queue
}

// Whatever failed, wherever: it is in one list, in one shape, and grouped by cause.
func TestOneListOfDeadLetters(t *testing.T) {
	inYard(t, func(y *yard) {
		y.failing()
		shop, work := y.status("shop").Follower, y.status("work").Follower
		name := func(f string) string { return strings.SplitN(f, ".k", 2)[0] }
		every := []string{
			"clerk crate/axe@1 dead", "clerk crate/bay@1 dead", "clerk crate/axe@2 waiting", "clerk crate/dew@1 dead",
			name(shop) + " crate/axe@1 dead", name(shop) + " crate/bay@1 dead", name(shop) + " crate/axe@2 waiting", name(shop) + " crate/dew@1 dead",
			name(work) + " crate/axe@1 dead", name(work) + " crate/bay@1 dead", name(work) + " crate/dew@1 dead",
			"places crate/axe@1 dead", "places crate/bay@1 dead", "places crate/axe@2 waiting", "places crate/dew@1 dead",
		}
		y.equal("all of them", y.list(deed.LetterFilter{}), every)
		y.equal("of a queue", len(y.list(deed.LetterFilter{Subscription: "freight/work"})), 3)
		y.equal("of a kind", len(y.list(deed.LetterFilter{Kind: "handler"})), 4)
		y.equal("that wait", len(y.list(deed.LetterFilter{State: "waiting"})), 3)
		y.equal("of an hour ago", len(y.list(deed.LetterFilter{Before: time.Now().Add(-time.Hour)})), 0)
		for what, c := range map[string]struct {
			f    deed.LetterFilter
			want error
		}{
			"nobody's":   {deed.LetterFilter{Follower: "nobody"}, deed.ErrNoFollower},
			"no topic's": {deed.LetterFilter{Subscription: "freight/none"}, deed.ErrNoSubscription},
			"no state":   {deed.LetterFilter{State: "tired"}, deed.Invalid{Field: "state", Detail: "is one of retrying, waiting, dead, discarded, handled"}},
		} {
			if _, _, err := y.letters.List(y.t.Context(), c.f, "", 0); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}

		groups, others, err := y.letters.Groups(y.t.Context(), deed.LetterFilter{})
		y.must(err)
		got := map[string]string{}
		for _, g := range groups {
			got[g.Example.Reason] = fmt.Sprintf("%d %d %d %s", g.Count, g.Blocks, len(g.Followers), g.Example.ID)
			if g.Oldest.IsZero() || g.Newest.Before(g.Oldest) || len(g.Fingerprint) != 12 {
				t.Errorf("%+v", g)
			}
		}
		y.equal("groups", got, map[string]string{
			`crate axe: nobody drives to "Atlantis"`: "3 1 1 clerk.3", `nobody drives to "Atlantis"`: "3 1 1 " + shop + ".3",
			`panic: no such place: "Atlantis"`: "3 1 1 places.3", "who is axe?": "3 1 1 " + work + ".3~0",
		})
		y.equal("others", others, 0)

		for _, id := range []string{"clerk.3", shop + ".3", "places.3", work + ".3~0"} {
			l, err := y.letters.Get(y.t.Context(), id)
			y.must(err)
			if l.ID != id || l.Blocks != 1 || l.Reason == "" || l.Attempts == 0 || len(l.Data) == 0 || l.Kind == "" || l.FirstAt.IsZero() || (l.Stack != "") != (id == "places.3") {
				t.Errorf("%+v", l)
			}
		}
		l, err := y.letters.Get(y.t.Context(), "clerk.7")
		if err != nil || l.Behind != "clerk.3" || l.Fingerprint != "" {
			t.Errorf("%+v, %v", l, err)
		}
		for _, id := range []string{"clerk.1", "nobody.1", work + ".1~0", shop + ".3~0", "x", "", work + ".1~x"} {
			if l, err := y.letters.Get(y.t.Context(), id); !errors.Is(err, deed.ErrNoDeadLetter) {
				t.Errorf("%s: %+v, %v", id, l, err)
			}
		}
	})
}

// Letters of subscriptions are there as soon as a program is.
func TestLettersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		y, end := newYard(t, s)
		y.failing()
		shop := y.status("shop").Follower + ".3"
		end()
		y, end = newYard(t, s)
		defer end()
		if n, err := y.rt.Followers().Redrive(t.Context(), shop); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// What is selected is redriven, and nothing else; what waited behind it comes after
// it, in order. Before that one can see what would be done.
func TestRedriveMany(t *testing.T) {
	inYard(t, func(y *yard) {
		queue := y.failing()
		ctx := deed.With(y.t.Context(), deed.Call{Actor: "ann"})
		all := deed.LetterAct{Do: deed.DoRedrive, All: true}
		plan, err := y.letters.Plan(ctx, all)
		y.must(err)
		y.equal("plan", []any{plan.Letters, plan.Blocks, len(plan.ByFollower), plan.ByFollower["clerk"], len(plan.Sample), plan.ID}, "[12 4 4 3 12 ]")
		y.equal("as before", len(y.list(deed.LetterFilter{})), 15)

		// Nobody has mended anything: each fails once more, and only once.
		tried := y.tried
		j := y.over(y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}}))
		y.equal("in vain", []any{j.State, j.Handled, j.Failed, j.By, y.tried - tried}, "[done 0 3 ann 3]")
		if !strings.Contains(j.Failure, "clerk.3: crate axe: nobody drives") {
			t.Error(j.Failure)
		}

		// With the first one only, if that fails again.
		tried = y.tried
		j = y.over(y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}, First: true}))
		y.equal("stopped", []any{j.State, j.Handled, j.Failed, y.tried - tried}, "[stopped 0 1 1]")
		if !strings.Contains(j.Why, "the first one, clerk.3, failed again: ") {
			t.Error(j.Why)
		}

		// Those of one cause.
		y.dislike("Utopia")
		fp := ""
		groups, _, err := y.letters.Groups(ctx, deed.LetterFilter{Follower: "places"})
		y.must(err)
		fp = groups[0].Fingerprint
		j = y.over(y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Fingerprint: fp}, First: true}))
		y.equal("of one cause", []any{j.State, j.Letters, j.Handled, j.Failed}, "[done 3 3 1]") // both of a, and b
		y.equal("the others", y.list(deed.LetterFilter{Follower: "places"}), "[places crate/dew@1 dead]")

		// Some of them, by their ids.
		j = y.over(y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{IDs: []string{"clerk.5", "clerk.3"}}}))
		y.equal("two of them", []any{j.State, j.Handled, j.Failed}, "[done 3 0]")
		y.equal("in order", y.saw(), "[cod:1 Cork axe:1 Atlantis bay:1 Atlantis axe:2 Cork]")

		// And the rest: messages are open again.
		y.dislike()
		j = y.over(y.letters.Begin(ctx, all))
		y.equal("the rest", []any{j.State, j.Letters, j.Handled, j.Failed, j.Why}, "[done 8 9 0 ]")
		y.equal("none", y.list(deed.LetterFilter{}), "[]")
		y.equal("of each key one message", len(y.lock(queue, 10)), 3)
		if b := y.boxes.of("freight/shop"); len(b.ids()) != 5 || !b.inOrder() {
			t.Errorf("%q", b.ids())
		}
		jobs, err := y.letters.Jobs(ctx, 3)
		if err != nil || len(jobs) != 3 || jobs[0].ID != j.ID {
			t.Errorf("%+v, %v", jobs, err)
		}
		if _, err := y.letters.Cancel(ctx, j.ID, "too late"); !errors.Is(err, deed.ErrStands) {
			t.Error(err)
		}
		if _, err := y.letters.Job(ctx, "none"); !errors.Is(err, deed.ErrNoJob) {
			t.Error(err)
		}
	})
}

// What is asked in a wrong way says how it is right.
func TestActsThatAreNone(t *testing.T) {
	inYard(t, func(y *yard) {
		for field, act := range map[string]deed.LetterAct{
			"do":     {},
			"all":    {Do: deed.DoRedrive},
			"reason": {Do: deed.DoDiscard, All: true},
			"rate":   {Do: deed.DoRedrive, All: true, Rate: -1},
			"state":  {Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{State: "waiting"}},
			"ids":    {Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{IDs: make([]string, 1001)}},
		} {
			_, err := y.letters.Begin(y.t.Context(), act)
			if inv, ok := errors.AsType[deed.Invalid](err); !ok || inv.Field != field {
				t.Errorf("%s: %v", field, err)
			}
		}
		if _, err := y.letters.Begin(y.t.Context(), deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{IDs: []string{"clerk.3"}}}); !errors.Is(err, deed.ErrNoDeadLetter) {
			t.Error(err)
		}
	})
}

// A rate is kept, and what is under way can be called off; what a program has not
// done when it ends, the next one does.
func TestSlowRedrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		y, end := newYard(t, s)
		y.dislike("Atlantis")
		const n = 100
		for i := range n {
			y.to("Atlantis", fmt.Sprint("c-", i))
		}
		time.Sleep(time.Second)
		y.dislike()
		act := deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}, Rate: 2}
		j, err := y.letters.Begin(t.Context(), act)
		y.must(err)
		time.Sleep(10 * time.Second)
		if got := len(y.saw()); got < 18 || got > 23 {
			t.Errorf("%d after 10 s", got)
		}
		end()
		before := len(y.saw())
		y, end = newYard(t, s)
		defer end()
		time.Sleep(5 * time.Second)
		if got := len(y.saw()); got < 8 || got > 13 {
			t.Errorf("%d after 5 s more", got)
		}
		j, err = y.letters.Cancel(t.Context(), j.ID, "it is loud")
		y.must(err)
		time.Sleep(10 * time.Second)
		after := len(y.saw())
		j, err = y.letters.Job(t.Context(), j.ID)
		y.must(err)
		y.equal("called off", []any{j.State, j.Why, j.Letters}, "[cancelled it is loud 100]")
		if left := len(y.list(deed.LetterFilter{Follower: "clerk"})); before+after+left != n || after > 15 {
			t.Errorf("%d and %d handled, %d left", before, after, left)
		}
		start := time.Now()
		j = y.over(y.letters.Begin(t.Context(), deed.LetterAct{Do: deed.DoRedrive, All: true}))
		y.equal("the rest", []any{j.State, j.Failed}, "[done 0]")
		if took := time.Since(start); took > 5*time.Second || len(y.saw())+before != n {
			t.Errorf("%v, %d", took, len(y.saw()))
		}
	})
}

// A rate holds for those that fail again, too: a place that is still broken is
// asked no more often.
func TestSlowRedriveThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y, end := newYard(t, mem.New())
		defer end()
		y.dislike("Atlantis")
		for i := range 20 {
			y.to("Atlantis", fmt.Sprint("c-", i))
		}
		time.Sleep(time.Second)
		begun := time.Now()
		j := y.over(y.letters.Begin(t.Context(), deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}, Rate: 2}))
		y.equal("all of them", []any{j.State, j.Failed}, "[done 20]")
		if took := time.Since(begun); took < 9*time.Second {
			t.Errorf("20 at 2 a second took %v", took)
		}
	})
}

// A guest leaves what it begins to the program that serves.
func TestGuestLeavesRedrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		y, end := newYard(t, s)
		y.dislike("Atlantis")
		y.to("Atlantis", "axe", "bay")
		time.Sleep(time.Second)
		end()
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{crates(crateTopic(), y.map1(), y.clerk())}, Guest: true, Logger: slog.New(slog.DiscardHandler)})
		y.must(err)
		ctx, stop := context.WithCancel(context.Background())
		var ended sync.WaitGroup
		ended.Go(func() { rt.Run(ctx) })
		j, err := rt.DeadLetters().Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}})
		y.must(err)
		none, err := rt.DeadLetters().Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Kind: "queue"}})
		y.must(err)
		time.Sleep(time.Minute)
		j, err = rt.DeadLetters().Job(ctx, j.ID)
		y.must(err)
		y.equal("it waits", []any{j.State, j.Letters, none.State}, "[running 2 done]")
		stop()
		ended.Wait()
		y, end = newYard(t, s)
		defer end()
		j = y.over(j, nil)
		y.equal("done", []any{j.State, j.Handled}, "[done 2]")
	})
}

// The first message of a queue is handled when a consumer has completed it.
func TestFirstMessage(t *testing.T) {
	inYard(t, func(y *yard) {
		queue := y.failing()
		ctx := y.t.Context()
		act := deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Subscription: "freight/work"}, First: true}
		one := func() deed.Message {
			t.Helper()
			time.Sleep(time.Second)
			got := y.lock(queue, 10)
			if len(got) != 1 {
				t.Fatalf("%+v", got)
			}
			return got[0]
		}
		j, err := y.letters.Begin(ctx, act)
		y.must(err)
		m := one()
		time.Sleep(10 * time.Second)
		y.must(queue.DeadLetter(ctx, m.Token, "still unknown"))
		j = y.over(j, nil)
		y.equal("stopped", []any{j.State, j.Handled, j.Failed, len(y.lock(queue, 10))}, "[stopped 0 1 0]")

		j, err = y.letters.Begin(ctx, act)
		y.must(err)
		y.must(queue.Complete(ctx, one().Token))
		j = y.over(j, nil)
		y.equal("done", []any{j.State, j.Handled, j.Failed}, "[done 3 0]")

		// Nobody comes for the first one.
		for _, m := range y.lock(queue, 10) {
			y.must(queue.DeadLetter(ctx, m.Token, "no"))
		}
		start := time.Now()
		j = y.over(y.letters.Begin(ctx, act))
		if took := time.Since(start); j.State != deed.JobStopped || took < 10*time.Minute || took > 11*time.Minute || !strings.Contains(j.Why, "nobody knows") {
			t.Errorf("%+v after %v", j, took)
		}
	})
}

// What fails for the first time behind a letter that is redriven is not tried a
// second time by the same job.
func TestRedriveTriesOnce(t *testing.T) {
	inYard(t, func(y *yard) {
		y.slow = 10 * time.Millisecond // so that what fails does so after the job began
		y.dislike("Atlantis", "Cork")
		y.to("Atlantis", "axe")
		y.to("Cork", "axe")
		time.Sleep(time.Second)
		y.dislike("Cork")
		tried := y.tried
		j := y.over(y.letters.Begin(y.t.Context(), deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Follower: "clerk"}, Rate: 1}))
		y.equal("once each", []any{j.State, j.Handled, j.Failed, y.tried - tried}, "[done 1 0 2]")
		y.equal("left", y.list(deed.LetterFilter{Follower: "clerk"}), "[clerk crate/axe@2 dead]")
	})
}

// A subscription that goes takes its letters with it, and ends what is done with them.
func TestRedriveOfWhatGoes(t *testing.T) {
	inYard(t, func(y *yard) {
		y.failing()
		y.dislike()
		ctx := y.t.Context()
		j, err := y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoRedrive, LetterFilter: deed.LetterFilter{Subscription: "freight/shop"}, Rate: 0.1})
		y.must(err)
		time.Sleep(5 * time.Second)
		y.must(y.subs.Delete(ctx, "freight", "shop"))
		j = y.over(j, nil)
		if j.State != deed.JobStopped || j.Handled == 0 || !strings.Contains(j.Why, "no such subscription: freight/shop") {
			t.Errorf("%+v", j)
		}
	})
}

// Many are given up for a reason, of each of which a note is kept; what waited goes
// on.
func TestDiscardMany(t *testing.T) {
	inYard(t, func(y *yard) {
		y.failing()
		ctx := deed.With(y.t.Context(), deed.Call{Actor: "ann"})
		j := y.over(y.letters.Begin(ctx, deed.LetterAct{Do: deed.DoDiscard, All: true, Reason: "there is no such place"}))
		y.equal("discarded", []any{j.State, j.Letters, j.Discarded, j.Failed}, "[done 12 12 0]")
		y.equal("none", y.list(deed.LetterFilter{}), "[]")
		y.equal("notes", len(y.list(deed.LetterFilter{State: "discarded"})), 12)
		y.equal("the rest", y.saw(), "[cod:1 Cork axe:2 Cork]")
		for _, id := range []string{"clerk.3", y.status("work").Follower + ".3~0"} {
			l, err := y.letters.Get(ctx, id)
			if err != nil || l.State != "discarded" || l.Closed == nil || l.Closed.By != "ann" || l.Closed.Why != "there is no such place" || len(l.Data) == 0 {
				t.Errorf("%+v, %v", l, err)
			}
		}
		var audit []string
		for rec, err := range y.rt.Store().Read(ctx, "$audit/followers", store.Range{}) {
			y.must(err)
			audit = append(audit, rec.Type+" "+string(rec.Data))
		}
		if len(audit) != 1 || !strings.Contains(audit[0], `dead-letters-discarded {"subject":"job `+j.ID) || !strings.Contains(audit[0], "there is no such place; 12 dead letters") {
			t.Errorf("%q", audit)
		}
	})
}

// An edited letter is seen as edited by its follower alone, in its turn.
func TestEditDeadLetters(t *testing.T) {
	inYard(t, func(y *yard) {
		queue := y.failing()
		ctx := deed.With(y.t.Context(), deed.Call{Actor: "ann"})
		shop, work := y.status("shop").Follower, y.status("work").Follower
		edit := func(id, data string) error {
			_, err := y.letters.Edit(ctx, id, json.RawMessage(data), "a misprint")
			return err
		}
		for id, c := range map[string]struct{ data, field, says string }{
			"clerk.3":     {`{"To":7}`, "data.To", "is not what crate.shipped takes: "},
			"clerk.5":     {`{"Too":"Cork"}`, "data.Too", "is not what crate.shipped takes: "},
			shop + ".3":   {`{`, "data", "is not what crate.shipped takes: "},
			shop + ".5":   {`null`, "data", "is missing"},
			work + ".3~0": {`{"To":"Cork"}`, "data.To", "is not what crate.shipped.v1 takes: "},
			work + ".5~0": {`{"to":["Cork"]}`, "data.to", "is not what crate.shipped.v1 takes: "},
		} {
			err := edit(id, c.data)
			if inv, ok := errors.AsType[deed.Invalid](err); !ok || inv.Field != c.field || !strings.HasPrefix(inv.Detail, c.says) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := edit("places.3", `{"To":"Cork"}`); !errors.Is(err, deed.ErrNotEditable) || !strings.Contains(err.Error(), "upcast") {
			t.Error(err)
		}
		if _, err := y.letters.Edit(ctx, "clerk.3", json.RawMessage(`{"To":"Cork"}`), ""); err == nil {
			t.Error("it was edited without a reason")
		}
		if err := edit("clerk.1", `{"To":"Cork"}`); !errors.Is(err, deed.ErrNoDeadLetter) {
			t.Error(err)
		}

		y.must(edit("clerk.3", `{"To":"Bantry"}`))
		y.must(edit(shop+".3", `{"To":"Bantry"}`))
		y.must(edit(work+".3~0", `{"to":"Bantry"}`))
		for _, id := range []string{"clerk.3", shop + ".3", work + ".3~0"} {
			l, err := y.letters.Get(ctx, id)
			if err != nil || !strings.Contains(string(l.Data), "Atlantis") || len(l.Edits) != 1 || !strings.Contains(string(l.Edits[0].Data), "Bantry") || l.Edits[0].By != "ann" || l.Edits[0].Why != "a misprint" || l.Edits[0].At.IsZero() {
				t.Errorf("%+v, %v", l, err)
			}
			n, err := y.rt.Followers().Redrive(ctx, id)
			if want := map[bool]int{true: 1, false: 2}[strings.Contains(id, "~")]; n != want || err != nil {
				t.Errorf("%s: %d, %v", id, n, err)
			}
		}
		y.equal("the clerk", y.saw(), "[cod:1 Cork axe:1 Bantry axe:2 Cork]")
		var got []string
		for _, e := range y.boxes.of("freight/shop").got {
			got = append(got, e.ID+" "+string(e.Data))
		}
		y.equal("the shop", got, `[crate/cod:1 {"to":"Cork"} crate/axe:1 {"to":"Bantry"} crate/axe:2 {"to":"Cork"}]`)
		m := y.lock(queue, 10)
		if len(m) != 1 || m[0].Event.ID != "crate/axe:1" || string(m[0].Event.Data) != `{"to":"Bantry"}` {
			t.Fatalf("%+v", m)
		}
		y.must(queue.Complete(ctx, m[0].Token))
		for _, id := range []string{"clerk.3", shop + ".3", work + ".3~0"} {
			l, err := y.letters.Get(ctx, id)
			if err != nil || l.State != "handled" || !strings.Contains(string(l.Data), "Atlantis") || len(l.Edits) != 1 || l.Closed.At.IsZero() {
				t.Errorf("%+v, %v", l, err)
			}
		}
		y.equal("kept", len(y.list(deed.LetterFilter{State: "handled"})), 3)
		// The log, and everybody else, know of nothing.
		if d := y.list(deed.LetterFilter{Follower: "places"}); len(d) != 4 {
			t.Errorf("%q", d)
		}
		for rec, err := range y.rt.Store().Read(ctx, "crate/axe", store.Range{Limit: 1}) {
			if err != nil || string(rec.Data) != `{"To":"Atlantis"}` {
				t.Errorf("%s, %v", rec.Data, err)
			}
		}
	})
}

// Who edits right after an attempt gets what is edited delivered, and not what was
// in hand.
func TestEditWhileItIsTried(t *testing.T) {
	inYard(t, func(y *yard) {
		y.put("slow", "", nil)
		b := y.boxes.of("freight/slow")
		b.slow = 5 * time.Second
		y.to("Atlantis", "a")
		time.Sleep(2 * time.Second) // it is parked as under way
		id := y.status("slow").Follower + ".2"
		if _, err := y.letters.Edit(y.t.Context(), id, json.RawMessage(`{"To":"Cork"}`), "a misprint"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		var got []string
		for _, e := range b.got {
			got = append(got, string(e.Data))
		}
		y.equal("delivered", got, `[{"to":"Atlantis"} {"to":"Cork"}]`)
		y.equal("none", y.list(deed.LetterFilter{}), "[]")
	})
}
