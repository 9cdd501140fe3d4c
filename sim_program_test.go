package deed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A simProgram begins sagas and processes, asks what people ask, and ends when
// all of them are over. It can be begun again at any time.
type simProgram struct {
	*testing.T
	rt    *Runtime
	n     int
	node  int         // the number of this program
	nodes int         // of so many
	calm  func() bool // nothing is broken any more
	all   sync.WaitGroup

	cursor store.Cursor
	known  map[string]bool // instance -> whether it is over
}

func (p *simProgram) run() {
	patience := 5*time.Minute + time.Duration(p.n)*200*time.Millisecond
	ctx, stop := context.WithTimeout(p.Context(), patience)
	defer stop()
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.rt.Run(running) }()
	p.known = map[string]bool{}
	p.look(ctx)
	p.pour(ctx)
	begun := maps.Clone(p.known)
	p.all.Go(func() { p.begin(ctx, begun) })
	people, home := context.WithCancel(ctx)
	p.all.Go(func() { p.clerk(people) })
	p.all.Go(func() { p.operator(people) })
	soon := time.AfterFunc(patience-5*time.Second, p.tellWhoIsBusy)
	defer soon.Stop()
	for !p.look(ctx) && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	if ctx.Err() != nil {
		p.tellWhatIsNotOver()
	}
	home()
	p.all.Wait()
	end()
	if err := errors.Join(<-ended, ctx.Err()); err != nil {
		p.Fatal(err)
	}
}

// tellWhatIsNotOver says it, and what may be the matter.
func (p *simProgram) tellWhatIsNotOver() {
	ctx, stop := context.WithTimeout(context.WithoutCancel(p.Context()), 10*time.Second)
	defer stop()
	for i := range p.n {
		for _, stream := range []string{instanceStream(sagaCategory, "haul", fmt.Sprint("i", i)), instanceStream(processCategory, "move", fmt.Sprint("i", i))} {
			if over, begun := p.known[stream]; !begun {
				p.Logf("not begun, as far as is known: %s", stream)
			} else if over {
				continue
			}
			inst, err := p.rt.readInstance(ctx, stream)
			p.Logf("not over, as far as is known: %s: %s %v", stream, mustJSON(inst), err)
		}
	}
	for stream, over := range p.known {
		if strings.HasPrefix(stream, "$saga/errand/") && !over {
			p.Logf("not over, as far as is known: %s", stream)
		}
	}
	for _, s := range p.rt.Followers().List() {
		p.Logf("follower: %s", mustJSON(s))
	}
	letters, _, err := p.rt.Followers().DeadLetters(ctx, "", "", 0)
	p.Logf("dead letters: %s %v", mustJSON(letters), err)
}

// tellWhoIsBusy says what every goroutine does.
func (p *simProgram) tellWhoIsBusy() {
	var all strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	p.Log(all.String())
}

// look reads what is new, and reports whether everything is over.
func (p *simProgram) look(ctx context.Context) bool {
	for rec, err := range p.rt.store.ReadAll(ctx, p.cursor, store.Filter{Categories: []string{sagaCategory, processCategory}}) {
		if isAway(err) || ctx.Err() != nil {
			return false
		}
		if err != nil {
			p.Fatal(err)
		}
		p.cursor = p.cursor.Advance(rec.Position)
		var e moved
		if err := wire.Unmarshal(rec.Data, &e); err != nil {
			p.Fatal(err)
		}
		if e.Status != "" || !p.known[rec.Stream] {
			p.known[rec.Stream] = e.Status.Over()
		}
	}
	top := 0
	for stream, over := range p.known {
		if !over {
			return false
		}
		if !strings.HasPrefix(stream, "$saga/errand/") {
			top++
		}
	}
	return top == 2*p.n
}

// purseOf spreads what moves over purses, so that all do not wait for one.
func purseOf(kind string, r *rand.Rand, n int) string { return fmt.Sprint(kind, r.IntN(1+n/20)) }

// wantOf is what the instance i of a kind wants: always the same.
func (p *simProgram) wantOf(i int, kind uint64) want {
	r := rand.New(rand.NewPCG(uint64(i), kind))
	w := want{
		From: purseOf("x", r, p.n), To: purseOf("y", r, p.n), N: 1 + r.IntN(30), Mark: 1 + i,
		Child: r.IntN(4) == 0, Asks: r.IntN(5) == 0, Waits: r.IntN(5) == 0, Poison: r.IntN(50) == 0,
	}
	if r.IntN(25) == 0 {
		w.Mark = 1 + i/2 // somebody else has it, perhaps
	}
	if kind == 2 {
		w.Mark = 1 + i
	}
	return w
}

// pour fills the purses that things are taken from.
func (p *simProgram) pour(ctx context.Context) {
	for i := range 1 + p.n/20 {
		id := fmt.Sprint("x", i)
		err := insist(ctx, func() error {
			_, err := purses.Execute(With(ctx, Call{ID: "pour-" + id}), p.rt, id, putIn{400})
			return err
		})
		if err != nil {
			p.Fatal(err)
		}
	}
}

