package postgres_test

import (
	"flag"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/deed-dev/deed/internal/pgtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var update = flag.Bool("update", false, "write testdata anew")

// dump runs pg_dump on the database of a server's address.
func dump(t testing.TB, s *pgtest.Server, database string, args ...string) string {
	t.Helper()
	return must[string](t)(s.Tool("", "pg_dump", append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "postgres", "-O", "-x", database}, args...)...))
}

var noise = regexp.MustCompile(`(?m)^(--.*|SET .*|SELECT pg_catalog.*|\\(un)?restrict.*|\s*)\n`)

// The schema is part of the stored format: a change of it is a migration, and
// shows here.
func TestSchemaIsTheGoldenOne(t *testing.T) {
	schema := server.Schema()
	openWith(t, server.DSN(schema), nil)
	got := strings.ReplaceAll(noise.ReplaceAllString(dump(t, server, "postgres", "--schema-only", "-n", schema), ""), schema, "deed")
	const file = "testdata/schema-3.sql"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(must[[]byte](t)(os.ReadFile(file))); got != want {
		t.Errorf("the schema of a fresh database is not that of %s (if that is meant: -update):\n%s", file, got)
	}
}

// Schemas that are not ours, or that a newer program has changed, are left alone.
func TestRefusedSchemas(t *testing.T) {
	for name, c := range map[string]struct{ prepare, says string }{
		"tables":         {"CREATE TABLE {}.users (id int)", "belongs to another program"},
		"a view":         {"CREATE VIEW {}.v AS SELECT 1", "belongs to another program"},
		"own migrations": {"CREATE TABLE {}.migrations (id int, migration text)", "belongs to another program"},
		"like ours":      {"CREATE TABLE {}.migrations (n int, at timestamptz)", "belongs to another program"},
		"newer":          {"", "use a newer deed"},
	} {
		t.Run(name, func(t *testing.T) {
			schema := server.Schema()
			if c.prepare == "" {
				openWith(t, server.DSN(schema), nil).Close()
				c.prepare = "INSERT INTO {}.migrations (n) VALUES (1000)"
			} else if err := server.Exec("CREATE SCHEMA " + schema); err != nil {
				t.Fatal(err)
			}
			if err := server.Exec(strings.ReplaceAll(c.prepare, "{}", schema)); err != nil {
				t.Fatal(err)
			}
			before := dump(t, server, "postgres", "-n", schema)
			if _, err := postgres.Open(t.Context(), server.DSN(schema), nil); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("opening it: %v, want %q", err, c.says)
			}
			same := func(s string) string { return noise.ReplaceAllString(s, "") }
			if after := dump(t, server, "postgres", "-n", schema); same(after) != same(before) {
				t.Errorf("it was changed:\n%s", after)
			}
		})
	}
}

// A database that cannot hold all names is refused.
func TestRefusedEncoding(t *testing.T) {
	if err := server.Exec("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"); err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(server.DSN("deed"), "/postgres?", "/latin?", 1)
	if _, err := postgres.Open(t.Context(), dsn, nil); err == nil || !strings.Contains(err.Error(), "UTF8") {
		t.Error(err)
	}
}

// Programs that open a fresh schema at once all succeed, and share it.
func TestOpenTogether(t *testing.T) {
	for range 5 {
		dsn := server.DSN(server.Schema())
		stores := make([]*postgres.Store, 4)
		var all sync.WaitGroup
		for i := range stores {
			all.Go(func() {
				s, err := postgres.Open(t.Context(), dsn, nil)
				if err != nil {
					t.Error(err)
					return
				}
				stores[i] = s
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		for i, s := range stores {
			must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Exactly(uint64(i)), event(`{}`))))
		}
		for _, s := range stores {
			s.Close()
		}
	}
}

// A dump that is restored into another database opens, has the same log and the
// same documents, and goes on.
func TestDumpAndRestore(t *testing.T) {
	schema := server.Schema()
	s := openWith(t, server.DSN(schema), nil)
	for n := range 50 {
		must[[]store.Written](t)(s.Append(t.Context(), write("a/"+strconv.Itoa(n%7), store.Any, events(1+n%3)...)))
	}
	gone := must[[]uint64](t)(s.Compact(t.Context(), wholeOf(t, s, "a/6"), wholeOf(t, s, "a/2")))
	if err := s.EnsureIndexes(t.Context(), "c", []string{"n"}); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		data := []byte(`{"n":` + strconv.Itoa(n*7%20) + `,"s":"\u0000ä"}`)
		if err := s.Write(t.Context(), store.Change{Coll: "c", Key: strconv.Itoa(n), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	text := dump(t, server, "postgres", "-n", schema)
	dsn := must[string](t)(server.Database("restored_"+schema, schema))
	must[string](t)(server.Tool(text, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(server.Port), "-U", "postgres", "restored_"+schema))
	r := openWith(t, dsn, nil)
	sameStore(t, s, r)
	for _, x := range []store.Store{s, r} { // both go on, in the same way
		w := must[[]store.Written](t)(x.Append(t.Context(), write("a/0", store.Any, event(`{}`)), write("b/0", store.None, event(`{}`))))
		if w[1].Position.Seq != uint64(len(logOf(t, x)))+gone[0]+gone[1] {
			t.Errorf("written at %v", w[1].Position)
		}
		if err := x.Write(t.Context(), store.Change{Coll: "another", Key: "k", Data: []byte(`{}`)}); err != nil {
			t.Error(err)
		}
	}
	if d, err := collect(r.List(t.Context(), "another", "", "")); err != nil || len(d) != 1 {
		t.Errorf("a collection made after the restore has %v, %v", d, err)
	}
}

// sameStore compares all that two stores have.
func sameStore(t *testing.T, a, b store.Store) {
	t.Helper()
	want, got := logOf(t, a), logOf(t, b)
	if len(want) != len(got) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	var sum store.Summer
	for i := range want {
		if sum.Sum(&want[i]) != sum.Sum(&got[i]) || want[i].Position != got[i].Position {
			t.Fatalf("event %v is another one", want[i].Position)
		}
	}
	q := store.Query{Sort: "n", Desc: true, Where: []store.Cond{{Field: "n", Op: ">", Value: int64(3)}}}
	wantDocs, gotDocs := must[[]store.Doc](t)(collect(store.Find(t.Context(), a, "c", q))), must[[]store.Doc](t)(collect(store.Find(t.Context(), b, "c", q)))
	if len(wantDocs) != len(gotDocs) || len(wantDocs) == 0 {
		t.Fatalf("%d documents, want %d", len(gotDocs), len(wantDocs))
	}
	for i := range wantDocs {
		if wantDocs[i].Key != gotDocs[i].Key || wantDocs[i].Rev != gotDocs[i].Rev || string(wantDocs[i].Data) != string(gotDocs[i].Data) {
			t.Errorf("document %v, want %v", gotDocs[i], wantDocs[i])
		}
	}
}
