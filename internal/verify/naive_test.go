package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// The ways of keeping a log in PostgreSQL that are most often recommended, and
// lose or reorder events.
type mistake int

const (
	// serialCursor: positions are a bigserial, readers keep the highest seen.
	serialCursor mistake = iota
	// xidCursor: readers leave out what transactions that still run could
	// have written, but keep the position alone.
	xidCursor
	// selectThenInsert: the expectation is looked at and then believed.
	selectThenInsert
)

// naive is a store that makes a mistake. Documents are kept properly.
type naive struct {
	*postgres.Store
	pool    *pgxpool.Pool
	mistake mistake
}

func openNaive(ctx context.Context, dsn, schema string, net *Net, m mistake) (store.Store, error) {
	o := &postgres.Options{Schema: schema}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 20
	cfg.ConnConfig.RuntimeParams["search_path"] = schema
	if net != nil {
		o.Dial, cfg.ConnConfig.DialFunc = net.Dial, net.Dial
	}
	s, err := postgres.Open(ctx, dsn, o)
	if err != nil {
		return nil, err
	}
	n := &naive{Store: s, mistake: m}
	if n.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, err
	}
	unique := ", UNIQUE (stream, version)"
	if m == selectThenInsert {
		unique = ""
	}
	_, err = n.pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS naive (seq bigserial PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
		stream text, version bigint, id bytea, type text, data bytea, meta bytea, time timestamptz DEFAULT now()`+unique+`)`)
	return n, err
}

func (n *naive) Close() error {
	n.pool.Close()
	return n.Store.Close()
}

func (n *naive) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	var out []store.Written
	err := pgx.BeginFunc(ctx, n.pool, func(tx pgx.Tx) error {
		out = make([]store.Written, len(writes))
		for i, w := range writes {
			var version uint64
			if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM naive WHERE stream = $1", w.Stream).Scan(&version); err != nil {
				return err
			}
			if !w.Expect.Met(version) {
				if again, err := n.repeated(ctx, tx, w, &out[i]); err != nil || again {
					return err
				}
				return &store.ConflictError{Stream: w.Stream, Expect: w.Expect, Version: version}
			}
			for _, e := range w.Events {
				version++
				var seq uint64
				if err := tx.QueryRow(ctx, "INSERT INTO naive (stream, version, id, type, data, meta) VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
					w.Stream, version, e.ID[:], e.Type, e.Data, e.Meta).Scan(&seq); err != nil {
					return err
				}
				out[i] = store.Written{Version: version, Position: store.Position{Seq: seq}, Time: time.Now()}
			}
		}
		return nil
	})
	return out, n.meaning(err, writes)
}

func (n *naive) repeated(ctx context.Context, tx pgx.Tx, w store.Write, out *store.Written) (bool, error) {
	for i, e := range w.Events {
		var id []byte
		err := tx.QueryRow(ctx, "SELECT id, seq, version FROM naive WHERE stream = $1 AND version = $2", w.Stream, int64(w.Expect)+int64(i)+1).
			Scan(&id, &out.Position.Seq, &out.Version)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && store.ID(id) != e.ID {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	out.Repeated = true
	return len(w.Events) > 0, nil
}

func (n *naive) meaning(err error, writes []store.Write) error {
	pg, refused := errors.AsType[*pgconn.PgError](err)
	_, conflict := errors.AsType[*store.ConflictError](err)
	switch {
	case err == nil || conflict:
		return err
	case refused && pg.Code == "23505":
		return &store.ConflictError{Stream: writes[0].Stream, Expect: writes[0].Expect, Version: uint64(max(writes[0].Expect, 0)) + 1}
	case refused:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}

// visible is what readers of the log may see.
func (n *naive) visible() string {
	if n.mistake == xidCursor {
		return "xid < pg_snapshot_xmin(pg_current_snapshot())"
	}
	return "true"
}

func (n *naive) Head(ctx context.Context) (store.Cursor, error) {
	var seq uint64
	err := n.pool.QueryRow(ctx, "SELECT coalesce(max(seq), 0) FROM naive WHERE "+n.visible()).Scan(&seq)
	return store.CursorAt(store.Position{Seq: seq}), n.meaning(err, nil)
}

func (n *naive) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	cats, types := f.Categories, f.Types
	return n.read(ctx, `seq > $1 AND `+n.visible()+` AND ($2::text[] IS NULL OR split_part(stream, '/', 1) = ANY($2))
		AND ($3::text[] IS NULL OR type = ANY($3)) ORDER BY seq`, after.Seq(0), cats, types)
}

func (n *naive) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	order := "ASC"
	if r.Backward {
		order = "DESC"
	}
	limit := 1 << 30
	if r.Limit > 0 {
		limit = r.Limit
	}
	return n.read(ctx, "stream = $1 AND version >= $2 ORDER BY version "+order+" LIMIT $3", stream, int64(r.From), limit)
}

func (n *naive) read(ctx context.Context, where string, args ...any) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		rows, err := n.pool.Query(ctx, "SELECT seq, stream, version, id, type, data, meta, time FROM naive WHERE "+where, args...)
		if err != nil {
			yield(store.Record{}, n.meaning(err, nil))
			return
		}
		recs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (rec store.Record, err error) {
			var id []byte
			err = row.Scan(&rec.Position.Seq, &rec.Stream, &rec.Version, &id, &rec.Type, &rec.Data, &rec.Meta, &rec.Time)
			copy(rec.ID[:], id)
			return rec, err
		})
		for _, rec := range recs {
			if !yield(rec, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Record{}, n.meaning(err, nil))
		}
	}
}
