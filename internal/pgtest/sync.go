package pgtest

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

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
