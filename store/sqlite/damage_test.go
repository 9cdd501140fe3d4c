package sqlite_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

var (
	damages    = flag.Int("damages", 400, "bytes of databases to damage, one at a time")
	damageSeed = flag.Uint64("damageseed", 0, "which bytes; 0 = others each time")
)

// A damaged byte shows as an error or not at all: never as another event, a
// shorter stream, an event that was given up or another document. What a reader
// cannot know is left to the check, and only that: compare names it.
func TestDamageIsNeverSilent(t *testing.T) {
	seed := cmp.Or(*damageSeed, uint64(time.Now().UnixNano()))
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compacted), func(t *testing.T) {
			damageIsNeverSilent(t, newOriginal(t, compacted), *damages/2, seed)
		})
	}
}

func damageIsNeverSilent(t *testing.T, o *original, files int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	found, named, left := 0, 0, map[string]int{}
	for range files {
		at, bit := r.IntN(len(o.file)), r.IntN(8)
		t.Run(fmt.Sprintf("seed=%d,byte=%d,bit=%d", seed, at, bit), func(t *testing.T) {
			report, silent := o.damage(t, at, bit)
			if len(report.Problems) > 0 {
				found++
			}
			if slices.ContainsFunc(report.Problems, func(p sqlite.Problem) bool { return p.Position > 0 }) {
				named++
			}
			for what := range silent {
				left[what]++
			}
		})
	}
	if found < files/4 || named == 0 {
		t.Errorf("the check found damage in %d of %d files, and named a position in %d", found, files, named)
	}
	t.Logf("damage found in %d of %d files, with the event's position in %d; only the check found: %v", found, files, named, left)
}

// Where nothing is damaged nothing is said to be: what was given up is not missing.
func TestSoundFilesAreRead(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		o := newOriginal(t, compacted)
		s := open(t, o.write(t, o.file))
		for _, sc := range scans {
			if got, want, err := o.scan(t, s, sc); err != nil || len(got) != len(want) {
				t.Errorf("compacted=%v, the log after %d, %+v: %d events instead of %d, %v", compacted, sc.after, sc.f, len(got), len(want), err)
			}
		}
		if silent := o.compare(t, s); len(silent) > 0 {
			t.Errorf("compacted=%v: %v", compacted, silent)
		}
	}
}

// Inner pages of the log's tree say where to go for a position: a wrong turn
// leads past events, also for those who came by the right way before.
func TestWrongTurnsAreNeverSilent(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compacted), func(t *testing.T) { wrongTurns(t, newOriginal(t, compacted)) })
	}
}

func wrongTurns(t *testing.T, o *original) {
	turns := o.turns()
	for _, at := range turns {
		t.Run(fmt.Sprintf("byte=%d", at+4), func(t *testing.T) { o.damage(t, at+4, 4) })
		for bit := range 4 { // to another page
			t.Run(fmt.Sprintf("byte=%d,bit=%d", at+3, bit), func(t *testing.T) { o.damage(t, at+3, bit) })
		}
	}
	if len(turns) < 5 {
		t.Errorf("%d turns", len(turns))
	}
}

