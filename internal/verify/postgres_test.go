package verify

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// A careless store is right but for the errors it gives.
type careless struct {
	*postgres.Store
	says error
}

func (c careless) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	out, err := c.Store.Append(ctx, writes...)
	if err != nil {
		err = c.says
	}
	return out, err
}

// Each of the checks can fail.
func TestPostgresChecksFail(t *testing.T) {
	server := pgtest.Start(t)
	gives := func(says error) func(ctx context.Context, dsn, schema string, net *Net) (store.Store, error) {
		return func(ctx context.Context, dsn, schema string, net *Net) (store.Store, error) {
			s, err := postgres.Open(ctx, dsn, &postgres.Options{Schema: schema})
			return careless{s, says}, err
		}
	}
	var opened atomic.Int32
	for name, test := range map[string]struct {
		open func(ctx context.Context, dsn, schema string, net *Net) (store.Store, error)
		says string
	}{
		"postgres/rolled-back-gap": {gives(nil), "the database refused was acknowledged"},
		"postgres/held-head":       {gives(store.ErrUnavailable), "because of process"},
		"postgres/dump-and-restore": {func(ctx context.Context, dsn, schema string, _ *Net) (store.Store, error) {
			if opened.Add(1) == 4 { // what is opened again has lost something
				if err := forget(ctx, dsn, schema); err != nil {
					return nil, err
				}
			}
			return proper(ctx, dsn, schema, nil)
		}, "after it was restored"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := place{server.DSN(""), "events", test.open}
			r, err := Run(t.Context(), name, p, Options{Only: regexp.MustCompile(name), Extra: Postgres(), Progress: t.Output()})
			if err != nil || r.Failed != 1 || !strings.Contains(r.Results[0].Error, test.says) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// forget deletes a document.
func forget(ctx context.Context, dsn, schema string) error {
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "DELETE FROM "+schema+".docs WHERE key = '7'")
	return err
}

// What cannot be shown here is said, and counts neither way.
func TestDoesNotApply(t *testing.T) {
	server := pgtest.Start(t)
	t.Setenv("PATH", t.TempDir())
	r, err := Run(t.Context(), "postgres", place{server.DSN(""), "events", proper}, Options{Only: regexp.MustCompile("dump"), Extra: Postgres(), Progress: t.Output()})
	if err != nil || r.Passed+r.Failed != 0 || r.NotHere != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	var b strings.Builder
	r.Print(&b)
	for _, want := range []string{"pg_dump is not on the PATH", "0 checks passed, 0 failed, 1 do not apply"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}
