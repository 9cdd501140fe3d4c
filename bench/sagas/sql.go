package main

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"modernc.org/sqlite"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// written counts the transactions of all connections to database files that are
// opened through database/sql. One that changes nothing, as those of DBOS that
// only look, does not wait for the disk.
var written struct{ commits, syncs atomic.Int64 }

func init() {
	sqlite.RegisterConnectionHook(func(c sqlite.ExecQuerierContext, _ string) error {
		h, ok := c.(sqlite.HookRegisterer)
		if !ok {
			return errors.New("the driver has no hooks to count by")
		}
		changed := false // a connection is in one pair of hands
		h.RegisterPreUpdateHook(func(sqlite.SQLitePreUpdateData) { changed = true })
		h.RegisterRollbackHook(func() { changed = false })
		h.RegisterCommitHook(func() int32 {
			if written.commits.Add(1); changed {
				written.syncs.Add(1)
			}
			changed = false
			return 0
		})
		return nil
	})
}

// ofFiles are what is counted of database files. In WAL mode with
// synchronous=FULL, whoever changes something syncs once.
func ofFiles() counts {
	return counts{Commits: float64(written.commits.Load()), Syncs: float64(written.syncs.Load())}
}

// openFile opens a database file as DBOS and go-workflows do, but that every
// commit waits for the disk, with so many connections.
func openFile(ctx context.Context, c cell, conns int) (*sql.DB, error) {
	dsn := "file:" + filepath.Join(c.Dir, c.System+".db") + "?_txlock=immediate"
	for _, p := range []string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(5000)", "foreign_keys(ON)"} {
		dsn += "&_pragma=" + p
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, makeTables(ctx, db)
}

func makeTables(ctx context.Context, db *sql.DB) error {
	for _, t := range tables {
		if _, err := db.ExecContext(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// setting is a number of the environment, or else the best of those tried.
func setting(key string, best int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil {
		return n
	}
	return best
}
