package deed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Tables are SQL tables of one's own that follow the events, for what documents
// cannot do: joins, sums by groups, and whatever else the database has. They take
// SQLite or PostgreSQL. What handlers execute is written together with the cursor, so
// each event takes effect exactly once, and the tables can be built anew, beside
// those that are read: each generation has its own.
//
// In SQL a table is {name}: {order_lines}, never its real name.
type Tables struct {
	Name       string
	Doc        string   // one sentence for people
	Migrations []string // one statement each, applied once, in this order. Add others behind them; one that was applied is never edited
	On         []TableHandler
	Version    int // of the handlers and of the first migrations: with another one the tables are built anew, see [Projection]
}

// A TableHandler handles one type of event. Make one with [OnSQL].
type TableHandler struct {
	event reflect.Type
	run   func(tx *SQL, m Meta, e any) error
}

// OnSQL handles events of type E, or [Recorded] of such, by statements. An error
// parks the event, and so does a statement that the database refuses.
func OnSQL[E any](f func(tx *SQL, e E) error) TableHandler {
	typ, _, unwrap := eventType[E]()
	return TableHandler{event: typ, run: func(tx *SQL, m Meta, e any) error { return f(tx, unwrap(m, e)) }}
}

// SQL collects the statements of an event. They are executed in their order, some
// time after the handler has returned: one that depends on what a table has says so in
// SQL (UPDATE {totals} SET n = n + 1, INSERT ... ON CONFLICT ...).
type SQL struct {
	tx    *engine.Tx
	names func(string) (string, error)
}

// Exec adds a statement: INSERT, UPDATE, DELETE, or WITH and one of these. Arguments
// are nil, bool, int, int64, float64, string, []byte or time.Time; placeholders are
// those of the database: ? on SQLite, $1 on PostgreSQL (and on SQLite, too).
func (s *SQL) Exec(statement string, args ...any) error {
	text, err := s.names(statement)
	if err != nil {
		return engine.Permanent(err)
	}
	return s.tx.Execute(store.Statement{SQL: text, Args: args})
}

// Query yields the rows of a SELECT, as values nil, int64, float64, string, []byte,
// bool or time.Time. Tables know no past: r must see everything.
func (t Tables) Query(ctx context.Context, r Reader, query string, args ...any) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		rows, err := t.rows(ctx, r, query, args)
		if err != nil {
			yield(nil, err)
			return
		}
		rows(yield)
	}
}

func (t Tables) rows(ctx context.Context, r Reader, query string, args []any) (iter.Seq2[[]any, error], error) {
	rt := r.runtime()
	v, ok := rt.tables[t.Name]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: the runtime has no tables %q", ErrUnknown, t.Name)
	case !r.limit().none():
		r.reads().noPast()
		return nil, Invalid{Detail: fmt.Sprintf("the tables %s know no past", t.Name)}
	}
	if noted := r.reads(); noted != nil {
		if err := noted.visit(ctx, v); err != nil {
			return nil, err
		}
	}
	gen, err := rt.engine.Generation(ctx, t.Name)
	if err != nil {
		return nil, err
	}
	db, err := store.RelationalOf(rt.store)
	if err != nil {
		return nil, err
	}
	text, err := ownTables(t.Name, gen).in(query)
	if err != nil {
		return nil, Invalid{Detail: err.Error()}
	}
	return db.ReadTables(ctx, store.Statement{SQL: text, Args: args}), nil
}

func (t Tables) order() int { return 2 }

func (t Tables) register(rt *Runtime) error {
	if err := checkName("tables", t.Name); err != nil {
		return err
	}
	db, err := store.RelationalOf(rt.store)
	if err != nil {
		return fmt.Errorf("tables %s: %w", t.Name, err)
	}
	if _, dup := rt.views[t.Name]; dup || len(t.On) == 0 {
		return fmt.Errorf("tables %s: another view has this name, or they handle no events", t.Name)
	}
	prefix := ownTables(t.Name, 1).prefix
	if strings.Contains(strings.TrimSuffix(prefix, "__"), "__") || strings.HasSuffix(prefix, "___") {
		return fmt.Errorf("tables %s: two hyphens in a row, or one at the end, are not for tables", t.Name)
	}
	for other := range rt.tables {
		if ownTables(other, 1).prefix == prefix {
			return fmt.Errorf("tables %s and %s would be the same in the database", t.Name, other)
		}
	}
	for _, m := range t.Migrations {
		if _, err := ownTables(t.Name, 1).in(m); err != nil {
			return fmt.Errorf("tables %s: %w", t.Name, err)
		}
	}
	w := &tabulator{rt: rt, name: t.Name, handlers: map[wire.Name][]TableHandler{}}
	categories, types := map[string]bool{}, map[string]bool{}
	for _, h := range t.On {
		names := rt.codec.NamesOf(h.event)
		if len(names) == 0 {
			return fmt.Errorf("tables %s handle %v, which no aggregate declares", t.Name, h.event)
		}
		for _, n := range names {
			w.handlers[n] = append(w.handlers[n], h)
			categories[n.Category], types[n.Type] = true, true
		}
	}
	rt.tables[t.Name] = &view{rt: rt, name: t.Name, follower: t.Name, concerns: w.concerns}
	return rt.addFollower(engine.Follower{
		Name: t.Name, Kind: "tables", Pure: true, Version: t.Version, AskSwitch: rt.cfg.AskSwitch,
		Filter:  store.Filter{Categories: slices.Sorted(maps.Keys(categories)), Types: slices.Sorted(maps.Keys(types))},
		New:     func(gen uint64) engine.Handler { return &tableWorker{w, ownTables(t.Name, gen)} },
		Prepare: func(ctx context.Context, gen uint64) error { return t.migrate(ctx, rt, db, gen) },
		Drop: func(ctx context.Context, gen uint64) error {
			return errors.Join(db.DropTables(ctx, ownTables(t.Name, gen).prefix), rt.store.Write(ctx, store.Change{Coll: migrationsColl, Key: migrationsKey(t.Name, gen), Rev: store.AnyRev}))
		},
	})
}

