package postgres_test

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

var cuts = flag.Int("cuts", 30, "places in each direction at which a connection is cut")

// disturbed is a store behind a proxy, whose other connections are silent.
func disturbed(t *testing.T, schema string, o postgres.Options) (*postgres.Store, *proxy) {
	t.Helper()
	p := startProxy(t, fmt.Sprintf("127.0.0.1:%d", server.Port))
	o.Dial = p.dial
	return openWith(t, server.DSN(schema)+"&application_name=disturbed", &o), p
}

// A cutting is one way to break a call: after so many bytes up or down.
type cutting struct{ up, down int }

// places spreads cuts over the bytes of a call, with more at the ends of each
// direction, where commits and their answers are.
func places(up, down, n int) (all []cutting) {
	for i := range n {
		all = append(all, cutting{up * i / n, -1}, cutting{-1, down * i / n})
	}
	for i := range 12 {
		all = append(all, cutting{max(up-i, 0), -1}, cutting{-1, max(down-i, 0)})
	}
	return all
}

// The connection is cut after so many bytes of an append, in either direction.
// What the store answers is true, and asking again settles it. A warm store knows
// the end of the log and needs one trip; a cold one has to look first.
func TestLostAnswersOfAppends(t *testing.T) {
	for _, kind := range []string{"warm", "cold"} {
		t.Run(kind, func(t *testing.T) {
			schema := server.Schema()
			s, p := disturbed(t, schema, *quick)
			other := openWith(t, server.DSN(schema), quick) // sees what happened, and makes the first one look
			prepare := func() uint64 {
				e := event(`{}`)
				eventually(t, 5*time.Second, "the store works", func() bool {
					_, err := s.Append(t.Context(), write("a/warm", store.Any, e))
					return err == nil
				})
				if kind == "cold" {
					must[[]store.Written](t)(other.Append(t.Context(), write("a/cold", store.Any, event(`{}`))))
				}
				return uint64(len(must[[]store.Record](t)(collect(other.Read(t.Context(), "a/1", store.Range{})))))
			}
			one := func(n int) []store.Write {
				return []store.Write{write("a/1", store.Exactly(uint64(n)), events(2)...), write(fmt.Sprintf("a/new-%s-%d", kind, n), store.None, event(`{}`))}
			}
			for range 2 { // the first describes the statements
				v := prepare()
				p.arm(-1, -1)
				must[[]store.Written](t)(s.Append(t.Context(), one(int(v))...))
			}
			up, down, _ := p.arm(-1, -1)
			count := map[string]int{}
			for _, c := range places(up, down, *cuts) {
				v := prepare()
				p.arm(c.up, c.down)
				ws := one(int(v))
				_, err := s.Append(t.Context(), ws...)
				p.arm(-1, -1)
				count[settle(t, s, other, ws, c, err)]++
			}
			t.Logf("%d bytes up, %d down: %v", up, down, count)
			if count["happened"] == 0 || count["did not"] == 0 || count["was sure"] == 0 {
				t.Errorf("these cuts prove nothing")
			}
		})
	}
}

// settle checks what came of an append whose answer was err, and asks again. It
// returns which case it was.
func settle(t *testing.T, s, other *postgres.Store, ws []store.Write, c cutting, err error) string {
	t.Helper()
	if !honest(err) {
		t.Fatalf("cut at %v: %v", c, err)
	}
	// With an expectation that does not hold, the other one waits for whoever
	// has the head, and changes nothing.
	eventually(t, 10*time.Second, "its transaction ends", func() bool {
		_, e := other.Append(t.Context(), store.Write{Stream: ws[0].Stream, Expect: store.Exactly(1 << 40)})
		_, conflict := errors.AsType[*store.ConflictError](e)
		return conflict
	})
	before := len(must[[]store.Record](t)(collect(other.Read(t.Context(), ws[1].Stream, store.Range{}))))
	switch {
	case err == nil && before != 1:
		t.Fatalf("cut at %v: acknowledged, and not there", c)
	case errors.Is(err, store.ErrUnavailable) && before != 0:
		t.Fatalf("cut at %v: %v, but it has happened", c, err)
	}
	var again []store.Written
	eventually(t, 10*time.Second, "asking again is answered", func() bool {
		var e error
		again, e = s.Append(t.Context(), ws...)
		if !honest(e) {
			t.Fatalf("cut at %v (%v), asked again: %v", c, err, e)
		}
		return e == nil
	})
	for i, w := range ws {
		recs := must[[]store.Record](t)(collect(other.Read(t.Context(), w.Stream, store.Range{From: uint64(w.Expect) + 1})))
		if want := uint64(w.Expect) + uint64(len(w.Events)); again[i].Version != want || len(recs) != len(w.Events) {
			t.Fatalf("cut at %v (%v): version %d, %d events; want %d and %d", c, err, again[i].Version, len(recs), want, len(w.Events))
		}
		for j, rec := range recs {
			if rec.ID != w.Events[j].ID {
				t.Fatalf("cut at %v: another event is in its place", c)
			}
		}
	}
	switch {
	case err == nil:
		return "acknowledged"
	case errors.Is(err, store.ErrUnavailable):
		return "was sure"
	case before == 1:
		return "happened"
	}
	return "did not"
}

