package deed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// watched is a store of which a test sees what a compaction does, before and
// after, and may have it fail.
type watched struct {
	*mem.Store
	many bool                    // nodes use it
	at   func(what string) error // "announce", "compact", "place" and "record", each with "before " or "after "
}

func (s *watched) Shared() bool { return s.many }

func (s *watched) do(what string, f func() error) error {
	if what == "" { // others than the compaction do not look at at, which the test may be setting
		return f()
	}
	at := s.at
	if at == nil {
		return f()
	}
	if err := at("before " + what); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return at("after " + what)
}

func (s *watched) Append(ctx context.Context, writes ...store.Write) (out []store.Written, err error) {
	err = s.do(compactionWrites(writes), func() error { out, err = s.Store.Append(ctx, writes...); return err })
	return out, err
}

func (s *watched) Write(ctx context.Context, changes ...store.Change) error {
	return s.do(compactionChanges(changes), func() error { return s.Store.Write(ctx, changes...) })
}

func (s *watched) Compact(ctx context.Context, streams ...store.Whole) (out []uint64, err error) {
	what := ""
	if len(streams) > 0 {
		what = "compact"
	}
	err = s.do(what, func() error { out, err = s.Store.Compact(ctx, streams...); return err })
	return out, err
}

// compactionWrites is what an append is to a compaction; "" = nothing.
func compactionWrites(writes []store.Write) string {
	switch {
	case slices.ContainsFunc(writes, func(w store.Write) bool { return store.Category(w.Stream) == "$compaction" }):
		return "announce"
	case writes[0].Stream == "$audit/compaction":
		return "record"
	}
	return ""
}

func compactionChanges(changes []store.Change) string {
	if changes[0].Coll == "$compaction" {
		return "place"
	}
	return ""
}

// once calls f the nth time that something happens.
func once(what string, n int, f func() error) func(string) error {
	var mu sync.Mutex
	return func(is string) error {
		mu.Lock()
		if is == what {
			n--
		}
		now := is == what && n == 0
		mu.Unlock()
		if now {
			return f()
		}
		return nil
	}
}

// watching is an attic on a store that is watched.
func watching(t *testing.T, name string, f func(p *attic, s *watched)) {
	watchingNodes(t, name, false, f)
}

// watchingNodes is an attic on a store that other nodes may use, too.
func watchingNodes(t *testing.T, name string, many bool, f func(p *attic, s *watched)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &watched{Store: mem.New(), many: many}
			f(newAttic(t, s, s.Store), s)
		})
	})
}

// fill records commands by the hundred: some that were done at once, some that
// were rejected, and some that were stored first, whose records are apart.
func fill(p *attic, n int) {
	p.Helper()
	each := func(f func(id string) store.Write) {
		for from := 0; from < n; from += 100 {
			var writes []store.Write
			for i := range 100 {
				writes = append(writes, f(fmt.Sprint(from+i)))
			}
			if _, err := p.store.Append(p.Context(), writes...); err != nil {
				p.Fatal(err)
			}
		}
	}
	record := func(stream string, version uint64, typ, more string) store.Write {
		e := store.Event{Type: typ, Data: fmt.Appendf(nil, `{"command":"vault.take","stream":"vault/a","hash":"h"%s}`, more), Meta: []byte(`{"actor":"ann"}`)}
		copy(e.ID[:], fmt.Sprintf("%s%d%16s", stream[9:], version, typ))
		return store.Write{Stream: stream, Expect: store.Exactly(version - 1), Events: []store.Event{e}}
	}
	each(func(id string) store.Write { return record("$command/s"+id, 1, "received", `,"body":{}`) })
	each(func(id string) store.Write { return record("$command/d"+id, 1, "accepted", `,"version":1`) })
	each(func(id string) store.Write {
		return record("$command/r"+id, 1, "rejected", `,"code":"no","reason":"no"`)
	})
	each(func(id string) store.Write { return record("$command/s"+id, 2, "completed", "") })
}

