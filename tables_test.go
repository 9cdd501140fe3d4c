package deed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/sqlite"
)

// meals has a line for each time an animal eats, and sums by field.
func meals() deed.Tables {
	return deed.Tables{
		Name: "meal-book",
		Migrations: []string{
			`CREATE TABLE {meals} (animal TEXT NOT NULL, n BIGINT NOT NULL, at TEXT NOT NULL)`,
			`CREATE TABLE {fields} (animal TEXT PRIMARY KEY, field TEXT NOT NULL CHECK (field <> 'the moon'))`,
			`CREATE INDEX {meals_by_animal} ON {meals} (animal)`,
		},
		On: []deed.TableHandler{
			deed.OnSQL(func(tx *deed.SQL, e deed.Recorded[ate]) error {
				return tx.Exec(`INSERT INTO {meals} (n, animal, at) VALUES ($2, $1, $3)`, e.ID, e.Event.N, e.Time.Format(time.RFC3339))
			}),
			deed.OnSQL(func(tx *deed.SQL, e deed.Recorded[moved]) error {
				return tx.Exec(`INSERT INTO {fields} (animal, field) VALUES ($1, $2) ON CONFLICT (animal) DO UPDATE SET field = excluded.field`, e.ID, e.Event.Field)
			}),
		},
	}
}

const byField = `SELECT f.field, CAST(sum(m.n) AS BIGINT), count(*) FROM {meals} m JOIN {fields} f ON f.animal = m.animal GROUP BY f.field ORDER BY f.field`

func tableRows(t *testing.T, rt *deed.Runtime, r deed.Reader, m deed.Tables, query string, args ...any) string {
	t.Helper()
	head, err := rt.Store().Head(t.Context())
	if err == nil {
		err = rt.WaitForView(t.Context(), m.Name, head)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for row, err := range m.Query(t.Context(), r, query, args...) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(row))
	}
	return strings.Join(out, " ")
}

// relational runs a test where programs may have tables of their own.
func relational(t *testing.T, test func(t *testing.T, open func(testing.TB) store.Store)) {
	onAtomic(t, func(t *testing.T, open func(testing.TB) store.Store) {
		if strings.HasSuffix(t.Name(), "/mem") {
			t.Skip("memory has no tables")
		}
		test(t, open)
	})
}

// Tables of one's own have each event once, are rebuilt beside, migrated, and read by
// queries that know when they change.
func TestTables(t *testing.T) {
	relational(t, func(t *testing.T, open func(testing.TB) store.Store) {
		s, ctx := open(t), t.Context()
		start := func(m deed.Tables, parts ...deed.Part) (*deed.Runtime, func()) {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: append(parts, herd, m)}}, Poll: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
			if err != nil {
				t.Fatal(err)
			}
			run, stop := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- rt.Run(run) }()
			return rt, func() {
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		m := meals()
		total := deed.Query[struct{}, int64]{Name: "total", Answer: func(ctx context.Context, r deed.Reader, _ struct{}) (n int64, err error) {
			for row, err := range m.Query(ctx, r, `SELECT coalesce(CAST(sum(n) AS BIGINT), 0) FROM {meals}`) {
				if err != nil {
					return 0, err
				}
				n = row[0].(int64)
			}
			return n, nil
		}}
		rt, stop := start(m, total)
		ask := func(id string, cmd deed.Command[animal]) {
			t.Helper()
			if _, err := herd.Execute(ctx, rt, id, cmd); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 300 {
			ask(fmt.Sprintf("cow-%d", i%10), eat{i % 3})
			if i < 10 {
				ask(fmt.Sprintf("cow-%d", i), moveTo{[]string{"hill", "brook"}[i%2]})
			}
		}
		const want = "[brook 150 150] [hill 150 150]"
		if got := tableRows(t, rt, rt, m, byField); got != want {
			t.Errorf("got %s", got)
		}
		for _, n := range []int64{300, 307} {
			if got, _, err := total.Ask(ctx, rt, struct{}{}); err != nil || got != n {
				t.Errorf("the query says %d, %v, want %d", got, err, n)
			}
			if n == 300 {
				ask("cow-0", eat{7})
			}
		}
		for _, bad := range []string{"DELETE FROM {meals}", "SELECT * FROM docs", "SELECT * FROM {none}", "SELECT {x;} ", "WITH x AS (DELETE FROM {meals} RETURNING n) SELECT * FROM x"} {
			failed := false
			for _, err := range m.Query(ctx, rt, bad) {
				failed = failed || err != nil
			}
			if !failed {
				t.Errorf("%s is answered", bad)
			}
		}
		for _, err := range m.Query(ctx, rt.AsOf(time.Now()), byField) {
			if !strings.Contains(err.Error(), "know no past") {
				t.Errorf("the past: %v", err)
			}
		}

		if err := rt.Rebuilds().Begin(ctx, "meal-book", false); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool {
			st, err := rt.Rebuilds().Status(ctx, "meal-book")
			return err == nil && st.Shown.Generation == 2
		})
		if got := tableRows(t, rt, rt, m, byField); got != "[brook 150 150] [hill 157 151]" {
			t.Errorf("after a rebuild: %s", got)
		}
		stop()

		m.Migrations = append(slices.Clone(m.Migrations), `ALTER TABLE {meals} ADD COLUMN note TEXT`)
		rt, stop = start(m)
		if got := tableRows(t, rt, rt, m, `SELECT count(note), count(*) FROM {meals} WHERE animal = $1`, "cow-0"); got != "[0 31]" {
			t.Errorf("after a migration: %s", got)
		}
		stop()

		m.Version, m.Migrations = 3, []string{`CREATE TABLE {meals} (animal TEXT NOT NULL, n BIGINT NOT NULL, at TEXT)`, m.Migrations[1]}
		rt, stop = start(m)
		until(t, func() bool {
			st, err := rt.Rebuilds().Status(ctx, "meal-book")
			return err == nil && st.Shown.Version == 3
		})
		if got := tableRows(t, rt, rt, m, byField); got != "[brook 150 150] [hill 157 151]" {
			t.Errorf("of another version: %s", got)
		}
		if err := rt.Rebuilds().Discard(ctx, "meal-book"); err != nil {
			t.Error(err)
		}
		stop()

		edited := m
		edited.Migrations = []string{`CREATE TABLE {meals} (animal TEXT)`, m.Migrations[1]}
		rt, stop = start(edited)
		until(t, func() bool {
			i := slices.IndexFunc(rt.Followers().List(), func(f deed.FollowerStatus) bool { return f.Name == "meal-book" })
			return strings.Contains(rt.Followers().List()[i].LastError, "migration 1 of tables meal-book was edited") || strings.Contains(fmt.Sprint(rt.Followers().List()[i]), "migration 1 was edited")
		})
		stop()
	})
}

