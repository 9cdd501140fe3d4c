package engine

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// What is stored must be readable for ever: these documents may get more
// fields, but what is there keeps its name, place and meaning. Do not change
// a line; add the new form beside it, and read both.
func TestStoredForm(t *testing.T) {
	within(t, func(t *testing.T) {
		s, m := newShelf(), badly("a/1@2", "a/2@1", "a/3@1")
		add(t, s, "a/1", 3)
		add(t, s, "a/2", 1)
		add(t, s, "a/3", 1)
		f := effectful(func(h *ledger) {
			h.fail = func(rec store.Record) error {
				switch err := m.fail(rec); {
				case err != nil && rec.Stream == "a/2":
					return errBad
				case err != nil && rec.Stream == "a/3":
					panic("oops")
				default:
					return err
				}
			}
		})
		f.Retry = Retry{First: time.Hour, Max: time.Hour}
		r := run(t, s, f)
		r.wait()
		if err := r.Discard(t.Context(), "ledger.3", "a test", "ann"); err != nil {
			t.Fatal(err)
		}
		if err := r.Pause(t.Context(), "ledger"); err != nil {
			t.Fatal(err)
		}
		l, err := r.DeadLetter(t.Context(), "ledger.4")
		if err != nil {
			t.Fatal(err)
		}
		next := l.NextAt.Format(time.RFC3339Nano)
		for _, c := range []struct{ coll, key, want string }{
			{"$follower", "ledger", `{"generation":1,"last":1,"paused":true}`},
			{"$cursor", "ledger/1/0-of-1", `{"cursor":"5"}`},
			{"$dead/ledger", "000001/0000000000:0000000000000000002", `{"id":"ledger.2","follower":"ledger","state":"dead","stream":"a/1","version":2,"type":"added","position":"2","event":"ID","keys":["a/1"],"reason":"bad event","attempts":1,"first_at":"2000-01-01T00:00:00Z","last_at":"2000-01-01T00:00:00Z","data":{"by":1},"meta":{"actor":"ann"}}`},
			{"$dead/ledger", "000001/0000000000:0000000000000000004", `{"id":"ledger.4","follower":"ledger","state":"retrying","stream":"a/2","version":1,"type":"added","position":"4","event":"ID","keys":["a/2"],"reason":"bad event","attempts":1,"first_at":"2000-01-01T00:00:00Z","last_at":"2000-01-01T00:00:00Z","next_at":"` + next + `","data":{"by":1},"meta":{"actor":"ann"}}`},
			{"$dead/ledger", "000001/0000000000:0000000000000000005", `{"id":"ledger.5","follower":"ledger","state":"dead","stream":"a/3","version":1,"type":"added","position":"5","event":"ID","keys":["a/3"],"reason":"panic: oops","stack":"STACK","attempts":1,"first_at":"2000-01-01T00:00:00Z","last_at":"2000-01-01T00:00:00Z","data":{"by":1},"meta":{"actor":"ann"}}`},
			{"$discarded/ledger", "000001/0000000000:0000000000000000003", `{"id":"ledger.3","follower":"ledger","state":"waiting","stream":"a/1","version":3,"type":"added","position":"3","event":"ID","keys":["a/1"],"reason":"waits behind an earlier event of its sequence","attempts":0,"first_at":"2000-01-01T00:00:00Z","data":{"by":1},"meta":{"actor":"ann"},"discarded_at":"2000-01-01T00:00:00Z","discarded_by":"ann","discarded_because":"a test"}`},
		} {
			d, err := s.Get(t.Context(), c.coll, c.key)
			if err != nil {
				t.Errorf("%s %s: %v", c.coll, c.key, err)
				continue
			}
			got := blank(blank(string(d.Data), `"event":"`, "ID"), `"stack":"`, "STACK")
			if got != c.want {
				t.Errorf("%s %s\n     %s\nwant %s", c.coll, c.key, got, c.want)
			}
		}
	})
}

// blank replaces the value of a JSON string that differs from run to run.
func blank(doc, before, with string) string {
	head, tail, ok := strings.Cut(doc, before)
	if !ok {
		return doc
	}
	end := 0
	for tail[end] != '"' {
		if tail[end] == '\\' {
			end++
		}
		end++
	}
	return head + before + with + tail[end:]
}