// A compaction that fails between any two of its steps leaves nothing half done
// that the next one does not put right, in another process.
func TestCompactionIsTakenUp(t *testing.T) {
	const many = 400 // batches of 500 streams: three
	for _, what := range []string{"announce", "compact", "place", "record"} {
		for _, when := range []string{"before ", "after "} {
			for n := 1; n <= 2 && (n == 1 || what != "record"); n++ {
				for _, kind := range []error{store.ErrUnavailable, store.ErrUnknown} {
					watching(t, fmt.Sprint(when, what, " ", n, " ", kind), func(p *attic, s *watched) {
						p.stop()
						fill(p, many)
						p.begin()
						p.later(month + time.Hour)
						s.at = once(when+what, n, func() error { return kind })
						_, err := p.rt.Compact(p.Context(), deed.Compaction{OlderThan: month})
						// An answer that is lost is asked for again.
						p.want("it failed", errors.Is(err, kind), kind == store.ErrUnavailable || what == "place")
						s.at = nil
						p.stop()
						p.begin()
						out := p.compact()
						p.want("done", fmt.Sprint(out.Done, out.WaitsFor), "true")
						p.want("what stays", p.technical(), []string(nil))
						for _, view := range []string{"commands", "command-errors"} {
							p.want(view, p.documents(view), []string(nil))
						}
						p.sameAnew()
						said := uint64(0)
						for rec := range p.store.Read(p.Context(), "$audit/compaction", store.Range{}) {
							d := struct{ Records uint64 }{}
							unmarshal(p.T, rec.Data, &d)
							said += d.Records
						}
						// What was removed and not noted is said by nobody: one batch at most.
						if said > 4*many && when+what != "after record" || said < 4*many-1000 || said < 4*many && what != "compact" && what != "place" {
							p.Errorf("%d records are said to be given up, %d were", said, 4*many)
						}
					})
				}
			}
		}
	}
}

