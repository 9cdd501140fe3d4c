package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock keeps two programs from migrating at once. It is a lock of the
// transaction, which a pooler does not mind.
const migrationLock = 0x64656564

// readCommitted is asked for whatever the server's settings: what is looked up
// under a lock must not be older than the lock.
var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// migrate brings the schema to what this program knows, one numbered file
// after the other, in one transaction. There is no way back.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	slices.Sort(files)
	err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		at, err := s.migrated(ctx, tx)
		if err != nil || at == len(files) {
			return err
		}
		if at > len(files) {
			return fmt.Errorf("schema %s has version %d, this program knows versions up to %d: use a newer deed", s.opts.Schema, at, len(files))
		}
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = "+s.opts.Schema); err != nil {
			return err
		}
		for n := at; n < len(files); n++ {
			script, err := migrations.ReadFile(files[n])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(script), pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("migration %s: %w", files[n], err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO migrations (n) VALUES ($1)", n+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// migrated returns how many migrations the schema has seen. It makes the schema
// if there is none, and refuses one that is somebody else's.
func (s *Store) migrated(ctx context.Context, tx pgx.Tx) (at int, err error) {
	// Nobody works yet for whom it mattered that this takes many trips.
	const wait = "SELECT set_config('lock_timeout', '60s', true), set_config('idle_in_transaction_session_timeout', '30s', true)"
	if _, err := tx.Exec(ctx, wait); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
		return 0, err
	}
	var exists, ours, empty bool // others call a table migrations, too
	err = tx.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL, 2 = (SELECT count(*) FROM pg_attribute
			WHERE attrelid = to_regclass($1 || '.migrations') AND attname = 'n' OR attrelid = to_regclass($1 || '.head') AND attname = 'pos'),
		NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1))`, s.opts.Schema).Scan(&exists, &ours, &empty)
	switch {
	case err != nil:
		return 0, err
	case ours:
		err = tx.QueryRow(ctx, s.sql("SELECT coalesce(max(n), 0) FROM {}.migrations")).Scan(&at)
		return at, err
	case exists && !empty:
		return 0, fmt.Errorf("schema %s belongs to another program: choose another one (?schema=...)", s.opts.Schema)
	case s.opts.MustExist:
		return 0, fmt.Errorf("%w: there is no installation in schema %s", fs.ErrNotExist, s.opts.Schema)
	case !exists:
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+s.opts.Schema); err != nil {
			return 0, err
		}
	}
	_, err = tx.Exec(ctx, s.sql("CREATE TABLE {}.migrations (n integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"))
	return 0, err
}