// A page that is read in the place of another has as many events.
func TestPageReadTwiceIsNeverSilent(t *testing.T) {
	o := &original{}
	path := filepath.Join(t.TempDir(), "deed.db")
	s := open(t, path)
	w := store.Write{Stream: "order/1", Expect: store.None}
	for n := range 60 {
		e := randomEvent()
		e.Type, e.Data = fmt.Sprintf("t-%02d", n), fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", 500))
		w.Events = append(w.Events, e)
	}
	_, err := s.Append(t.Context(), w)
	if err = errors.Join(err, s.Close()); err == nil {
		o.file, err = os.ReadFile(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	cells := o.turns()
	for i := range cells[1:] {
		damaged := slices.Clone(o.file)
		damaged[cells[i]+3] = damaged[cells[i+1]+3]
		s := open(t, o.write(t, damaged))
		for _, e := range w.Events {
			if got, err := collect(s.ReadAll(t.Context(), store.Start, store.Filter{Types: []string{e.Type}})); err == nil && len(got) != 1 {
				t.Errorf("page %d: %d events %s, without an error", i, len(got), e.Type)
			}
		}
	}
	if len(cells) < 5 {
		t.Errorf("%d pages", len(cells))
	}
}

// turns returns where inner pages of tables have the numbers of other pages, of
// four bytes; the positions up to which these are follow.
func (o *original) turns() (out []int) {
	const page, inner = 4096, 0x05
	for start := page; start < len(o.file); start += page {
		if o.file[start] != inner {
			continue
		}
		for cell := range int(binary.BigEndian.Uint16(o.file[start+3:])) {
			out = append(out, start+int(binary.BigEndian.Uint16(o.file[start+12+2*cell:])))
		}
	}
	return out
}

// A document with another key is in a wrong place: who reads on from there is
// led astray. So it is with a key of another type, which sorts behind all others.
func TestAlteredKeysAreNeverSilent(t *testing.T) {
	o := newOriginal(t, false)
	const behind, text = 5, 13 + 2*len("o-00") // the type is so many bytes before the key
	for _, key := range []string{"o-00", "o-18", "o-19", "o-20", "o-39"} {
		at := bytes.Index(o.file, []byte(key+"{")) // as it stands in a row, before the data
		if at < 0 || int(o.file[at-behind]) != text {
			t.Fatalf("%s is not where it is looked for", key)
		}
		for _, d := range []struct{ at, bit int }{{at + len(key) - 1, 0}, {at + len(key) - 1, 3}, {at - behind, 0}} {
			t.Run(fmt.Sprintf("%s,byte=%d,bit=%d", key, d.at, d.bit), func(t *testing.T) { o.damage(t, d.at, d.bit) })
		}
	}
}

// Each row that readers rely on says itself whether it is as it was written.
func TestAlteredRowsAreErrors(t *testing.T) {
	dir, o := t.TempDir(), newOriginal(t, false)
	ctx, one := t.Context(), []store.Event{randomEvent()}
	read := func(r store.Range) func(*sqlite.Store) error {
		return func(s *sqlite.Store) error { _, err := collect(s.Read(ctx, "order/4", r)); return err }
	}
	scan := func(after store.Cursor, f store.Filter) func(*sqlite.Store) error {
		return func(s *sqlite.Store) error { _, err := collect(s.ReadAll(ctx, after, f)); return err }
	}
	add := func(stream string, e store.Expect) func(*sqlite.Store) error {
		return func(s *sqlite.Store) error {
			_, err := s.Append(ctx, store.Write{Stream: stream, Expect: e, Events: one})
			return err
		}
	}
	again := func(s *sqlite.Store) error {
		var events []store.Event
		for _, rec := range o.log[20:25] {
			events = append(events, store.Event{ID: rec.ID, Type: rec.Type, Data: rec.Data, Meta: rec.Meta})
		}
		_, err := s.Append(ctx, store.Write{Stream: "order/4", Expect: store.Exactly(0), Events: events})
		return err
	}
	const shorter, longer = "UPDATE streams SET version = 4 WHERE name = 'order/4'", "UPDATE streams SET version = 7 WHERE name = 'order/4'"
	for _, tt := range []struct {
		statement, want string
		do              func(*sqlite.Store) error
	}{
		{shorter, "the end of stream order/4 fails its checksum", read(store.Range{})},
		{shorter, "the end of stream order/4", read(store.Range{From: 5})},
		{shorter, "the end of stream order/4", read(store.Range{Backward: true, Limit: 1})},
		{shorter, "the end of stream order/4", add("order/4", store.Exactly(4))},
		{longer, "the end of stream order/4", read(store.Range{From: 6})},
		{longer, "the end of stream order/4", add("order/4", store.Any)},
		{"UPDATE events SET time = time + 1 WHERE pos = 22", "event order/4@2 at position 22 fails its checksum", again},
		{"DELETE FROM events WHERE pos = 25", "the event order/4@5 is missing", again},
		{"DELETE FROM events WHERE pos = 25", "the event order/4@5 is missing", read(store.Range{})},
		{"DELETE FROM events WHERE pos = 23", "the event order/4@3 is missing", read(store.Range{})},
		{"DELETE FROM events WHERE pos = 25", "at position 25 is missing", scan("", store.Filter{Types: []string{"done"}})},
		{"DELETE FROM events WHERE pos = 25", "at position 25 is missing", scan("", store.Filter{})},
		{"DELETE FROM events WHERE pos = 25", "at position 25 is missing", func(s *sqlite.Store) error { // not if what is before and behind it was read
			done := store.Filter{Types: []string{"done"}}
			few := store.Filter{Types: done.Types, Limit: 3}
			if err := errors.Join(scan("99", done)(s), scan("", few)(s), scan("30", done)(s), scan("", few)(s)); err != nil {
				return err
			}
			return scan("", done)(s)
		}},
		{"DELETE FROM events WHERE pos = 100", "at position 100 is missing", scan("99", store.Filter{Types: []string{"done"}})},
		{"UPDATE head SET pos = 99", "the end of the log fails its checksum", nil},
		{"UPDATE head SET time = time * 2", "the end of the log", nil},
		{"UPDATE docs SET data = replace(data, 'y', 'z') WHERE key = 'o-07'", "document view/orders/1/o-07 fails its checksum", func(s *sqlite.Store) error {
			_, err := s.Get(ctx, docsColl, "o-07")
			return err
		}},
		{"UPDATE docs SET rev = 2 WHERE key = 'o-07'", "o-07 fails its checksum", func(s *sqlite.Store) error {
			_, err := gather(s.List(ctx, docsColl, "", ""))
			return err
		}},
		{"UPDATE docs SET key = 'o-77' WHERE key = 'o-07'", "o-77 fails its checksum", func(s *sqlite.Store) error {
			_, err := gather(s.Find(ctx, docsColl, store.Query{Sort: "n"}))
			return err
		}},
	} {
		path := filepath.Join(dir, "altered.db")
		if err := os.WriteFile(path, o.file, 0o644); err != nil {
			t.Fatal(err)
		}
		alter(t, path, tt.statement)
		if report, err := sqlite.Check(ctx, path, nil); err != nil || len(report.Problems) == 0 {
			t.Errorf("%s: the check finds nothing, %v", tt.statement, err)
		}
		s, err := sqlite.Open(path, nil)
		if err == nil && tt.do != nil {
			err = tt.do(s)
		}
		if !errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.statement, err, tt.want)
		}
		if s != nil {
			s.Close()
		}
	}
}

