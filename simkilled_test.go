package deed

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

// simCalmFile is there when nothing is broken any more, and nobody is killed.
const simCalmFile = "calm"

// The program that is killed is this test, run by another one.
func TestKilledProgram(t *testing.T) {
	dir := os.Getenv("DEED_SIM")
	if dir == "" {
		t.Skip("it is run by TestSagasSurviveKills")
	}
	p := &simProgram{T: t, calm: func() bool {
		_, err := os.Stat(filepath.Join(dir, simCalmFile))
		return err == nil
	}}
	p.n, _ = strconv.Atoi(os.Getenv("DEED_SIM_SAGAS"))
	after, _ := strconv.Atoi(os.Getenv("DEED_SIM_AFTER"))
	if _, err := fmt.Sscanf(os.Getenv("DEED_SIM_NODE"), "%d/%d", &p.node, &p.nodes); err != nil {
		t.Fatal(err)
	}
	fuse := &simFuse{place: os.Getenv("DEED_SIM_PLACE"), calm: p.calm}
	fuse.left.Store(int64(after))
	var db store.Store
	err := insist(t.Context(), func() (err error) {
		db, err = openSimStore(t.Context(), dir, os.Getenv("DEED_SIM_STORE"), fuse)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	service, err := openSimFile(dir, fuse)
	if err != nil {
		t.Fatal(err)
	}
	p.rt, err = New(db, Config{
		Domains: []Domain{simDomain(simSettings{
			service: service, broken: func() bool { return !p.calm() }, wait: time.Second + time.Duration(p.n)*time.Millisecond/2,
			retry: Retry{Attempts: 3, First: 20 * time.Millisecond, Max: time.Second},
		})},
		Lease: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), CachedStates: 100_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.run()
}

// openSimStore opens a store with a fuse: SQLite, unless there is a DSN of
// PostgreSQL.
func openSimStore(ctx context.Context, dir, dsn string, fuse *simFuse) (store.Store, error) {
	if dsn == "" {
		s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
		return &simSQLite{s, fuse}, err
	}
	s, err := postgres.Open(ctx, dsn, nil)
	return &simPostgres{s, fuse}, err
}

type simSQLite struct {
	*sqlite.Store
	fuse *simFuse
}

func (s *simSQLite) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s.fuse.reach("append-before")
	defer s.fuse.reach("append-after")
	return s.Store.Append(ctx, writes...)
}

func (s *simSQLite) Write(ctx context.Context, changes ...store.Change) error {
	s.fuse.reach("write-before")
	defer s.fuse.reach("write-after")
	return s.Store.Write(ctx, changes...)
}

type simPostgres struct {
	*postgres.Store
	fuse *simFuse
}

func (s *simPostgres) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	s.fuse.reach("append-before")
	defer s.fuse.reach("append-after")
	return s.Store.Append(ctx, writes...)
}

func (s *simPostgres) Write(ctx context.Context, changes ...store.Change) error {
	s.fuse.reach("write-before")
	defer s.fuse.reach("write-after")
	return s.Store.Write(ctx, changes...)
}
