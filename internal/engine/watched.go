package engine

import (
	"context"
	"time"

	"github.com/deed-dev/deed/store"
)

// watched is what is known of documents that this process does not work on,
// because the follower is paused or is of another version: how much they miss.
type watched struct {
	gen    uint64       // 0 = nothing is known
	at     store.Cursor // where it stopped
	head   store.Cursor
	oldest time.Time    // when the first record it misses was recorded; zero = it misses none
	looked store.Cursor // no record it misses is before here
}

// watch finds out what documents miss that this process does not work on.
func (f *follower) watch(ctx context.Context, gen uint64) error {
	f.mu.Lock()
	a := f.watched
	f.mu.Unlock()
	saved, err := loadCheckpoints(ctx, f.store, f.Name, gen)
	if err != nil {
		return err
	}
	if at := least(saved.Cursors); a.gen != gen || a.at != at {
		a = watched{gen: gen, at: at, looked: at}
	}
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
	f.watched = a
	f.mu.Unlock()
	f.notify()
	return nil
}
