package verify

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/deed-dev/deed/store"
)

// dumpAndRestore dumps the installation, drops it, restores it, and compares.
func dumpAndRestore(ctx context.Context, st *stage) error {
	if err := st.toolsFit(ctx); err != nil {
		return err
	}
	if err := furnish(ctx, st.stores[0]); err != nil {
		return err
	}
	before, err := inventory(ctx, st.stores[1])
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "deed-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "dump.sql")
	err = errors.Join(st.leave(ctx), st.tool(ctx, "pg_dump", "--no-owner", "--no-privileges", "--schema", st.Schema, "--file", file))
	if err != nil {
		return err
	}
	err = errors.Join(st.in.Drop(ctx), st.tool(ctx, "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", os.DevNull, "--file", file))
	if err != nil {
		return err
	}
	if err := st.enter(ctx); err != nil {
		return fmt.Errorf("what was restored cannot be opened: %w", err)
	}
	after, err := inventory(ctx, st.stores[0])
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("there was %+v, and after it was restored %+v", before, after)
	}
	return goesOn(ctx, st.stores[1])
}

// toolsFit says why there is nothing to be shown, if so.
func (st *stage) toolsFit(ctx context.Context) error {
	for _, name := range []string{"pg_dump", "psql"} {
		if _, err := exec.LookPath(name); err != nil {
			return DoesNotApply(name + " is not on the PATH: install PostgreSQL's client programs to have this shown")
		}
	}
	out, err := exec.CommandContext(ctx, "pg_dump", "--version").Output()
	if err != nil {
		return DoesNotApply(fmt.Sprintf("pg_dump cannot be run: %v", err))
	}
	var theirs int
	if err := st.look.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&theirs); err != nil {
		return err
	}
	var ours int
	if f := strings.Fields(string(out)); len(f) > 2 {
		fmt.Sscanf(f[2], "%d", &ours) // 0 is no version either
	}
	if ours != theirs {
		return DoesNotApply(fmt.Sprintf("pg_dump has version %d, the server %d: use programs of the server's version", ours, theirs))
	}
	return nil
}

// tool runs one of PostgreSQL's programs on the database. Its password is
// nothing for a command line.
func (st *stage) tool(ctx context.Context, name string, args ...string) error {
	u, err := url.Parse(st.DSN)
	if err != nil {
		return errors.New("the DSN is no URL") // the error has the password
	}
	q := u.Query()
	for key := range q {
		if strings.HasPrefix(key, "pool_") || strings.HasSuffix(key, "_cache_capacity") || key == "default_query_exec_mode" {
			q.Del(key) // other programs do not know these
		}
	}
	u.RawQuery = q.Encode()
	env := os.Environ()
	if secret, ok := u.User.Password(); ok {
		env = append(env, "PGPASSWORD="+secret)
		u.User = url.User(u.User.Username())
	}
	cmd := exec.CommandContext(ctx, name, append(args, "--dbname", u.String())...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// furnish puts something of everything into a store.
func furnish(ctx context.Context, s store.Store) error {
	for n := range 200 {
		stream := fmt.Sprintf("dump/%d", n%7)
		if err := put(ctx, s, stream, told(fmt.Sprintf(`{"n":%d,"text":"ä\u0000€"}`, n)), told(`{}`)); err != nil {
			return err
		}
	}
	if err := store.EnsureIndexes(ctx, s, "dump", []string{"n"}); err != nil {
		return err
	}
	for n := range 50 {
		err := s.Write(ctx, store.Change{Coll: "dump", Key: fmt.Sprint(n), Data: fmt.Appendf(nil, `{"n":%d,"text":"\u0000ä"}`, n*7%50)},
			store.Change{Coll: "$cursor", Key: "dump", Rev: store.AnyRev, Data: fmt.Appendf(nil, `{"cursor":"%d"}`, n)})
		if err != nil {
			return err
		}
	}
	return nil
}

// contents are what a store has.
type contents struct {
	Events int
	Log    uint32 // a checksum of all events, with their places and times
	Head   store.Cursor
	Docs   int
	Kept   uint32 // a checksum of documents: keys, revisions and data, in two orders
}

func inventory(ctx context.Context, s store.Store) (c contents, err error) {
	var sum store.Summer
	for rec, err := range s.ReadAll(ctx, store.Start, store.Filter{}) {
		if err != nil {
			return c, err
		}
		c.Events++
		c.Log = c.Log*31 + sum.Sum(&rec) + uint32(rec.Position.Seq)
	}
	if c.Head, err = s.Head(ctx); err != nil {
		return c, err
	}
	kept := crc32.NewIEEE()
	note := func(d store.Doc, err error) error {
		c.Docs++
		fmt.Fprintf(kept, "%s@%d %s\n", d.Key, d.Rev, d.Data)
		return err
	}
	for _, coll := range []string{"dump", "$cursor"} {
		for d, err := range s.List(ctx, coll, "", "") {
			if err := note(d, err); err != nil {
				return c, err
			}
		}
	}
	for d, err := range store.Find(ctx, s, "dump", store.Query{Sort: "n", Where: []store.Cond{{Field: "n", Op: ">", Value: int64(9)}}}) {
		if err := note(d, err); err != nil {
			return c, err
		}
	}
	c.Kept = kept.Sum32()
	return c, nil
}

// goesOn writes to what was restored: at the end of the log, and of documents.
func goesOn(ctx context.Context, s store.Store) error {
	head, err := s.Head(ctx)
	if err != nil {
		return err
	}
	last := map[string]uint64{}
	for rec, err := range s.ReadAll(ctx, store.Start, store.Filter{}) {
		if err != nil {
			return err
		}
		last[rec.Stream] = rec.Version
	}
	out, err := s.Append(ctx,
		store.Write{Stream: "dump/0", Expect: store.Exactly(last["dump/0"]), Events: []store.Event{told(`{}`)}},
		store.Write{Stream: "restored/0", Expect: store.None, Events: []store.Event{told(`{}`)}})
	if err != nil {
		return fmt.Errorf("appends do not go on: %w", err)
	}
	if head.Covers(out[0].Position) || out[0].Version != last["dump/0"]+1 {
		return fmt.Errorf("appended after %s at %v, version %d", head, out[0].Position, out[0].Version)
	}
	return errors.Join(
		s.Write(ctx, store.Change{Coll: "$cursor", Key: "dump", Rev: 50, Data: []byte(`{}`)}),
		s.Write(ctx, store.Change{Coll: "restored", Key: "k", Data: []byte(`{}`)}),
		contiguous(ctx, s))
}
