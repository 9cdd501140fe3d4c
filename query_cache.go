package deed

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// answers keeps the answers that were given lately, each with what it rests on.
type answers struct {
	flights singleflight.Group // of questions that are being answered, by key

	mu    sync.Mutex
	byKey recent[*keptAnswer]
	size  int

	asked, kept, computed atomic.Uint64
}

// A keptAnswer moves on with the log as long as what it rests on stays the same.
type keptAnswer struct {
	mu sync.Mutex
	answer
}

// Bounds of what is kept.
const (
	maxAnswers     = 4096
	maxAnswersSize = 64 << 20
)

// QueryStats says how queries were answered by this process.
type QueryStats struct {
	Asked    uint64 `json:"asked"`
	Cached   uint64 `json:"cached"`   // with an answer that was given before
	Computed uint64 `json:"computed"` // so often an answer was made
}

func newAnswers() *answers {
	a := &answers{}
	a.byKey = newRecent(maxAnswers, func(_ string, k *keptAnswer) { a.size -= k.weight() })
	return a
}

func (a *answer) weight() int {
	n := len(a.body) + 500 + 100*(len(a.reads.streams)+len(a.reads.documents))
	for _, s := range a.reads.selections {
		n += 100 * len(s.keys)
	}
	return n
}

func (c *answers) get(key string) (*keptAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byKey.Get(key)
}

// keep keeps an answer that can be found out to be out of date.
func (c *answers) keep(key string, a *answer) {
	if !a.exact || a.no != nil || a.age > 0 || a.reads.unsure || a.weight() > maxAnswersSize/4 {
		return
	}
	k := &keptAnswer{answer: *a}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byKey.Remove(key)
	c.byKey.Add(key, k)
	for c.size += k.weight(); c.size > maxAnswersSize; {
		c.byKey.RemoveOldest()
	}
}

func (k *keptAnswer) get() answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answer
}

// moveTo notes that the answer is the same at a later moment.
func (k *keptAnswer) moveTo(to moment, when time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if to.number > k.at.number || to.number == k.at.number && when.After(k.when) {
		k.at, k.when = to, when
	}
}

// find answers an inquiry with what was answered before, if that is still so, or
// anew. Those who ask the same at the same time share an answer.
func (c *answers) find(ctx context.Context, x *inquiry, key string) (a answer, cached bool, err error) {
	c.asked.Add(1)
	if k, ok := c.get(key); ok && x.maxAge > 0 {
		if a := k.get(); x.rt.cfg.Now().Sub(a.when) <= x.maxAge {
			c.kept.Add(1)
			a.age = x.rt.cfg.Now().Sub(a.when)
			return a, true, nil
		}
	}
	when := x.rt.cfg.Now()
	asked, err := x.rt.changes.now(ctx)
	if err != nil {
		return a, false, err
	}
	for range liveTries {
		if k, ok := c.get(key); ok {
			a := k.get()
			same := a.fixed || a.at.number >= asked.number
			if !same {
				if same, err = x.rt.unchanged(ctx, a.reads, a.at, asked); err != nil {
					return a, false, err
				}
				if same {
					a.at = asked
					k.moveTo(asked, when)
				}
			}
			if same {
				c.kept.Add(1)
				return a, true, nil
			}
		}
		made, err := c.share(ctx, x, key)
		if err != nil {
			return a, false, err
		}
		if made.at.number >= asked.number || made.fixed {
			return *made, false, nil
		}
	}
	made, err := c.make(ctx, x, key)
	if err != nil {
		return a, false, err
	}
	return *made, false, nil
}

// share answers an inquiry together with those who ask the same now. The answer
// is made even if who asked first does not wait for it.
func (c *answers) share(ctx context.Context, x *inquiry, key string) (*answer, error) {
	flight := c.flights.DoChan(key, func() (any, error) { return c.make(context.WithoutCancel(ctx), x, key) })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-flight:
		a, _ := res.Val.(*answer)
		return a, res.Err
	}
}

func (c *answers) make(ctx context.Context, x *inquiry, key string) (*answer, error) {
	c.computed.Add(1)
	a, err := x.answer(ctx)
	if err == nil {
		c.keep(key, a)
	}
	return a, err
}

func (c *answers) stats() QueryStats {
	return QueryStats{Asked: c.asked.Load(), Cached: c.kept.Load(), Computed: c.computed.Load()}
}
