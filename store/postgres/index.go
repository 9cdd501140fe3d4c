package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/deed-dev/deed/store"
)

// indexed is how many bytes of a value an index has: entries have a limit.
const indexed = 1000

// expression is the value of field n of a document.
func expression(n int) string { return fmt.Sprintf("fields[%d]", n) }

// prefix is the part of it that the index has.
func prefix(n int) string { return fmt.Sprintf("substring(fields[%d] FROM 1 FOR %d)", n, indexed) }

func (s *Store) indexName(coll int64, n int) string { return fmt.Sprintf("docs_%d_%d", coll, n) }

// EnsureIndexes implements [store.Indexer] with one partial index per field:
// partial, because each collection has fields of its own. Nobody can write
// documents while a field is declared; those there are get its values.
func (s *Store) EnsureIndexes(ctx context.Context, coll string, fields []string) error {
	for _, f := range fields {
		if err := store.CheckField(f); err != nil {
			return err
		}
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	id, err := s.makeColl(ctx, coll)
	if err != nil {
		return s.failure(err)
	}
	missing := false
	for _, f := range fields {
		_, known := s.names.field(id, f)
		missing = missing || !known
	}
	if !missing {
		return nil
	}
	if missing, err = s.lacksIndexes(ctx, id, fields); err != nil {
		return s.failure(err)
	}
	if !missing { // another process, or this program before it was started again, has made them
		return s.failure(s.loadFields(ctx, s.pool, id))
	}
	err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error { return s.declare(ctx, tx, id, fields) })
	if err == nil {
		err = s.loadFields(ctx, s.pool, id)
	}
	return s.failure(err)
}

// lacksIndexes reports whether a field of a collection has no number or no index.
// To declare them nevertheless would keep others from writing.
func (s *Store) lacksIndexes(ctx context.Context, coll int64, fields []string) (bool, error) {
	all, err := s.fieldsOf(ctx, s.pool, coll)
	if err != nil {
		return false, err
	}
	var indexes []string
	for _, f := range fields {
		i := indexOf(all, f)
		if i < 0 {
			return true, nil
		}
		indexes = append(indexes, s.opts.Schema+"."+s.indexName(coll, i+1))
	}
	var lacks bool
	err = s.pool.QueryRow(ctx, "SELECT coalesce(bool_or(to_regclass(n) IS NULL), false) FROM unnest($1::text[]) n", indexes).Scan(&lacks)
	return lacks, err
}

// declare numbers the fields that are new, gives all documents their values,
// and makes the indexes.
func (s *Store) declare(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
	if err := s.standStill(ctx, tx); err != nil {
		return err
	}
	all, err := s.fieldsOf(ctx, tx, coll)
	if err != nil {
		return err
	}
	had := len(all)
	for _, f := range fields {
		n := indexOf(all, f) + 1
		if n == 0 {
			all = append(all, f)
			n = len(all)
			if _, err := tx.Exec(ctx, s.sql("INSERT INTO {}.fields (coll, n, field) VALUES ($1, $2, $3)"), coll, n, f); err != nil {
				return err
			}
		}
	}
	if len(all) > had {
		if err := s.refill(ctx, tx, coll, all); err != nil {
			return err
		}
	}
	for _, f := range fields {
		n := indexOf(all, f) + 1
		_, err := tx.Exec(ctx, s.sql(fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON {}.docs ((%s) NULLS FIRST, key) WHERE coll = %d", s.indexName(coll, n), prefix(n), coll)))
		if err != nil {
			return err
		}
	}
	return nil
}

// standStill keeps others from writing documents until the transaction is over.
// What they are to have besides is computed here, between two trips, of a chunk each;
// a process that is frozen meanwhile must not keep the others waiting until it wakes up.
func (s *Store) standStill(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true), set_config('synchronous_commit', $2, true),
		set_config('idle_in_transaction_session_timeout', $3, true)`, millis(s.opts.LockTimeout), s.commit, millis(s.patience(pace)))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, s.sql("LOCK TABLE {}.docs IN SHARE ROW EXCLUSIVE MODE"))
	return err
}

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

func (s *Store) fieldsOf(ctx context.Context, q querier, coll int64) ([]string, error) {
	rows, err := q.Query(ctx, s.sql("SELECT field FROM {}.fields WHERE coll = $1 ORDER BY n"), coll)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (s *Store) loadFields(ctx context.Context, q querier, coll int64) error {
	all, err := s.fieldsOf(ctx, q, coll)
	for i, f := range all {
		s.names.addField(coll, f, i+1)
	}
	return err
}

// refill gives the documents of a collection the values of all fields.
func (s *Store) refill(ctx context.Context, tx pgx.Tx, coll int64, fields []string) error {
	return s.eachChunk(ctx, tx, coll, func(docs []store.Doc) error {
		keys, values := make([][]byte, len(docs)), make([]string, len(docs))
		for i, d := range docs {
			keys[i], values[i] = []byte(d.Key), fieldValues(d.Data, fields)
		}
		_, err := tx.Exec(ctx, s.sql(`UPDATE {}.docs d SET fields = u.fields::bytea[] FROM unnest($2::bytea[], $3::text[]) u (key, fields)
			WHERE d.coll = $1 AND d.key = u.key`), coll, keys, values)
		return err
	})
}

// eachChunk calls f with the documents of a collection, some at a time.
func (s *Store) eachChunk(ctx context.Context, tx pgx.Tx, coll int64, f func([]store.Doc) error) error {
	for after := []byte{}; ; {
		rows, err := tx.Query(ctx, s.sql(docsUpTo("NULL::bytea", "coll = $1 AND key > $2", "key", "key", chunk)), coll, after)
		if err != nil {
			return err
		}
		var none []byte
		docs, more, err := collectDocs(rows, chunk, &none)
		if err != nil || len(docs) == 0 {
			return err
		}
		if err := f(docs); err != nil || !more {
			return err
		}
		after = []byte(docs[len(docs)-1].Key)
	}
}

// dropIndexes drops a collection's indexes. Its fields keep their numbers. While
// a session waits for that, nobody reads documents; so if another session has
// the table for long (a dump, for one) they stay: an index of no documents costs
// little, and whoever drops the collection again gets rid of it.
func (s *Store) dropIndexes(ctx context.Context, coll int64) error {
	all, err := s.fieldsOf(ctx, s.pool, coll)
	if s.names.forgetFields(coll); err != nil {
		return err
	}
	searched, err := s.searchedIn(ctx, s.pool, coll)
	if err != nil || len(all)+len(searched) == 0 {
		return err
	}
	indexes := []string{s.opts.Schema + "." + s.searchIndexName(coll)}
	for i := range all {
		indexes = append(indexes, s.opts.Schema+"."+s.indexName(coll, i+1))
	}
	drop := func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', '100ms', true)"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DROP INDEX IF EXISTS "+strings.Join(indexes, ", "))
		if err != nil || len(searched) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, s.sql("DELETE FROM {}.searched WHERE coll = $1"), coll)
		return err
	}
	for range 10 {
		err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, drop)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != lockNotAvailable {
			return err
		}
		s.pause(100 * time.Millisecond)
	}
	return nil
}

// forgetFields makes the fields of a collection be declared anew.
func (n *names) forgetFields(coll int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.fields, coll)
}

// fieldValues returns the values of fields of a document, as the server writes
// a list of bytes.
func fieldValues(data []byte, fields []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, value := range store.FieldsOf(data, fields) {
		if i > 0 {
			b.WriteByte(',')
		}
		v := encodeValue(value)
		if v == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteString(`"\\x` + hex.EncodeToString(v) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}
