package verify

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/postgres"
)

// place makes schemas of a server; open opens a store in one.
type place struct {
	dsn    string
	events string // the table they are in
	open   func(ctx context.Context, dsn, schema string, net *Net) (store.Store, error)
}

var made atomic.Int64

func (p place) Fresh(context.Context) (Installation, error) {
	return installation{p, fmt.Sprintf("v%d", made.Add(1))}, nil
}

type installation struct {
	place
	schema string
}

func (in installation) Shared() bool { return true }

func (in installation) Database() Database { return Database{in.dsn, in.schema, in.events} }

func (in installation) Open(ctx context.Context, net *Net) (store.Store, error) {
	return in.open(ctx, in.dsn, in.schema, net)
}

func (in installation) Drop(ctx context.Context) error {
	return postgres.Drop(ctx, in.dsn, &postgres.Options{Schema: in.schema})
}

func proper(ctx context.Context, dsn, schema string, net *Net) (store.Store, error) {
	o := &postgres.Options{Schema: schema}
	if net != nil {
		o.Dial = net.Dial
	}
	return postgres.Open(ctx, dsn, o)
}

var hard = regexp.MustCompile("^(races|histories|postgres)")

// The suite passes on the store that is right, and finds each of the mistakes
// that people make with PostgreSQL.
func TestMistakesAreFound(t *testing.T) {
	server := pgtest.Start(t)
	r, err := Run(t.Context(), "postgres", place{server.DSN(""), "events", proper},
		Options{Races: 30, Histories: 4, Only: hard, Extra: Postgres(), Progress: t.Output()})
	if err != nil || r.Failed > 0 || r.Passed != 10 {
		t.Errorf("the store itself: %+v, %v", r, err)
	}
	for name, test := range map[string]struct {
		mistake mistake
		only    string
		says    string
	}{
		"bigserial as the cursor":           {serialCursor, "histories/stalls", ""},
		"bigserial, a late commit":          {serialCursor, "postgres/late-commit", "has not seen 1 of 3"},
		"xid as a filter, position as mark": {xidCursor, "histories/stalls", ""},
		"xid, a late commit":                {xidCursor, "postgres/late-commit", "has not seen 1 of 3"},
		"xid, a forgotten session":          {xidCursor, "postgres/idle-in-transaction", "has not seen 1 of 1"},
		"SELECT, then INSERT":               {selectThenInsert, "races/one-expectation", "succeed"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(test.only, "postgres/") {
				t.Parallel() // they wait in vain for some seconds
			}
			server := server
			if test.mistake == xidCursor && strings.HasPrefix(test.only, "postgres/") {
				server = pgtest.Start(t) // a transaction that another one leaves open would hide the mistake
			}
			open := func(ctx context.Context, dsn, schema string, net *Net) (store.Store, error) {
				return openNaive(ctx, dsn, schema, net, test.mistake)
			}
			r, err := Run(t.Context(), name, place{server.DSN(""), "naive", open},
				Options{Races: 50, Histories: 40, Only: regexp.MustCompile(test.only), Extra: Postgres(), Progress: t.Output()})
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed != 1 || !strings.Contains(r.Results[0].Error, test.says) {
				t.Errorf("the mistake is not found: %+v", r)
			}
			t.Log(r.Results[0].Error)
		})
	}
}

// A store in memory is as good as another while it is open, and says that it
// keeps nothing.
type memory struct{ *mem.Store }

func (memory) Fresh(context.Context) (Installation, error) { return memory{mem.New()}, nil }
func (m memory) Open(context.Context, *Net) (store.Store, error) {
	return m.Store, nil
}
func (memory) Shared() bool               { return false }
func (memory) Drop(context.Context) error { return nil }

func TestReport(t *testing.T) {
	r, err := Run(t.Context(), "memory", memory{mem.New()}, Options{Only: regexp.MustCompile("^contract/(append|durable)"), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	r.Print(&b)
	for _, want := range []string{"FAILED  contract/durable/log", "why it matters", "NOT DURABLE: kept in memory", "memory: 21 checks passed, 4 failed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}