// An index of words that is not what it was finds no document by words it does not
// have. That it has lost some, the check knows.
func TestAlteredWordsAreFoundByTheCheck(t *testing.T) {
	dir, o := t.TempDir(), newOriginal(t, false)
	for _, statement := range []string{
		"DELETE FROM words WHERE key = 'o-07'", "UPDATE words SET sum = sum + 1 WHERE key = 'o-07'", "UPDATE words SET key = 'o-99' WHERE key = 'o-07'",
		"DELETE FROM search_%d WHERE rowid = (SELECT id FROM words WHERE key = 'o-07')",
		"INSERT OR REPLACE INTO search_%d (rowid, words) SELECT id, 'blue door' FROM words WHERE key = 'o-07'",
		"INSERT INTO search_%d (rowid, words) VALUES (4711, 'blue door')",
		"UPDATE searched SET fields = '[\"n\"]'", "UPDATE searched SET fields = '[7]'",
	} {
		path := filepath.Join(dir, "altered.db")
		if err := os.WriteFile(path, o.file, 0o644); err != nil {
			t.Fatal(err)
		}
		alter(t, path, strings.ReplaceAll(statement, "%d", fmt.Sprint(o.searched(t, path))))
		if report, err := sqlite.Check(t.Context(), path, nil); err != nil || len(report.Problems) == 0 {
			t.Errorf("%s: the check finds nothing, %v", statement, err)
		}
		s, err := sqlite.Open(path, nil)
		if err != nil {
			continue
		}
		docs, err := gather(s.Find(t.Context(), docsColl, store.Query{Search: "blue", Text: searchedFields}))
		for _, d := range docs {
			if o.same(t, d); !strings.Contains(string(d.Data), "blue") {
				t.Errorf("%s: %s is found", statement, d.Key)
			}
		}
		if err != nil {
			t.Logf("%s: %v", statement, err)
		}
		s.Close()
	}
}