// A statement that the database refuses parks its event, and takes no other with it.
func TestRefusedStatements(t *testing.T) {
	relational(t, func(t *testing.T, open func(testing.TB) store.Store) {
		m, ctx := meals(), t.Context()
		m.On = append(m.On, deed.OnSQL(func(tx *deed.SQL, e bornAt) error {
			return tx.Exec(e.Field) // whatever
		}))
		rt := deedtest.StartOn(t, open(t), deed.Domain{Name: "d", Parts: []deed.Part{herd, m}})
		bad := 0
		for i, field := range []string{"the moon", "hill", "the moon", "brook"} {
			if _, err := herd.Execute(ctx, rt, fmt.Sprintf("cow-%d", i), moveTo{field}); err != nil {
				t.Fatal(err)
			}
			if field == "the moon" {
				bad++
			}
		}
		for i, sql := range []string{"DROP TABLE docs", "DELETE FROM docs", "COMMIT", "UPDATE deed.docs SET rev = 7", "nonsense", "INSERT INTO {meals} VALUES (1)", "PRAGMA user_version = 1", "INSERT INTO {other} VALUES ({1})"} {
			if _, err := herd.Execute(ctx, rt, fmt.Sprintf("bad-%d", i), beBorn{sql}); err != nil {
				t.Fatal(err)
			}
			bad++
		}
		if got := tableRows(t, rt, rt, m, `SELECT animal FROM {fields} ORDER BY animal`); got != "[cow-1] [cow-3]" {
			t.Errorf("got %s", got)
		}
		letters, _, err := rt.Followers().DeadLetters(ctx, "meal-book", "", 100)
		if err != nil || len(letters) != bad {
			t.Errorf("%d dead letters, want %d, %v", len(letters), bad, err)
		}
		for _, l := range letters {
			if l.Reason == "" {
				t.Errorf("%+v", l)
			}
		}
		if _, err := rt.Followers().Redrive(ctx, letters[0].ID); err == nil {
			t.Error("it is handled all of a sudden")
		}
	})
}

// mumbling does what it is asked, and loses every second answer.
type mumbling struct {
	*sqlite.Store
	n atomic.Int64
}

func (m *mumbling) WriteTables(ctx context.Context, cs []store.Change, sts []store.Statement) error {
	err := m.Store.WriteTables(ctx, cs, sts)
	if err == nil && m.n.Add(1)%2 == 0 {
		return store.ErrUnknown
	}
	return err
}

// An answer that is lost does not count an event twice.
func TestTablesLostAnswers(t *testing.T) {
	s, err := sqlite.Open(t.TempDir()+"/deed.db", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := meals()
	rt, err := deed.New(&mumbling{Store: s}, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{herd, m}}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	for i := range 20 {
		if _, err := herd.Execute(t.Context(), rt, "cow", eat{1}); err != nil {
			t.Fatal(err)
		}
		if i%5 == 4 {
			if got := tableRows(t, rt, rt, m, `SELECT count(*) FROM {meals}`); got != fmt.Sprintf("[%d]", i+1) {
				t.Errorf("got %s after %d", got, i+1)
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Where there are no tables, the program does not start.
func TestTablesRefused(t *testing.T) {
	_, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{herd, meals()}}}})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "SQLite or PostgreSQL") {
		t.Errorf("%v", err)
	}
}

func until(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}