// Whatever happens between two steps of a compaction, nothing goes that is
// needed again, and views show what there is.
func TestCompactionIsRaced(t *testing.T) {
	watching(t, "a stream moves on", func(p *attic, s *watched) {
		p.want("issue", p.issue("ann", "i", "t", 1), nil)
		p.later(month + time.Hour)
		s.at = once("before compact", 1, func() error { return p.issue("ann", "j", "t", 1) }) // the same again, after the window
		p.want("given up", p.compact().Streams, map[string]uint64{"$command": 1, "$quota": 1})
		p.want("what stays", p.technical(), []string{"$command/j 1", "$quota/ticket.issue 1", "$repeat 2"})
	})
	for _, when := range []string{"before announce", "before compact", "after compact"} {
		for _, how := range []string{"", " and was killed", " long ago"} {
			watchingNodes(t, "another node has done it"+how+", "+when, true, func(p *attic, s *watched) {
				p.want("rejected", p.ask("no", "a", take{9}) != nil, true)
				p.want("plain", p.ask("k", "a", drop{1}), nil)
				p.later(month + time.Hour)
				other, stop := runWith(p.T, s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults, p.tickets, p.def}}}, Now: p.now})
				defer stop()
				s.at = once(when, 1, func() error {
					s.at = nil
					if how == " and was killed" {
						s.at = once("before record", 1, func() error { return store.ErrUnavailable })
					}
					_, err := other.Compact(p.Context(), deed.Compaction{OlderThan: month})
					p.want("the other one was killed", err != nil, how == " and was killed" && when != "after compact") // else it had nothing to say
					if how == " long ago" {                                                                             // so that its announcements are gone, too
						p.later(month + time.Hour)
						_, err = other.Compact(p.Context(), deed.Compaction{OlderThan: month})
						p.want("the other one", err, nil)
					}
					s.at = nil
					p.want("asked again, rejected", p.ask("no", "a", take{9}) != nil, true)
					p.want("asked again, done again", p.ask("k", "a", drop{1}), nil)
					return nil
				})
				_, err := p.rt.Compact(p.Context(), deed.Compaction{OlderThan: month})
				p.want("this one", errors.Is(err, deed.ErrCompacting), true)
				p.want("what stays", p.technical(), []string{"$command/k 1", "$command/no 1"})
				p.want("documents", p.documents("commands"), []string{"no rejectedtoo_few"})
				p.sameAnew()
				p.want("again", fmt.Sprint(p.compact().Records), "0")
			})
		}
	}
	watching(t, "a run is going on", func(p *attic, s *watched) {
		p.want("plain", p.ask("k", "a", drop{1}), nil)
		p.later(month + time.Hour)
		s.at = once("before compact", 1, func() error {
			_, err := p.rt.Compact(p.Context(), deed.Compaction{OlderThan: month})
			p.want("another run", errors.Is(err, deed.ErrCompacting), true)
			_, err = p.rt.Compact(p.Context(), deed.Compaction{OlderThan: month, DryRun: true})
			p.want("a dry run", err, nil)
			return nil
		})
		p.want("given up", p.compact().Records, 1)
	})
	watching(t, "a view is built anew meanwhile", func(p *attic, s *watched) {
		p.stop()
		fill(p, 600)
		p.begin()
		p.later(month + time.Hour)
		slow := &slowly{watched: s, began: make(chan struct{}), goOn: make(chan struct{})}
		p.stop()
		p.store = slow
		p.begin()
		announced := false // the first batch is of commands that were done at once, which no view has
		s.at = func(what string) error {
			switch {
			case what == "before announce": // nobody knew of the new documents when it was decided what may go
				announced = true
				p.want("rebuild", p.rt.Followers().Rebuild(p.Context(), "commands"), nil)
				<-slow.began // it has read the beginnings of commands whose ends it will not find
			case what == "after compact" && announced:
				close(slow.goOn)
				s.at = nil
			}
			return nil
		}
		p.compact()
		for generation(p.T, p.rt, "commands") < 2 {
			time.Sleep(time.Second)
		}
		p.settled()
		p.compact() // the rest, which had to wait for the rebuild
		p.want("what stays", p.technical(), []string(nil))
		p.want("documents", p.documents("commands"), []string(nil))
		p.sameAnew()
	})
	watching(t, "a handler is new", func(p *attic, s *watched) {
		p.stop()
		fill(p, 100)
		p.begin()
		p.later(month + time.Hour)
		began, gone := make(chan struct{}), make(chan struct{})
		var seen []error
		late := deed.EventHandler{Name: "late", On: []deed.Reaction{deed.HandleCommand(func(ctx context.Context, _ *deed.Tx, e deed.CommandEvent) error {
			if len(seen) == 0 {
				close(began)
				<-gone
			}
			life, err := e.Life(ctx)
			if seen = append(seen, err); err == nil && life.Error.State != deed.CommandRejected {
				p.Errorf("%+v", life)
			}
			return err
		}, "rejected")}}
		s.at = once("before announce", 1, func() error {
			_, stop := runWith(p.T, s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{late, vaults, p.tickets, p.def}}}, Now: p.now, Logger: slog.New(slog.DiscardHandler)})
			p.Cleanup(stop)
			<-began
			return nil
		})
		p.compact()
		close(gone)
		time.Sleep(time.Minute)
		if len(seen) == 0 || seen[0] == nil {
			p.Errorf("it saw %v", seen)
		}
		for d := range s.List(p.Context(), "$dead/late", "", "") {
			p.Errorf("dead letter %s", d.Data)
		}
	})
}

// slowly is a store that lets the first batch of a rebuild wait.
type slowly struct {
	*watched
	once        sync.Once
	began, goOn chan struct{}
}

func (s *slowly) Write(ctx context.Context, changes ...store.Change) error {
	if slices.ContainsFunc(changes, func(c store.Change) bool { return strings.HasPrefix(c.Coll, "view/commands/2") }) {
		s.once.Do(func() { close(s.began); <-s.goOn })
	}
	return s.watched.Write(ctx, changes...)
}
