package cli_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// A state is what a checkpoint says.
type state struct {
	Cursor store.Cursor `json:"cursor"`
	Node   string       `json:"node"`
	Epoch  uint64       `json:"epoch"`
}

func parseState(t *testing.T, d store.Doc) (c state) {
	t.Helper()
	if err := json.Unmarshal(d.Data, &c); err != nil {
		t.Fatalf("%s: %v", d.Key, err)
	}
	return c
}

// A watch has the database itself keep every state of every checkpoint, in the
// order in which they were committed.
type watch struct{ dsn string }

// watchCheckpoints begins to watch those of a schema.
func watchCheckpoints(t *testing.T, dsn, schema string) *watch {
	t.Helper()
	w := &watch{postgres.WithoutSchema(dsn)}
	c := w.connect(t)
	for _, sql := range []string{
		"CREATE SCHEMA watch",
		"CREATE TABLE watch.checkpoints (n bigserial PRIMARY KEY, key text NOT NULL, data text NOT NULL)",
		`CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.coll = (SELECT id FROM ` + schema + `.colls WHERE name = '$cursor') THEN
				INSERT INTO watch.checkpoints (key, data) VALUES (convert_from(NEW.key, 'UTF8'), convert_from(NEW.data, 'UTF8'));
			END IF;
			RETURN NULL;
		END $$`,
		"CREATE TRIGGER note AFTER INSERT OR UPDATE ON " + schema + ".docs FOR EACH ROW EXECUTE FUNCTION watch.note()",
	} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// connect connects to the server that takes writes.
func (w *watch) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	})
	return c
}

// check goes through all states there were. Cursors and epochs never go back,
// and in one epoch nobody but its holder writes: nothing of a node that was
// replaced was accepted.
func (w *watch) check(t *testing.T) {
	t.Helper()
	rows, err := w.connect(t).Query(t.Context(), "SELECT key, data FROM watch.checkpoints ORDER BY n")
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]state{}
	var key, data string
	taken, stale := 0, 0
	tag, err := pgx.ForEachRow(rows, []any{&key, &data}, func() error {
		now := parseState(t, store.Doc{Key: key, Data: []byte(data)})
		was, known := last[key]
		if known && (now.Epoch < was.Epoch || !now.Cursor.CoversAll(was.Cursor) || now.Epoch == was.Epoch && now.Node != was.Node && now.Node != "") {
			t.Errorf("checkpoint %s goes from %+v to %+v", key, was, now)
			stale++
		}
		if known && now.Epoch > was.Epoch {
			taken++
		}
		last[key] = now
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d states of checkpoints, in which partitions changed hands %d times, %d were stale", tag.RowsAffected(), taken, stale)
}