// begin begins what has not begun, some of it twice.
func (p *simProgram) begin(ctx context.Context, begun map[string]bool) {
	hands := make(chan struct{}, 64)
	do := func(after time.Duration, f func() error) {
		p.all.Go(func() {
			time.Sleep(after)
			hands <- struct{}{}
			defer func() { <-hands }()
			p.hear(ctx, insist(ctx, f))
		})
	}
	wait := time.Second + time.Duration(p.n)*time.Millisecond/2
	for i := p.node; i < p.n; i += p.nodes {
		haul, move := p.wantOf(i, 1), p.wantOf(i, 2)
		r := rand.New(rand.NewPCG(uint64(i), uint64(time.Now().UnixNano())))
		id := fmt.Sprint("i", i)
		twice := 1 + r.IntN(10)/9
		for n := range twice {
			if _, has := begun[instanceStream(sagaCategory, "haul", id)]; !has || n > 0 {
				do(p.moment(r), func() error { _, err := p.rt.Instances().Start(ctx, "haul", id, mustJSON(haul)); return err })
			}
			do(p.moment(r), func() error {
				_, err := simOrders.Execute(With(ctx, Call{ID: "want-" + id}), p.rt, id, wantIt{move})
				return err
			})
		}
		if haul.Waits {
			do(time.Duration(r.Int64N(int64(wait))), func() error {
				_, err := simOrders.Execute(With(ctx, Call{ID: "sign-" + id}), p.rt, "sign-"+id, sign{id})
				return err
			})
		}
		switch r.IntN(60) {
		case 0:
			do(time.Duration(r.Int64N(int64(wait))), func() error { _, err := p.rt.Instances().Cancel(ctx, "saga", "haul", id, "why not"); return err })
		case 1:
			do(time.Duration(r.Int64N(int64(wait))), func() error {
				_, err := simOrders.Execute(With(ctx, Call{ID: "withdraw-" + id}), p.rt, id, withdraw{})
				return err
			})
		}
		if i%500 == 499 { // not all at once
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// moment is a short time.
func (p *simProgram) moment(r *rand.Rand) time.Duration {
	return time.Duration(r.IntN(1+p.n/2)) * time.Millisecond
}

// insist asks until the store is there to answer. Whoever asks the same again
// gets it once.
func insist(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if !isAway(err) || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// isAway reports whether the store could not serve, or not say what it did, or
// others were faster every time.
func isAway(err error) bool {
	_, overtaken := errors.AsType[Conflict](err)
	return overtaken || errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown)
}

// hear takes in what came of something. It may be too late, or come twice, or have
// to be asked again later.
func (p *simProgram) hear(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !expectedNo(err) && !isAway(err) {
		p.Errorf("%v", err)
	}
}

func expectedNo(err error) bool {
	_, rejected := errors.AsType[Rejected](err)
	return rejected || errors.Is(err, ErrStands) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrDecided) || errors.Is(err, ErrInProgress) || errors.Is(err, context.Canceled)
}

// clerk decides what is asked.
func (p *simProgram) clerk(ctx context.Context) {
	for p.often(ctx) {
		open, err := p.rt.Tasks().Find(ctx, store.Query{Where: []store.Cond{{Field: "state", Op: "=", Value: TaskOpen}}, Limit: 500})
		p.hear(ctx, err)
		for _, task := range open {
			c := chance(task.ID)
			if c < 10 { // nobody cares
				continue
			}
			choice := map[bool]string{true: "approve", false: "reject"}[c < 80]
			var twice sync.WaitGroup
			for range 1 + c%2 {
				twice.Go(func() {
					_, err := p.rt.Tasks().Decide(ctx, task.ID, choice, "", nil)
					p.hear(ctx, err)
				})
			}
			twice.Wait()
		}
	}
}

// operator repairs what is stuck or parked, once nothing is broken any more. There
// is one for all nodes.
func (p *simProgram) operator(ctx context.Context) {
	for p.often(ctx) {
		if p.node > 0 || !p.calm() {
			continue
		}
		p.hear(ctx, errors.Join(p.repairStuck(ctx), p.redrive(ctx)))
	}
}

func (p *simProgram) repairStuck(ctx context.Context) error {
	stuck, err := p.rt.Instances().Find(ctx, store.Query{Where: []store.Cond{{Field: "state", Op: "=", Value: string(InstanceStuck)}}})
	for _, i := range stuck {
		for _, stream := range i.Entities {
			if id, is := strings.CutPrefix(stream, "purse/"); is && !strings.HasPrefix(id, "way-") {
				err = errors.Join(err, p.fill(ctx, id))
			}
		}
		if _, no := p.rt.Instances().Retry(ctx, i.Kind, i.Name, i.ID, "repaired"); no != nil && !expectedNo(no) {
			err = errors.Join(err, no)
		}
	}
	return err
}

func (p *simProgram) redrive(ctx context.Context) error {
	letters, _, err := p.rt.Followers().DeadLetters(ctx, "", "", 0)
	for _, l := range letters {
		if l.State == "dead" { // should it fail, because the partition changes hands, there is a next time
			_, _ = p.rt.Followers().Redrive(ctx, l.ID)
		}
	}
	return err
}

// fill sees to it that there are coins in a purse.
func (p *simProgram) fill(ctx context.Context, id string) error {
	have, _, err := purses.Load(ctx, p.rt, id)
	if err != nil || have.Coins >= 50 {
		return err
	}
	_, err = purses.Execute(ctx, p.rt, id, putIn{50})
	return err
}

// often waits a moment, and reports false when it is time to go home.
func (p *simProgram) often(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}
