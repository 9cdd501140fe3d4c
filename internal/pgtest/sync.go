package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pair starts a server and a standby for which its commits wait.
func Pair(tb testing.TB) (primary, standby *Server) {
	tb.Helper()
	primary = Start(tb)
	return primary, primary.Follow(tb, 0)
}

// Follow starts a standby for which commits wait from now on; on a port, or on a
// free one if that is 0.
func (s *Server) Follow(tb testing.TB, port int) *Server {
	tb.Helper()
	standby, stop, err := s.Standby(port)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(stop)
	if err := s.Synchronous(); err != nil {
		tb.Fatal(err)
	}
	return standby
}

// With returns an address of a schema that names two servers, of which the one
// that takes writes is meant.
func (s *Server) With(other *Server, schema string) string {
	one := fmt.Sprintf("127.0.0.1:%d", s.Port)
	return strings.Replace(s.DSN(schema), one, fmt.Sprintf("%s,127.0.0.1:%d", one, other.Port), 1) + "&target_session_attrs=read-write"
}

// Synchronous lets commits wait for a standby, and returns when there is one.
func (s *Server) Synchronous() error {
	if err := s.Exec("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.DSN(""))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for n := 0; n == 0; {
		if err := c.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n); err != nil {
			return errors.Join(errors.New("no standby follows"), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}
