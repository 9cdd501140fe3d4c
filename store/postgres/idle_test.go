package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// A store with a reader who waits for events asks the server for little.
func TestIdleLoad(t *testing.T) {
	t.Parallel()
	own := run(t)
	s := openWith(t, own.DSN("deed"), nil)
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	head := must[store.Cursor](t)(s.Head(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			store.Wait(ctx, s, head, 5*time.Second)
		}
	}()
	c := session(t, own)
	time.Sleep(1500 * time.Millisecond) // sessions report what they did once a second
	const during = 6 * time.Second
	before := commits(t, c)
	time.Sleep(during) // this is what is measured
	rate := float64(commits(t, c)-before-1) / during.Seconds()
	stop()
	<-ended
	if t.Logf("%.2f transactions/s", rate); rate >= 2 {
		t.Errorf("an idle store with one waiting reader has %.1f transactions/s", rate)
	}
}

// commits is how many transactions the database has seen.
func commits(t *testing.T, c *pgx.Conn) (n int64) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