// searched is the number of the collection that is searched.
func (o *original) searched(t *testing.T, path string) (n int64) {
	c, err := lib.OpenConn(path, lib.OpenReadOnly)
	if err == nil {
		err = sqlitex.ExecuteTransient(c, "SELECT coll FROM searched", &sqlitex.ExecOptions{ResultFunc: func(st *lib.Stmt) error { n = st.ColumnInt64(0); return nil }})
	}
	if err = errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// What is given up is found by an index: if that leads to another stream's event,
// nothing goes.
func TestMisleadingIndexRemovesNothing(t *testing.T) {
	o := newOriginal(t, false)
	for name, tt := range map[string]struct {
		entry []byte // four bytes of types, then the numbers that are not 1
		at    int
		is    byte
	}{
		"an event is another one": {[]byte{4, 1, 1, 1, 5, 3, 23}, 6, 31}, // order/4 has the number 5, and its version 3 the position 23
		"one event more":          {[]byte{4, 1, 9, 1, 6, 26}, 4, 5},     // the first event of the next stream
	} {
		from := bytes.Index(o.file, tt.entry)
		if from < 0 || bytes.Count(o.file, tt.entry) > 1 {
			t.Fatalf("%s: the entry is not where it is looked for", name)
		}
		damaged := slices.Clone(o.file)
		damaged[from+tt.at] = tt.is
		s := open(t, o.write(t, damaged))
		if _, err := s.Compact(t.Context(), store.Whole{Stream: "order/4", Last: store.Position{Seq: 25}}); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: compacting it: %v", name, err)
		}
		got, err := collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
		if o.intact(t, got); err != nil || len(got) != len(o.log) {
			t.Errorf("%s: %d events of %d are left, %v", name, len(got), len(o.log), err)
		}
	}
}

// Event types are known by number: whoever reads a type must know of all.
func TestAlteredNameOfATypeIsAnError(t *testing.T) {
	dir, o := t.TempDir(), newOriginal(t, false)
	path, places := filepath.Join(dir, "altered.db"), 0
	for _, name := range []string{"orderpaid", docsColl} { // as they stand in a row
		for from := 0; ; places++ {
			at := bytes.Index(o.file[from:], []byte(name))
			if at < 0 {
				break
			}
			from += at + len(name)
			damaged := slices.Clone(o.file)
			damaged[from-1] ^= 1
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := sqlite.Open(path, nil)
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%s, byte %d: %v", name, from-1, err)
			}
			if s != nil {
				s.Close()
			}
		}
	}
	if places < 4 {
		t.Errorf("%d places, want two of each", places)
	}
}

// Rows of an old file get their checksums when it is opened: not those that
// are damaged already.
func TestOldDamageStays(t *testing.T) {
	path := copied(t, "version-1.db")
	alter(t, path, "UPDATE streams SET version = 1 WHERE name = 'order/o-1'")
	for range 2 {
		if s, err := sqlite.Open(path, nil); err == nil || !strings.Contains(err.Error(), "stream order/o-1 is at version 1 and its last event is 2") {
			t.Errorf("%v", err)
			s.Close()
		}
	}
	if report, err := sqlite.Check(t.Context(), path, nil); err != nil || len(report.Problems) != 1 {
		t.Errorf("%v, %v", report.Problems, err)
	}
}
