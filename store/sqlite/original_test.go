package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// An original is a sound database, and what is in it.
type original struct {
	file    []byte
	streams []string
	events  map[store.ID]store.Record
	log     []store.Record
	docs    []store.Doc
	head    uint64
}

const (
	perStream = 5
	docsColl  = "view/orders/1"
)

var searchedFields = []string{"text"}

// colours are in the texts of documents.
var colours = []string{"red", "green", "blue"}

// newOriginal writes a database. If it is a compacted one, streams before each
// other one and at the end were given up.
func newOriginal(t *testing.T, compacted bool) *original {
	path := filepath.Join(t.TempDir(), "deed.db")
	s := open(t, path)
	o := &original{events: map[store.ID]store.Record{}}
	var writes []store.Write
	var gone []store.Whole
	giveUp := func(i, events int) {
		if !compacted {
			return
		}
		w := store.Write{Stream: fmt.Sprintf("$query/q-%d", i), Expect: store.None}
		for range events {
			w.Events = append(w.Events, randomEvent())
		}
		writes = append(writes, w)
		gone = append(gone, store.Whole{Stream: w.Stream, Last: store.Position{Seq: uint64(len(o.streams)*perStream + i + events)}})
	}
	for i := range 20 {
		giveUp(i, 1)
		name := fmt.Sprintf("order/%d", i)
		if i%2 == 1 { // long enough for several pages
			name = fmt.Sprintf("$command/%s-%d", strings.Repeat("0123456789", 45), i)
		}
		w := store.Write{Stream: name, Expect: store.None}
		for n := range perStream {
			e := randomEvent()
			e.Type = []string{"done", "paid", "sent"}[n%3]
			w.Events = append(w.Events, e)
		}
		writes, o.streams = append(writes, w), append(o.streams, name)
	}
	giveUp(20, 3)
	var changes []store.Change
	for i := range 40 {
		data := fmt.Sprintf(`{"n":%d,"text":%q}`, i%7, strings.Repeat("y", 130)+" of a "+colours[i%3]+fmt.Sprintf(" door-%d", i))
		changes = append(changes, store.Change{Coll: docsColl, Key: fmt.Sprintf("o-%02d", i), Data: []byte(data)})
		if i < 20 {
			changes = append(changes, store.Change{Coll: "view/orders/0", Key: fmt.Sprintf("o-%02d", i), Data: []byte(data)})
		}
	}
	ctx := t.Context()
	for _, f := range []func() error{
		func() error { _, err := s.Append(ctx, writes...); return err },
		func() error { _, err := s.Compact(ctx, gone...); return err },
		func() error { return s.EnsureIndexes(ctx, docsColl, []string{"n"}) },
		func() error { return s.EnsureSearch(ctx, docsColl, searchedFields) },
		func() error { return s.Write(ctx, changes...) },
		func() error { return s.DropColl(ctx, "view/orders/0") },
		func() (err error) { o.log, err = collect(s.ReadAll(ctx, store.Start, store.Filter{})); return err },
		func() (err error) { o.docs, err = gather(s.List(ctx, docsColl, "", "")); return err },
		func() error { head, err := s.Head(ctx); o.head = head.Seq(0); return err },
		s.Close,
		func() (err error) { o.file, err = os.ReadFile(path); return err },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	want := uint64(len(o.streams) * perStream)
	if compacted {
		want += 23
	}
	if len(o.log) != len(o.streams)*perStream || len(o.docs) != 40 || o.head != want {
		t.Fatalf("%d events, %d documents, the head is %d", len(o.log), len(o.docs), o.head)
	}
	for _, rec := range o.log {
		o.events[rec.ID] = rec
	}
	return o
}

// write writes a file, and returns its path.
func (o *original) write(t *testing.T, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// damage flips a bit of a copy, and returns what the check says and what a
// reader is not told.
func (o *original) damage(t *testing.T, at, bit int) (sqlite.Report, silence) {
	damaged := slices.Clone(o.file)
	damaged[at] ^= 1 << bit
	path := o.write(t, damaged)
	report, err := sqlite.Check(t.Context(), path, nil)
	if err != nil {
		report.Problems = append(report.Problems, sqlite.Problem{Detail: err.Error()})
	}
	s, err := sqlite.Open(path, nil)
	if err != nil {
		return report, nil
	}
	defer s.Close()
	silent := o.compare(t, s)
	for what := range silent {
		if len(report.Problems) == 0 {
			t.Errorf("%s, and the check finds nothing", what)
		}
	}
	return report, silent
}

// A silence is what a damaged database does not tell, by its kind.
type silence map[string]bool

// compare reads a database in every way. Whatever is read without an error and
// is not as it was is reported, except for what only the check can find.
func (o *original) compare(t *testing.T, s *sqlite.Store) silence {
	out := silence{}
	if head, err := s.Head(t.Context()); err != nil || head.Seq(0) != o.head {
		t.Errorf("the head is %v, %v", head, err)
	}
	for i, name := range o.streams {
		o.compareStream(t, s, name, o.log[i*perStream:][:perStream], out)
	}
	o.compareLog(t, s, out)
	o.compareDocs(t, s, out)
	return out
}

// compareStream reads a stream. If the index of names has lost it, there is
// none for who asks by name.
func (o *original) compareStream(t *testing.T, s *sqlite.Store, name string, all []store.Record, out silence) {
	empty := 0
	ranges := []struct {
		r    store.Range
		want []int
	}{
		{store.Range{}, []int{1, 2, 3, 4, 5}},
		{store.Range{Backward: true}, []int{5, 4, 3, 2, 1}},
		{store.Range{Backward: true, Limit: 1}, []int{5}},
		{store.Range{Backward: true, From: 9}, []int{5, 4, 3, 2, 1}},
		{store.Range{From: 3, Limit: 2}, []int{3, 4}},
		{store.Range{From: 5}, []int{5}},
		{store.Range{From: 6}, nil},
	}
	for _, tt := range ranges {
		got, err := collect(s.Read(t.Context(), name, tt.r))
		o.intact(t, got)
		versions := make([]int, len(got))
		for i, rec := range got {
			versions[i] = int(rec.Version)
		}
		switch {
		case err == nil && len(got) == 0:
			empty++
		case err != nil && len(got) <= len(tt.want) && slices.Equal(versions, tt.want[:len(got)]):
		case err != nil || !slices.Equal(versions, tt.want):
			t.Errorf("%s, %+v: versions %v instead of %v, %v", name, tt.r, versions, tt.want, err)
		}
	}
	if empty == len(ranges) {
		out["a stream is not found by its name"] = true
	} else if empty > 1 {
		t.Errorf("%s: %d of %d reads were empty, without an error", name, empty, len(ranges))
	}
}

// A scan is a part of the log that is read, in all partitions of it: if the name
// of a stream is damaged, only one of them has its events.
type scan struct {
	after int // events
	f     store.Filter
}

var scans = []scan{
	{0, store.Filter{}}, {71, store.Filter{}}, {50, store.Filter{Limit: 7}}, {100, store.Filter{}},
	{0, store.Filter{Partitions: 2}}, {0, store.Filter{Partitions: 2, Types: []string{"sent"}}},
	{0, store.Filter{Types: []string{"done"}}}, {0, store.Filter{Categories: []string{"order"}}},
	{41, store.Filter{Types: []string{"paid"}, Categories: []string{"$command"}, Limit: 5}},
}

// scan returns what is read, and what was written.
func (o *original) scan(t *testing.T, s *sqlite.Store, sc scan) (got, want []store.Record, err error) {
	after := store.Start
	if sc.after > 0 {
		after = store.CursorAt(o.log[sc.after-1].Position)
	}
	for p := range max(sc.f.Partitions, 1) {
		f := sc.f
		f.Partition = p
		recs, e := collect(s.ReadAll(t.Context(), after, f))
		got, err = append(got, recs...), errors.Join(err, e)
	}
	return got, selected(o.log[sc.after:], sc.f), err
}

// compareLog reads the log. An event of which the kind is damaged is passed over
// by who asks for its kind.
func (o *original) compareLog(t *testing.T, s *sqlite.Store, out silence) {
	for _, sc := range scans {
		got, want, err := o.scan(t, s, sc)
		o.intact(t, got)
		switch missing := lost(want, got); {
		case err != nil && missing == len(want)-len(got):
		case err == nil && missing == 0 && len(got) == len(want):
		case err == nil && missing == 1 && len(sc.f.Types)+len(sc.f.Categories) > 0:
			out["an event is passed over by its kind"] = true
		default:
			t.Errorf("the log after %d, %+v: %d events instead of %d, %d of them lost, %v", sc.after, sc.f, len(got), len(want), missing, err)
		}
	}
}

// compareDocs reads documents. One that is lost from its collection is not
// found; an index may lose one, or find it by a wrong value, or in the place of another.
func (o *original) compareDocs(t *testing.T, s *sqlite.Store, out silence) {
	const notFound, misled = "a document is not found", "an index of documents misleads"
	for _, want := range o.docs {
		switch d, err := s.Get(t.Context(), docsColl, want.Key); {
		case err == nil:
			o.same(t, d)
		case strings.Contains(err.Error(), store.ErrNotFound.Error()):
			out[notFound] = true
		}
	}
	for name, tt := range map[string]struct {
		docs func(func(store.Doc, error) bool)
		want func(n int) bool
	}{
		"List":        {s.List(t.Context(), docsColl, "", ""), func(int) bool { return true }},
		"prefix":      {s.List(t.Context(), docsColl, "o-2", ""), func(n int) bool { return n/10 == 2 }},
		"after":       {s.List(t.Context(), docsColl, "", "o-19"), func(n int) bool { return n > 19 }},
		"Find":        {s.Find(t.Context(), docsColl, store.Query{Where: []store.Cond{{Field: "n", Op: "=", Value: int64(3)}}}), func(n int) bool { return n%7 == 3 }},
		"Find words":  {s.Find(t.Context(), docsColl, store.Query{Search: `blue "door"`, Text: searchedFields}), func(n int) bool { return n%3 == 2 }},
		"Find a word": {s.Find(t.Context(), docsColl, store.Query{Search: "do* 17", Text: searchedFields}), func(n int) bool { return n == 17 }},
		"Find sorted": {s.Find(t.Context(), docsColl, store.Query{Sort: "n", Desc: true}), func(int) bool { return true }},
	} {
		got, err := gather(tt.docs)
		listed := map[string]bool{}
		for i, d := range got {
			o.same(t, d)
			switch {
			case strings.HasPrefix(name, "Find"):
				if listed[d.Key] {
					out[misled] = true
				}
			case i > 0 && d.Key <= got[i-1].Key:
				t.Errorf("%s: document %s is in a wrong place", name, d.Key)
			}
			listed[d.Key] = true
		}
		for i, d := range o.docs {
			switch wanted := tt.want(i); {
			case wanted == listed[d.Key], wanted && err != nil:
			case strings.HasPrefix(name, "Find"):
				out[misled] = true
			case wanted:
				out[notFound] = true
			default:
				t.Errorf("%s: document %s is listed", name, d.Key)
			}
		}
	}
}

// intact demands that records are as they were written.
func (o *original) intact(t *testing.T, recs []store.Record) {
	t.Helper()
	for _, rec := range recs {
		w, ok := o.events[rec.ID]
		if !ok || string(w.Data) != string(rec.Data) || string(w.Meta) != string(rec.Meta) || w.Stream != rec.Stream ||
			w.Version != rec.Version || w.Position != rec.Position || !w.Time.Equal(rec.Time) || w.Type != rec.Type {
			t.Errorf("an event was silently altered: %+v", rec)
		}
	}
}

// same demands that a document is as it was written.
func (o *original) same(t *testing.T, d store.Doc) {
	t.Helper()
	i := slices.IndexFunc(o.docs, func(w store.Doc) bool { return w.Key == d.Key })
	if i < 0 || o.docs[i].Rev != d.Rev || string(o.docs[i].Data) != string(d.Data) {
		t.Errorf("a document was silently altered: %s, revision %d, %s", d.Key, d.Rev, d.Data)
	}
}

// selected returns what a filter selects of records, in all partitions.
func selected(recs []store.Record, f store.Filter) (out []store.Record) {
	for _, rec := range recs {
		if (len(f.Types) == 0 || slices.Contains(f.Types, rec.Type)) &&
			(len(f.Categories) == 0 || slices.Contains(f.Categories, store.Category(rec.Stream))) &&
			(f.Limit == 0 || len(out) < f.Limit) {
			out = append(out, rec)
		}
	}
	return out
}

// lost returns how many of want were not got.
func lost(want, got []store.Record) (n int) {
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g store.Record) bool { return g.ID == w.ID }) {
			n++
		}
	}
	return n
}

func gather(seq func(func(store.Doc, error) bool)) (out []store.Doc, err error) {
	for d, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
	return out, nil
}