func TestStoredFormOfCheckpoints(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		for i := range 3 {
			add(t, s, fmt.Sprintf("a/%d", i), 1)
		}
		for part, cursor := range []string{"2", ""} {
			err := s.Write(t.Context(), store.Change{
				Coll: "$cursor", Key: fmt.Sprintf("ledger/1/%d-of-2", part), Data: []byte(`{"cursor":"` + cursor + `"}`),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		e, err := New(Config{Store: s, Followers: []Follower{parted(pure(nil), 3)}, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		if err := repartition(t.Context(), s, e.followers[0], 1); err != nil {
			t.Fatal(err)
		}
		var got []string
		for d, err := range s.List(t.Context(), "$cursor", "", "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d.Key+" "+string(d.Data))
		}
		var want []string
		for part := range 3 {
			want = append(want, fmt.Sprintf(`ledger/1/%d-of-3 {"cursor":"","past":[{"partitions":2,"cursors":["2",""]}]}`, part))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
	})
}

func TestStoredFormOfIntent(t *testing.T) {
	within(t, func(t *testing.T) {
		s := newShelf()
		want := intent{Generation: 3, Building: 5, Last: 5, Retired: []uint64{2, 4}, Paused: true}
		stored := `{"generation":3,"building":5,"last":5,"retired":[2,4],"paused":true}`
		if err := s.Write(t.Context(), store.Change{Coll: "$follower", Key: "ledger", Data: []byte(stored)}); err != nil {
			t.Fatal(err)
		}
		got, rev, err := loadIntent(t.Context(), s, "ledger")
		if err != nil || rev != 1 || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %d, %v", got, rev, err)
		}
		if _, _, err := changeIntent(t.Context(), s, "ledger", func(*intent) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if d, err := s.Get(t.Context(), "$follower", "ledger"); err != nil || string(d.Data) != stored {
			t.Errorf("%s, %v", d.Data, err)
		}
	})
}

// What rebuilds and versions added: the form above is still read, and written of
// a follower that has neither.
func TestStoredFormOfRebuilds(t *testing.T) {
	within(t, func(t *testing.T) {
		two := 2
		for stored, want := range map[string]intent{
			`{"generation":3,"building":5,"last":5,"former":2,"versions":{"3":1,"5":2},"asked":true,"halted":true,"begun":"2026-01-02T03:04:05.678Z","switched":"2026-01-01T00:00:00Z"}`: {
				Generation: 3, Building: 5, Last: 5, Former: 2, Versions: map[uint64]int{3: 1, 5: 2}, Asked: true, Halted: true,
				Begun: time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), Switched: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
			},
			`{"generation":3,"building":2,"last":3,"versions":{"3":2},"back":true,"declined":2}`: {
				Generation: 3, Building: 2, Last: 3, Versions: map[uint64]int{3: 2}, Back: true, Declined: &two,
			},
		} {
			s := newShelf()
			put(t, s, "$follower", "ledger", stored)
			got, _, err := changeIntent(t.Context(), s, "ledger", func(*intent) error { return nil })
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v", got, err)
			}
			if d, err := s.Get(t.Context(), "$follower", "ledger"); err != nil || string(d.Data) != stored {
				t.Errorf("%s, %v", d.Data, err)
			}
		}
		data, err := json.Marshal(nodeDoc{Node: "a", Beat: 1, Followers: map[string]int{"ledger": 1}, Versions: map[string]int{"ledger": 2}})
		if want := `{"node":"a","started":"0001-01-01T00:00:00Z","beat":1,"followers":{"ledger":1},"versions":{"ledger":2}}`; err != nil || string(data) != want {
			t.Errorf("%s, %v", data, err)
		}
	})
}

func TestLetterIDs(t *testing.T) {
	for _, c := range []struct {
		follower string
		p        store.Position
		id       string
	}{
		{"ledger", store.Position{Seq: 17}, "ledger.17"},
		{"a.b", store.Position{Seq: 1}, "a.b.1"},
		{"x", store.Position{Shard: 3, Seq: 9}, "x.3:9"},
	} {
		if got := letterID(c.follower, c.p); got != c.id {
			t.Errorf("%q, want %q", got, c.id)
		}
		if f, p, err := parseLetterID(c.id); f != c.follower || p != c.p || err != nil {
			t.Errorf("%q: %q %v %v", c.id, f, p, err)
		}
	}
}
