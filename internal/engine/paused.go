package engine

import (
	"context"
	"time"

	"github.com/deed-dev/deed/store"
)

// paused is what is known of a paused follower: how much it misses.
type paused struct {
	gen    uint64       // 0 = nothing is known
	at     store.Cursor // where it stopped
	head   store.Cursor
	oldest time.Time    // when the first record it misses was recorded; zero = it misses none
	looked store.Cursor // no record it misses is before here
}

// watch finds out what a paused follower misses.
func (f *follower) watch(ctx context.Context, gen uint64) error {
	f.mu.Lock()
	a := f.paused
	f.mu.Unlock()
	if a.gen != gen {
		saved, err := loadCheckpoints(ctx, f.store, f.Name, gen)
		if err != nil {
			return err
		}
		at := least(saved.Cursors)
		a = paused{gen: gen, at: at, looked: at}
	}
	var err error
	if a.head, err = f.store.Head(ctx); err != nil {
		return err
	}
	if a.oldest.IsZero() && a.looked != a.head {
		filter := f.Filter
		filter.Limit = 1
		for rec, err := range f.store.ReadAll(ctx, a.looked, filter) {
			if err != nil {
				return err
			}
			a.oldest = rec.Time
		}
		a.looked = a.looked.Join(a.head)
	}
	f.mu.Lock()
	f.paused = a
	f.mu.Unlock()
	f.notify()
	return nil
}
