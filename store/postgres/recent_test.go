package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// Two programs append to the same streams, and each follows the log: partly by
// what it remembers having appended, partly by asking. Both see all of it, in
// order, and nothing twice.
func TestTailOfSeveralPrograms(t *testing.T) {
	dsn := server.DSN(server.Schema())
	programs := []*postgres.Store{open(t, dsn), open(t, dsn)}
	const rounds, streams = 150, 5
	var all, writing sync.WaitGroup
	for p, s := range programs {
		writing.Go(func() {
			for i := range rounds {
				for range i % (2 + p) { // several of one program, then some of the other
					if _, err := s.Append(t.Context(), write(fmt.Sprintf("a/%d", i%streams), store.Any, events(1+i%2)...)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	ended := make(chan store.Cursor, len(programs))
	seen := make([][]store.Record, len(programs))
	for p, s := range programs {
		all.Go(func() { seen[p] = follow(t, s, ended) })
	}
	writing.Wait()
	for range programs {
		ended <- must[store.Cursor](t)(programs[0].Head(t.Context()))
	}
	all.Wait()
	want := logOf(t, programs[0])
	for p := range programs {
		if len(seen[p]) != len(want) {
			t.Fatalf("program %d has seen %d events, there are %d", p, len(seen[p]), len(want))
		}
		for i, rec := range seen[p] {
			if fmt.Sprint(rec) != fmt.Sprint(want[i]) {
				t.Fatalf("program %d has seen, in place %d,\n%+v, and that is\n%+v", p, i, rec, want[i])
			}
		}
	}
}

// follow reads the log as a follower does, up to an end that is told meanwhile.
func follow(t *testing.T, s *postgres.Store, ended <-chan store.Cursor) (seen []store.Record) {
	at, end := store.Start, store.Start
	for end == store.Start || !at.CoversAll(end) {
		if end == store.Start { // it is told once: the next one is for another follower
			select {
			case end = <-ended:
			default:
			}
		}
		head, recs, err := s.Tail(t.Context(), at, store.Filter{Limit: 7})
		if err != nil {
			t.Error(err)
			return seen
		}
		n := 0
		for rec, err := range recs {
			if err != nil {
				t.Error(err)
				return seen
			}
			seen, at, n = append(seen, rec), at.Advance(rec.Position), n+1
		}
		if n < 7 {
			at = at.Join(head)
			store.Wait(t.Context(), s, at, 10*time.Millisecond)
		}
	}
	return seen
}

// tail reads what a follower would that has come to a position.
func tailOf(t *testing.T, s *postgres.Store, after uint64) (end store.Cursor, got string) {
	t.Helper()
	end, recs, err := s.Tail(t.Context(), store.CursorAt(store.Position{Seq: after}), store.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range recs {
		if err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintf("%s@%d %s ", rec.Stream, rec.Version, rec.Data)
	}
	return end, got
}

// soon waits until a follower reads something, and goes on doing so.
func soon(t *testing.T, s *postgres.Store, after uint64, end, want string) {
	t.Helper()
	var gotEnd store.Cursor
	var got string
	right := 0
	for began := time.Now(); right < 3 && time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		right++
		if gotEnd, got = tailOf(t, s, after); string(gotEnd) != end || got != want {
			right = 0
		}
	}
	if right == 3 {
		return
	}
	t.Errorf("after %d it reads %q up to %s, want %q up to %s", after, got, gotEnd, want, end)
}

// What a program remembers does not outlive what others do to the log: give
// streams up, or replace the server by one that lacks its end.
func TestTailForgets(t *testing.T) {
	srv := run(t)
	a, b, admin := open(t, srv.DSN("")), open(t, srv.DSN("")), session(t, srv)
	one := func(stream, data string) {
		must[[]store.Written](t)(a.Append(t.Context(), write(stream, store.Any, event(data))))
	}
	giveUp := func(s *postgres.Store, stream string) {
		if n := must[[]uint64](t)(s.Compact(t.Context(), wholeOf(t, s, stream))); n[0] != 1 {
			t.Fatalf("%d events were removed", n[0])
		}
	}
	one("a/1", "1")
	one("$c/1", "2")
	one("$c/2", "3")
	if _, got := tailOf(t, a, 0); got != "a/1@1 1 $c/1@1 2 $c/2@1 3 " {
		t.Errorf("it reads %s", got)
	}
	giveUp(a, "$c/1")
	if _, got := tailOf(t, a, 0); got != "a/1@1 1 $c/2@1 3 " {
		t.Errorf("having given a stream up itself it reads %s", got)
	}
	one("a/1", "4")
	one("$c/3", "5")
	one("a/1", "6")
	giveUp(b, "$c/3")
	soon(t, a, 3, "6", "a/1@2 4 a/1@3 6 ")

	one("a/1", "7")
	one("a/1", "8")
	must[[]store.Written](t)(b.Append(t.Context(), write("b/1", store.None, event("9"))))
	if err := a.Wait(t.Context(), store.CursorAt(store.Position{Seq: 8})); err != nil {
		t.Fatal(err)
	}
	if _, got := tailOf(t, a, 7); got != "a/1@5 8 b/1@1 9 " {
		t.Errorf("told that there is more, it reads %s", got)
	}
	one("a/1", "10")
	exec(t, admin, "DELETE FROM deed.events WHERE pos = 10", "UPDATE deed.streams SET version = 5 WHERE name = 'a/1'", "UPDATE deed.head SET pos = 9")
	soon(t, a, 8, "9", "b/1@1 9 ")
}
