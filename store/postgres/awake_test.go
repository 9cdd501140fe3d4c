package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// Who is held up in the middle every time, says so in the end, and does not try
// those that wait one by one: that would keep the others waiting ever longer.
func TestHeldUpEveryTime(t *testing.T) {
	for _, c := range []struct{ late, appends, tries int }{{0, 4, 1}, {1, 4, 2}, {2, 1, 3}, {9, 1, 3}, {9, 4, 3}} {
		queue := groupcommit.New[*appending](nil, nil)
		tries, errs := 0, make(chan error)
		batch := make([]*appending, c.appends)
		for i := range batch {
			batch[i] = newAppending(nil)
			go func() { errs <- queue.Submit(t.Context(), batch[i]) }()
		}
		for range batch {
			<-queue.Next()
		}
		verdicts(batch, func([]*appending) error {
			if tries++; tries > c.late {
				return nil
			}
			return fmt.Errorf("%w: %w", store.ErrUnavailable, &pgconn.PgError{Code: stoodStill})
		})
		if tries != c.tries {
			t.Errorf("%d appends, late %d times: tried %d times, not %d", c.appends, c.late, tries, c.tries)
		}
		for range batch {
			if err := <-errs; (err != nil) != (c.late >= c.tries) || err != nil && !strings.Contains(err.Error(), "took a transaction back 3 times") {
				t.Errorf("%d appends, late %d times: %v", c.appends, c.late, err)
			}
		}
	}
}