// The same for documents, which have revisions instead of ids.
func TestLostAnswersOfDocuments(t *testing.T) {
	schema := server.Schema()
	s, p := disturbed(t, schema, *quick)
	other := openWith(t, server.DSN(schema), quick)
	prepare := func() uint64 {
		eventually(t, 5*time.Second, "the store works", func() bool {
			return s.Write(t.Context(), store.Change{Coll: "c", Key: "a", Rev: store.AnyRev, Data: []byte(`{}`)}) == nil
		})
		return must[store.Doc](t)(other.Get(t.Context(), "c", "a")).Rev
	}
	changes := func(rev uint64) []store.Change {
		return []store.Change{{Coll: "c", Key: "a", Rev: rev, Data: []byte(`{"a":1}`)}, {Coll: "c", Key: fmt.Sprint("new-", rev), Data: []byte(`{}`)}}
	}
	for range 2 {
		rev := prepare()
		p.arm(-1, -1)
		if err := s.Write(t.Context(), changes(rev)...); err != nil {
			t.Fatal(err)
		}
	}
	up, down, _ := p.arm(-1, -1)
	count := map[string]int{}
	for _, c := range places(up, down, *cuts/2) {
		rev := prepare()
		p.arm(c.up, c.down)
		err := s.Write(t.Context(), changes(rev)...)
		p.arm(-1, -1)
		if !honest(err) {
			t.Fatalf("cut at %v: %v", c, err)
		}
		free(t, other)
		a, err1 := other.Get(t.Context(), "c", "a")
		_, err2 := other.Get(t.Context(), "c", fmt.Sprint("new-", rev))
		happened := a.Rev == rev+1
		if err1 != nil || happened != (err2 == nil) {
			t.Fatalf("cut at %v: one of two documents was written: %v, %v", c, a, err2)
		}
		if err == nil && !happened || errors.Is(err, store.ErrUnavailable) && happened {
			t.Fatalf("cut at %v: %v, but happened is %v", c, err, happened)
		}
		count[fmt.Sprintf("%v/%v", errors.Is(err, store.ErrUnknown), happened)]++
	}
	t.Logf("%d bytes up, %d down: unknown/happened %v", up, down, count)
	if count["true/true"] == 0 || count["true/false"] == 0 {
		t.Errorf("these cuts prove nothing")
	}
}

// free waits until no transaction of the disturbed store is left.
func free(t *testing.T, s *postgres.Store) {
	t.Helper()
	eventually(t, 10*time.Second, "its transaction ends", func() bool {
		_, conflict := errors.AsType[*store.ConflictError](s.Write(t.Context(), store.Change{Coll: "c", Key: "a", Rev: 1 << 40, Data: []byte(`{}`)}))
		return conflict
	})
}

// A program that is frozen or cut off while it has the head holds up others only
// for as long as it may take itself.
func TestFrozenInTheMiddle(t *testing.T) {
	schema := server.Schema()
	s, p := disturbed(t, schema, postgres.Options{Timeout: time.Second, LockTimeout: 400 * time.Millisecond})
	other := openWith(t, server.DSN(schema), quick)
	told := toldBeforeItWrites(t, s, other, p)
	must[[]store.Written](t)(other.Append(t.Context(), write("a/2", store.Any, event(`{}`))))
	p.mu.Lock()
	p.stall = true
	p.mu.Unlock()
	p.arm(-1, told*3/4) // the answer to its question is lost; it never writes
	_, err := s.Append(t.Context(), write("a/1", store.Any, event(`{}`)))
	if err == nil || !honest(err) {
		t.Fatalf("frozen in its append: %v", err)
	}
	eventually(t, 5*time.Second, "others append", func() bool {
		_, err := other.Append(t.Context(), write("a/2", store.Any, event(`{}`)))
		return err == nil
	})
	p.mu.Lock()
	p.stall = false // or closing would wait for answers
	p.mu.Unlock()
	p.cut()
}

// toldBeforeItWrites has two stores append by turns, so that the disturbed one has
// to look first, and returns how many bytes it is told.
func toldBeforeItWrites(t *testing.T, s, other *postgres.Store, p *proxy) int {
	turn := func() int {
		must[[]store.Written](t)(other.Append(t.Context(), write("a/2", store.Any, event(`{}`))))
		p.arm(-1, -1)
		must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Any, event(`{}`))))
		_, down, _ := p.arm(-1, -1)
		return down
	}
	told := turn()
	for range 9 { // some connect besides
		told = min(told, turn())
	}
	return told
}

// A program that was held up in the middle of a transaction, for so long that the
// server has taken it back, begins it again: nobody who asked need know.
func TestHeldUpInTheMiddle(t *testing.T) {
	schema := server.Schema()
	s, p := disturbed(t, schema, postgres.Options{Timeout: 10 * time.Second, LockTimeout: 300 * time.Millisecond})
	other := openWith(t, server.DSN(schema), quick)
	told := toldBeforeItWrites(t, s, other, p)
	before := must[[]store.Written](t)(other.Append(t.Context(), write("a/2", store.Any, event(`{}`))))
	p.mu.Lock()
	p.hold = time.Second
	p.mu.Unlock()
	p.arm(-1, told*3/4) // the answer to its question comes late
	written, err := s.Append(t.Context(), write("a/1", store.Any, event(`{}`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, down, _ := p.arm(-1, -1); down < told*3/2 {
		t.Errorf("it was told %d bytes, of which %d are usual: this proves nothing", down, told)
	}
	if written[0].Position.Seq != before[0].Position.Seq+1 {
		t.Errorf("recorded at %v, the event before at %v", written[0].Position, before[0].Position)
	}
}
