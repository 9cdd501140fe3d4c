package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A watcher asks a PostgreSQL server what it has done so far. Nil: there is none.
type watcher struct {
	conn   *pgx.Conn
	master int // process id
}

func watch(ctx context.Context, dsn string) (*watcher, error) {
	if dsn == "" {
		return nil, nil
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	w := &watcher{conn: conn}
	var pid int
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return nil, err
	}
	p, err := process(pid)
	w.master = p.parent
	return w, err
}

func (w *watcher) close() {
	if w != nil {
		w.conn.Close(context.Background())
	}
}

// add counts the transactions of the database that was connected to, and the
// syncs of the whole server's log.
func (w *watcher) add(ctx context.Context, u *usage) error {
	if w == nil {
		return nil
	}
	err := w.conn.QueryRow(ctx, `SELECT d.xact_commit, w.wal_sync, w.wal_bytes::float8
		FROM pg_stat_database d, pg_stat_wal w WHERE d.datname = current_database()`).Scan(&u.counts.Commits, &u.counts.Syncs, &u.counts.Logged)
	if err != nil {
		return err
	}
	u.server, err = family(w.master)
	return err
}

// family is how many seconds of CPU a process and its children have used, also
// those that have ended.
func family(master int) (float64, error) {
	m, err := process(master)
	if err != nil {
		return 0, err
	}
	ticks := m.own + m.ended
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if p, err := process(pid); err == nil && p.parent == master { // else it has just ended
			ticks += p.own
		}
	}
	return float64(ticks) / 100, nil
}

// proc is what the kernel tells about a process, in hundredths of a second.
type proc struct{ parent, own, ended int }

func process(pid int) (p proc, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	_, rest, _ := strings.Cut(string(data), ") ") // the name before may contain anything
	f := strings.Fields(rest)
	if len(f) < 15 {
		return p, fmt.Errorf("cannot read /proc/%d/stat", pid)
	}
	n := func(i int) int { v, _ := strconv.Atoi(f[i]); return v }
	return proc{parent: n(1), own: n(11) + n(12), ended: n(13) + n(14)}, nil
}