func (rt *Runtime) viewOrTables(name string) (*view, bool) {
	if v, ok := rt.views[name]; ok {
		return v, true
	}
	v, ok := rt.tables[name]
	return v, ok
}

// tabulator is Tables at work in a runtime.
type tabulator struct {
	rt       *Runtime
	name     string
	handlers map[wire.Name][]TableHandler
}

func (w *tabulator) of(rec store.Record) []TableHandler {
	return w.handlers[wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}]
}

func (w *tabulator) concerns(rec store.Record) bool { return len(w.of(rec)) > 0 }

// tableWorker handles the events for the tables of one generation. It keeps nothing.
type tableWorker struct {
	*tabulator
	tables ownNames
}

func (w *tableWorker) Keys(rec store.Record) []string { return []string{rec.Stream} }

func (w *tableWorker) Handle(_ context.Context, tx *engine.Tx, rec store.Record) error {
	handlers := w.of(rec)
	if len(handlers) == 0 {
		return nil
	}
	m, e, err := w.rt.understand(rec)
	if err != nil {
		return engine.Permanent(err)
	}
	for _, h := range handlers {
		if err := h.run(&SQL{tx, w.tables.in}, m, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *tableWorker) Flush(context.Context, *engine.Tx) error { return nil }
func (w *tableWorker) Reset()                                  {}

// migrationsColl has, for each generation of Tables, which migrations were applied:
// their sums. The format is for ever.
const migrationsColl = "$migrations"

func migrationsKey(name string, gen uint64) string { return fmt.Sprintf("%s/%d", name, gen) }

type applied struct {
	SHA256 []string `json:"sha256"`
}

// migrate applies the migrations that a generation has not seen, one at a time, each
// together with the note that it was.
func (t Tables) migrate(ctx context.Context, rt *Runtime, db store.Relational, gen uint64) error {
	for {
		var done applied
		d, err := rt.store.Get(ctx, migrationsColl, migrationsKey(t.Name, gen))
		switch {
		case err == nil:
			err = json.Unmarshal(d.Data, &done)
		case errors.Is(err, store.ErrNotFound):
			err = nil
		}
		if err != nil {
			return err
		}
		if err := t.unedited(done); err != nil || len(done.SHA256) == len(t.Migrations) {
			return err
		}
		next := t.Migrations[len(done.SHA256)]
		done.SHA256 = append(done.SHA256, sumOf(next))
		data, err := json.Marshal(done)
		if err != nil {
			return err
		}
		text, err := ownTables(t.Name, gen).in(next)
		if err != nil {
			return err
		}
		note := store.Change{Coll: migrationsColl, Key: migrationsKey(t.Name, gen), Rev: d.Rev, Data: data}
		err = db.WriteTables(ctx, []store.Change{note}, []store.Statement{{SQL: text}})
		if _, faster := errors.AsType[*store.ConflictError](err); err != nil && !faster {
			return fmt.Errorf("tables %s: migration %d: %w", t.Name, len(done.SHA256), err)
		}
	}
}

// unedited reports whether the migrations that were applied are those there are.
func (t Tables) unedited(done applied) error {
	for i, sum := range done.SHA256 {
		if i >= len(t.Migrations) {
			return fmt.Errorf("tables %s: %d migrations were applied, and this program has %d: use a newer program, or raise Version", t.Name, len(done.SHA256), len(t.Migrations))
		}
		if sumOf(t.Migrations[i]) != sum {
			return fmt.Errorf("tables %s: migration %d was edited after it was applied: leave it as it was and add another one, or raise Version, which builds the tables anew", t.Name, i+1)
		}
	}
	return nil
}

// sumOf tells migrations apart; how they are broken into lines does not matter.
func sumOf(migration string) string {
	sum := sha256.Sum256([]byte(strings.Join(strings.Fields(migration), " ")))
	return hex.EncodeToString(sum[:])
}

// ownNames is where the tables of a generation are.
type ownNames struct{ prefix string }

// ownTables are those of a generation. A hyphen is an underscore; no name has two.
func ownTables(name string, gen uint64) ownNames {
	return ownNames{fmt.Sprintf("%s%d_%s__", store.OwnPrefix, gen, strings.NewReplacer("-", "_", ".", "_").Replace(name))}
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)
var tableName = regexp.MustCompile(`^\{[a-z][a-z0-9]*(_[a-z0-9]+)*\}$`)

// maxTableName is what PostgreSQL can tell apart.
const maxTableName = 63

// in writes the real names of tables into SQL.
func (o ownNames) in(sql string) (string, error) {
	var bad error
	text := placeholder.ReplaceAllStringFunc(sql, func(name string) string {
		full := o.prefix + strings.Trim(name, "{}")
		switch {
		case !tableName.MatchString(name):
			bad = fmt.Errorf("deed: %s is no table: a name has lower-case letters, digits and single underscores; give texts with braces as arguments", name)
		case len(full) > maxTableName:
			bad = fmt.Errorf("deed: %s has %d bytes, and may have %d: shorten it, or the name of the tables", full, len(full), maxTableName)
		}
		return `"` + full + `"`
	})
	return text, bad
}
