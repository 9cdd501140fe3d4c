package deed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// ticket is an entity whose command has rules that look back.
type (
	ticket struct{ Issued int }
	issued struct{ N int }
	issue  struct{ N int }
)

func (e issued) Apply(t *ticket) { t.Issued += e.N }
func (c issue) Decide(ticket) ([]deed.Event[ticket], error) {
	return []deed.Event[ticket]{issued(c)}, nil
}
func tickets(rules deed.Rules) deed.Aggregate[ticket] {
	return deed.Aggregate[ticket]{
		Name:     "ticket",
		Events:   map[string]deed.Event[ticket]{"issued": issued{}},
		Commands: map[string]deed.Command[ticket]{"issue": deed.Ruled(issue{}, rules)},
	}
}

// attic is a stage for tests of what is given up: a trip whose clock can be put
// forward.
type attic struct {
	*trip
	tickets deed.Aggregate[ticket]
	ahead   *atomic.Int64
}

const month = 30 * 24 * time.Hour

// newAttic runs a program on a store whose clock is the attic's.
func newAttic(t *testing.T, s store.Store, clock *mem.Store, more ...deed.Part) *attic {
	t.Helper()
	p := &attic{ahead: &atomic.Int64{}, tickets: tickets(deed.Rules{Quota: deed.Quota{Limit: 2}, Window: time.Hour, Roles: []string{"clerk"}})}
	p.trip = &trip{T: t, store: s, fail: map[string]error{}, times: map[string]int{}}
	if clock != nil {
		clock.Now = p.now
	}
	p.def = p.moves()
	p.begin(more...)
	return p
}

func (p *attic) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

// begin runs the program.
func (p *attic) begin(more ...deed.Part) {
	p.Helper()
	p.rt, p.stop = runWith(p.T, p.store, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: append(more, vaults, p.tickets, p.def)}}, Now: p.now})
	p.Cleanup(func() { p.stop() })
	stop, ended := p.stop, atomic.Bool{}
	p.stop = func() {
		if !ended.Swap(true) {
			stop()
		}
	}
}

// later puts the clock forward, when everybody has read everything and said so.
func (p *attic) later(d time.Duration) {
	p.Helper()
	p.settled()
	time.Sleep(2 * time.Second)
	p.ahead.Add(int64(d))
}

// compact gives up what is older than a month.
func (p *attic) compact() deed.Compacted {
	p.Helper()
	out, err := p.rt.Compact(deed.With(p.Context(), deed.Call{Actor: "ann"}), deed.Compaction{OlderThan: month})
	if err != nil {
		p.Fatal(err)
	}
	return out
}

// technical are the streams of commands and their rules, with how many records
// each has.
func (p *attic) technical() []string {
	p.Helper()
	all := map[string]int{}
	for rec, err := range p.store.ReadAll(p.Context(), store.Start, store.Filter{Categories: []string{"$command", "$quota", "$repeat", "$poison"}}) {
		if err != nil {
			p.Fatal(err)
		}
		name := rec.Stream
		if category, id, _ := strings.Cut(name, "/"); category != "$command" {
			name = category + "/" + strings.Split(id, "/")[0]
			if category != "$quota" {
				name = category
			}
		} else if len(id) == 36 { // one that has made its own id
			m := struct{ Causation string }{}
			unmarshal(p.T, rec.Meta, &m)
			name = "asked by " + m.Causation
		}
		all[name]++
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fmt.Sprintf("%s %d", name, all[name]))
	}
	return out
}

// documents are the keys of a view's documents, and their states.
func (p *attic) documents(view string) []string {
	p.Helper()
	p.settled()
	rows, err := p.rt.Documents(p.Context(), p.rt, view, store.Query{})
	if err != nil {
		p.Fatal(err)
	}
	var out []string
	for _, row := range rows {
		d := struct{ State, Code string }{}
		unmarshal(p.T, row.Value, &d)
		if len(row.Key) == 36 {
			row.Key = "made"
		}
		out = append(out, strings.TrimSpace(row.Key+" "+d.State+d.Code))
	}
	slices.Sort(out)
	return out
}

// sameAnew checks that the views of commands are what folding the log anew makes
// of them.
func (p *attic) sameAnew(more ...string) {
	p.Helper()
	for _, view := range append(more, "commands", "command-errors", "poison") {
		before, was := fmt.Sprint(p.rawDocuments(view)), generation(p.T, p.rt, view)
		if err := p.rt.Followers().Rebuild(p.Context(), view); err != nil {
			p.Fatal(err)
		}
		for generation(p.T, p.rt, view) == was {
			time.Sleep(10 * time.Millisecond)
		}
		p.want("view "+view+" folded anew", p.rawDocuments(view), before)
	}
}

// generation is that of the documents that readers of a view see.
func generation(t *testing.T, rt *deed.Runtime, view string) uint64 {
	t.Helper()
	for _, f := range rt.Followers().List() {
		if f.Name == view {
			return f.Generation
		}
	}
	t.Fatalf("there is no follower %s", view)
	return 0
}

func (p *attic) rawDocuments(view string) (out []string) {
	p.Helper()
	p.settled()
	rows, err := p.rt.Documents(p.Context(), p.rt, view, store.Query{})
	if err != nil {
		p.Fatal(err)
	}
	for _, row := range rows {
		out = append(out, row.Key+" "+string(row.Value))
	}
	return out
}

func (p *attic) issue(actor, id, entity string, n int) error {
	_, err := p.tickets.Execute(deed.With(p.Context(), deed.Call{ID: id, Actor: actor, Restricted: true, Roles: []string{"clerk"}}), p.rt, entity, issue{n})
	return err
}

func (p *attic) ask(id, vault string, cmd deed.Command[jar]) error {
	_, err := vaults.Execute(deed.With(p.Context(), deed.Call{ID: id, Actor: "ann"}), p.rt, vault, cmd)
	return err
}

func inAttic(t *testing.T, name string, f func(p *attic)) {
	t.Run(name, func(t *testing.T) { inAtticWith(t, f) })
}

// inAtticWith is for programs with more parts.
func inAtticWith(t *testing.T, f func(p *attic), more ...deed.Part) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		f(newAttic(t, s, s, more...))
	})
}

var errLine = errors.New("the line is dead")

// What is given up is what is old, over, and needed by nobody; all of it, and
// nothing else. Views have no documents of it any more.
func TestWhatIsGivenUp(t *testing.T) {
	ab := move{From: "a", To: []string{"b", "c"}, N: 10}
	inAttic(t, "everything", func(p *attic) {
		for _, v := range []string{"a", "b", "c"} {
			p.want("plain", p.ask("plain-"+v, v, drop{100}), nil)
		}
		p.want("rejected", p.ask("rejected", "a", take{1000}) != nil, true)
		later := func(id string, n int) {
			_, err := vaults.Submit(deed.With(p.Context(), deed.Call{ID: id}), p.rt, "a", laterDrop{n})
			p.want("submit", err, nil)
			p.wait(id)
		}
		later("stored", 1)
		later("stored-rejected", 5000)
		p.want("done", p.wait(p.submit("done", ab)).State, deed.CommandCompleted)
		p.want("invalid", p.wait(p.submit("invalid", move{From: "a", To: []string{"x"}, N: 1})).State, deed.CommandInvalid)
		p.fail["announce"] = errLine
		p.want("cancel", p.wait(p.submit("cancelled", ab)).State, deed.CommandFailed)
		p.want("cancel", p.rt.Commands().Cancel(p.Context(), "cancelled", ""), nil)
		for p.wait("cancelled").State != deed.CommandCancelled {
			time.Sleep(time.Second)
		}
		p.want("failed", p.wait(p.submit("failed", ab)).State, deed.CommandFailed)
		delete(p.fail, "announce")
		p.want("issued", errors.Join(p.issue("ann", "i1", "t", 1), p.issue("ann", "i2", "t", 2)), nil)
		p.want("over the quota", p.issue("ann", "i3", "t", 3) != nil, true)
		_, err := p.tickets.Execute(deed.With(p.Context(), deed.Call{Restricted: true}), p.rt, "t", issue{1})
		p.want("forbidden", err != nil, true)
		foreign := store.Write{Stream: "$quota/gone.command/x/0", Events: []store.Event{{ID: store.ID{9}, Type: "used", Data: []byte("{}")}}}
		_, err = p.store.Append(p.Context(), foreign)
		p.want("foreign", err, nil)

		p.want("too young", p.compact().Records, 0)
		p.later(month + time.Hour)
		p.want("young", errors.Join(p.ask("young", "a", drop{1}), p.issue("bob", "i4", "t", 1)), nil)
		p.settled()
		time.Sleep(2 * time.Second)
		before := p.coins()

		dry, err := p.rt.Compact(p.Context(), deed.Compaction{OlderThan: month, DryRun: true})
		p.want("dry run", err, nil)
		out := p.compact()
		p.want("dry run says", fmt.Sprint(dry.Streams, dry.Records, dry.Kept, dry.Done), fmt.Sprint(out.Streams, out.Records, out.Kept, out.Done))
		p.want("given up", out.Streams, map[string]uint64{"$command": 15, "$quota": 1, "$repeat": 2, "$poison": 2})
		p.want("kept", fmt.Sprint(out.Kept, out.Done)+out.WaitsFor, "2 true")
		p.want("what stays", strings.Join(p.technical(), ", "),
			"$command/failed 13, $command/i4 1, $command/invalid 2, $command/young 1, $quota/gone.command 1, $quota/ticket.issue 1, $repeat 1, asked by failed 2")
		p.want("commands", p.documents("commands"), []string{"failed failedfailed", "invalid invalidinvalid"})
		p.want("errors", p.documents("command-errors"), []string{"failed failedfailed", "invalid invalidinvalid"})
		p.want("poison", p.documents("poison"), []string(nil))
		p.want("coins", p.coins(), before)
		_, err = p.rt.Commands().Get(p.Context(), "stored")
		p.want("a command that was given up", errors.Is(err, deed.ErrNotFound), true)
		p.sameAnew()
		p.want("again", fmt.Sprint(p.compact().Records), "0")

		// What was in the way is dealt with.
		p.want("resume", p.rt.Commands().Resume(p.Context(), "failed"), nil)
		p.want("state", p.wait("failed").State, deed.CommandCompleted)
		p.want("what steps had done is not done again", p.coins(), before)
		p.want("correct", p.rt.Commands().Correct(p.Context(), "invalid", []byte(`{"from":"a","to":["b"],"n":1}`)), nil)
		for p.wait("invalid").State != deed.CommandCompleted {
			time.Sleep(time.Second)
		}
		p.want("what the failed one had asked", p.compact().Streams, map[string]uint64{"$command": 2})
		p.later(month + time.Hour)
		p.want("given up", p.compact().Streams, map[string]uint64{"$command": 6, "$quota": 1, "$repeat": 1, "$compaction": 1})
		p.want("what stays", p.technical(), []string{"$quota/gone.command 1"})
		p.want("commands", p.documents("commands"), []string(nil))
		p.sameAnew()
	})
	inAttic(t, "audit", func(p *attic) {
		p.want("plain", p.ask("plain", "a", drop{1}), nil)
		p.later(month + time.Hour)
		p.compact()
		var said []string
		for rec, err := range p.store.Read(p.Context(), "$audit/compaction", store.Range{}) {
			p.want("error", err, nil)
			d := struct {
				Before  time.Time
				Streams map[string]int
				Records int
			}{}
			unmarshal(p.T, rec.Data, &d)
			said = append(said, fmt.Sprintf("%s %v %d %v %s", rec.Type, d.Streams, d.Records, p.now().Sub(d.Before).Round(time.Minute), rec.Meta))
		}
		p.want("audit", said, []string{`compacted map[$command:1] 1 720h0m0s {"actor":"ann"}`})
	})
	inAttic(t, "asked again", func(p *attic) {
		p.want("plain", p.ask("k", "a", drop{1}), nil)
		p.want("repeated", p.ask("k", "a", drop{1}), nil)
		p.want("rejected", p.ask("no", "a", take{9}) != nil, true)
		p.later(month + time.Hour)
		p.compact()
		p.want("again", p.ask("k", "a", drop{1}), nil)
		p.want("again, other contents", errors.Is(p.ask("k", "a", drop{2}), deed.ErrMismatch), true)
		p.want("again, accepted by now", p.ask("no", "a", take{2}), nil)
		j, _, _ := vaults.Load(p.Context(), p.rt, "a")
		p.want("it was done again", j.Coins, 0)
		p.want("rejected", p.ask("no2", "a", take{9}) != nil, true)
		p.want("documents", p.documents("commands"), []string{"no2 rejectedtoo_few"})
		p.want("given up", p.compact().Records, 0)
	})
}

// A saga asks commands under ids of its own too. Others who are named as a cause
// are none.
func TestWhoAskedIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		cause   string
		records []store.Write
		goes    bool
	}{
		"nobody":                 {"", nil, true},
		"an event":               {"0198c1d2-0000-7000-8000-000000000000", nil, true},
		"a command that is gone": {"c", nil, true},
		"a command that is over": {"c", events("$command/c", "received", `{}`, "cancelled", `{"undone":false}`), true},
		"a command that is not":  {"c", events("$command/c", "received", `{}`, "failed", `{}`), false},
		"a saga that is over":    {"$saga/s/1", events("$saga/s/1", "started", `{"status":"running"}`, "worked", `{"status":"completed"}`, "event", `{"ignored":true}`), true},
		"a saga that is not":     {"$saga/s/1", events("$saga/s/1", "started", `{}`, "worked", `{}`), false},
		"a saga being undone":    {"$saga/s/1", events("$saga/s/1", "worked", `{"status":"completed"}`, "requested", `{"status":"undoing"}`), false},
		"a saga that is gone":    {"$saga/s/1", nil, true},
		"a schedule":             {"$schedule/s/1", events("$schedule/s/1", "started", `{}`), true},
		"itself":                 {"k", nil, true},
	} {
		inAttic(t, name, func(p *attic) {
			p.stop() // nothing is to happen to what is recorded here
			for _, w := range c.records {
				if _, err := p.store.Append(p.Context(), w); err != nil {
					p.Fatal(err)
				}
			}
			ctx := deed.With(p.Context(), deed.Call{ID: "k", Causation: c.cause})
			if _, err := vaults.Execute(ctx, p.rt, "a", drop{1}); err != nil {
				p.Fatal(err)
			}
			p.begin()
			p.later(month + time.Hour)
			out := p.compact()
			if gone := !slices.Contains(p.technical(), "$command/k 1"); gone != c.goes || (out.Kept == 0) != c.goes || !out.Done {
				p.Errorf("gone: %v, %+v", gone, out)
			}
		})
	}
}

// events are records of a stream: types and data.
func events(stream string, typeAndData ...string) []store.Write {
	w := store.Write{Stream: stream}
	for i := 0; i < len(typeAndData); i += 2 {
		e := store.Event{Type: typeAndData[i], Data: []byte(typeAndData[i+1])}
		copy(e.ID[:], fmt.Sprintf("%016s", fmt.Sprint(len(stream), i)))
		w.Events = append(w.Events, e)
	}
	return []store.Write{w}
}

// Nothing is given up that somebody has still to handle: a follower that is
// paused, one of another program, a dead letter. The answer names who it is.
func TestWhoHasStillToHandleIt(t *testing.T) {
	inAttic(t, "followers", func(p *attic) {
		p.want("plain", p.ask("k1", "a", drop{1}), nil)
		p.settled()
		time.Sleep(2 * time.Second)
		p.want("pause", p.rt.Followers().Pause(p.Context(), "commands"), nil)
		p.want("plain", p.ask("k2", "a", drop{1}), nil)
		time.Sleep(2 * time.Second)
		p.ahead.Add(int64(month + time.Hour))
		out := p.compact()
		p.want("given up", fmt.Sprint(out.Records, " ", out.Done, " ", out.WaitsFor), "1 true the follower commands")
		p.want("what stays", p.technical(), []string{"$command/k2 1"})
		p.want("resume", p.rt.Followers().Resume(p.Context(), "commands"), nil)
		p.settled()
		time.Sleep(2 * time.Second)

		put := func(coll, key, data string) {
			err := p.store.Write(p.Context(), store.Change{Coll: coll, Key: key, Rev: store.AnyRev, Data: []byte(data)})
			p.want("write", err, nil)
		}
		put("$cursor", "old-mails/1/0-of-1", `{"cursor":"1"}`)
		put("view/old-mails/1", "k", `{}`)
		out = p.compact()
		p.want("given up", fmt.Sprint(out.Records, " ", out.WaitsFor), "0 the follower old-mails")
		forget := func(name, reason string) error { return p.rt.Followers().Forget(p.Context(), name, reason) }
		_, isInvalid := errors.AsType[deed.Invalid](forget("old-mails", ""))
		p.want("without a reason", isInvalid, true)
		p.want("one that runs", errors.Is(forget("commands", "r"), deed.ErrFollowerInUse), true)
		p.want("nobody", errors.Is(forget("nobody", "r"), deed.ErrNoFollower), true)
		p.want("forget", forget("old-mails", "the mails are sent elsewhere"), nil)
		_, err := p.store.Get(p.Context(), "view/old-mails/1", "k")
		p.want("its documents", errors.Is(err, store.ErrNotFound), true)
		out = p.compact()
		p.want("given up", fmt.Sprint(out.Records)+out.WaitsFor, "1")
	})
	bad := atomic.Bool{}
	bad.Store(true)
	handler := deed.EventHandler{
		Name: "mails", Retry: deed.Retry{Attempts: 1},
		On: []deed.Reaction{deed.HandleCommand(func(_ context.Context, _ *deed.Tx, e deed.CommandEvent) error {
			if e.ID == "k2" && bad.Load() {
				return errLine
			}
			return nil
		}, "accepted")},
	}
	t.Run("dead letters", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := mem.New()
			p := newAttic(t, s, s, handler)
			for i := range 4 {
				p.want("plain", p.ask(fmt.Sprintf("k%d", i), "a", drop{1}), nil)
			}
			p.later(month + time.Hour)
			out := p.compact()
			p.want("given up", fmt.Sprint(out.Records, strings.HasPrefix(out.WaitsFor, "the dead letter mails.")), "2 true")
			p.want("what stays", p.technical(), []string{"$command/k2 1", "$command/k3 1"})
			bad.Store(false)
			_, err := p.rt.Followers().Redrive(p.Context(), strings.TrimPrefix(out.WaitsFor, "the dead letter "))
			p.want("redrive", err, nil)
			out = p.compact()
			p.want("given up", fmt.Sprint(out.Records)+out.WaitsFor, "2")
		})
	})
}

// What cannot be kept is not promised.
func TestKeepCommandsIsChecked(t *testing.T) {
	long := func(r deed.Rules) deed.Stepwise[move] { d := (&trip{}).moves(); d.Rules = r; return d }
	for name, c := range map[string]struct {
		keep time.Duration
		part deed.Part
		s    store.Store
		want string
	}{
		"fine":                 {24 * time.Hour, tickets(deed.Rules{Quota: deed.Quota{Limit: 2}, Window: time.Hour}), mem.New(), ""},
		"shorter than a day":   {23 * time.Hour, tickets(deed.Rules{Quota: deed.Quota{Limit: 2}}), mem.New(), "KeepCommands is 23h0m0s, and ticket.issue has a quota for 24h0m0s (Quota.Per): keep commands at least as long"},
		"than a period":        {48 * time.Hour, tickets(deed.Rules{Quota: deed.Quota{Limit: 2, Per: 49 * time.Hour}}), mem.New(), "(Quota.Per)"},
		"than a window":        {time.Hour, tickets(deed.Rules{Window: 2 * time.Hour}), mem.New(), "ticket.issue knows repetitions for 2h0m0s (Rules.Window)"},
		"than that of steps":   {time.Hour, long(deed.Rules{Window: 2 * time.Hour}), mem.New(), "transfer.make knows repetitions"},
		"period without limit": {time.Hour, tickets(deed.Rules{Quota: deed.Quota{Per: 49 * time.Hour}}), mem.New(), ""},
		"negative":             {-1, tickets(deed.Rules{}), mem.New(), "must be longer than nothing"},
		"a store that cannot":  {month, tickets(deed.Rules{}), struct{ store.Store }{mem.New()}, "this store gives up no streams"},
		"than a query":         {time.Hour, deed.Query[struct{}, int]{Name: "q", Keep: 2 * time.Hour, Answer: func(context.Context, deed.Reader, struct{}) (int, error) { return 0, nil }}, mem.New(), "askings of q are to be kept for 2h0m0s (Query.Keep)"},
		"for ever, there":      {0, tickets(deed.Rules{}), struct{ store.Store }{mem.New()}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rt, err := deed.New(c.s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{c.part}}}, KeepCommands: c.keep})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if rt == nil {
				rt, err = deed.New(c.s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{c.part}}}})
				if err != nil {
					t.Fatal(err)
				}
				_, err = rt.Compact(t.Context(), deed.Compaction{OlderThan: c.keep})
				_, isInvalid := errors.AsType[deed.Invalid](err)
				if unsupported := errors.Is(err, errors.ErrUnsupported); err == nil || isInvalid == unsupported {
					t.Errorf("compacting: %v", err)
				}
			}
		})
	}
}

// A runtime that keeps commands for a month gives up older ones by itself: after
// four months it has those of one.
func TestKeepCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		rt, stop := runWith(t, s, deed.Config{
			Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, KeepCommands: month, Poll: 100 * 24 * time.Hour,
			Logger: slog.New(slog.DiscardHandler),
		})
		defer stop()
		for day := range 120 {
			ctx := deed.With(t.Context(), deed.Call{ID: fmt.Sprint(day)})
			if _, err := vaults.Submit(ctx, rt, "a", laterDrop{1}); err != nil {
				t.Fatal(err)
			}
			if _, err := vaults.Execute(t.Context(), rt, "b", drop{1}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
		}
		count := map[string]int{}
		for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if count[store.Category(rec.Stream)]++; store.Category(rec.Stream) == "$command" && time.Since(rec.Time) > month+2*time.Hour {
				t.Errorf("%s is %v old", rec.Stream, time.Since(rec.Time))
			}
		}
		if count["vault"] != 240 || count["$command"] < 87 || count["$command"] > 93 || count["$compaction"] > 33 {
			t.Errorf("%v", count)
		}
		found, err := rt.Commands().Find(t.Context(), store.Query{})
		if err != nil || len(found) < 29 || len(found) > 31 {
			t.Errorf("%d documents, %v", len(found), err)
		}
	})
}

// A compaction that is told to stop does so after what it is at, and the next
// one goes on; what both did is recorded.
func TestCompactionIsStopped(t *testing.T) {
	inAttic(t, "by its context", func(p *attic) {
		const many = 1700
		for i := range many {
			p.want("plain", p.ask(fmt.Sprint("k", i), "a", drop{1}), nil)
		}
		p.later(month + time.Hour)
		ctx, stop := context.WithCancel(p.Context())
		var seen []uint64
		out, err := p.rt.Compact(ctx, deed.Compaction{OlderThan: month, Progress: func(c deed.Compacted) {
			if seen = append(seen, c.Records); len(seen) == 2 {
				stop()
			}
		}})
		p.want("stopped", fmt.Sprint(err, out.Records, out.Done, seen), "<nil> 1000 false [500 1000]")
		out = p.compact()
		p.want("went on", fmt.Sprint(out.Records, out.Done), "700 true")
		total := 0
		for rec := range p.store.Read(p.Context(), "$audit/compaction", store.Range{}) {
			d := struct{ Records int }{}
			unmarshal(p.T, rec.Data, &d)
			total += d.Records
		}
		p.want("recorded", total, many)
	})
}

// The document in which compactions note how far they have come, what they
// announce and what they record, are stored formats.
func TestCompactionFormats(t *testing.T) {
	inAttic(t, "golden", func(p *attic) {
		p.stop()
		_, err := p.store.Append(p.Context(), events("$command/open", "received", `{}`, "failed", `{}`)...)
		p.want("a command that is not over", err, nil)
		_, err = vaults.Execute(deed.With(p.Context(), deed.Call{ID: "asked", Causation: "open"}), p.rt, "a", drop{1})
		p.want("and has asked another", err, nil)
		p.want("plain", p.ask("plain", "a", drop{1}), nil)
		p.want("rejected", p.ask("no", "a", take{1000}) != nil, true)
		_, err = p.tickets.Execute(deed.With(p.Context(), deed.Call{ID: "f", Restricted: true}), p.rt, "t", issue{1})
		p.want("forbidden", err != nil, true)
		p.begin()
		p.later(month + time.Hour)
		p.compact()
		d, err := p.store.Get(p.Context(), "$compaction", "place")
		p.want("place", fmt.Sprint(string(d.Data), err),
			`{"cursor":"8","held":{"open":"3"},"unsaid":{"run":0,"streams":{"$command":2,"$poison":1},"records":3}}<nil>`)
		var got []string
		for rec, err := range p.store.ReadAll(p.Context(), store.Start, store.Filter{Types: []string{"given-up", "compacted"}}) {
			p.want("error", err, nil)
			got = append(got, rec.Stream+" "+rec.Type+" "+made.ReplaceAllString(string(rec.Data), "?"))
		}
		p.want("records", strings.Join(got, "\n"), `$compaction/0-0 given-up {"commands":["no"],"poison":["?"]}
$audit/compaction compacted {"before":"?","streams":{"$command":2,"$poison":1},"records":3}`)
	})
}

// made are ids and times, which are others each time.
var made = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{4}-[^"]*Z`)

// Of several nodes one gives up what need not be kept; when it is gone, another
// does. Views whose partitions they share drop the documents.
func TestNodesKeepCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := shared{mem.New()}
		nodes, stops, logs := map[string]*deed.Runtime{}, map[string]func(){}, map[string]*logbook{}
		for _, name := range []string{"a", "b"} {
			logs[name] = &logbook{}
			rt, stop := runWith(t, s, deed.Config{
				Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{vaults}}}, KeepCommands: 24 * time.Hour,
				Node: name, Lease: time.Hour, Poll: time.Hour, Logger: slog.New(slog.NewTextHandler(logs[name], nil)),
			})
			nodes[name], stops[name] = rt, sync.OnceFunc(stop)
			defer stops[name]()
		}
		// who stores commands by way of a node, and returns which node gives them up.
		who := func(by string, from int) (names string) {
			for i := range 30 {
				ctx := deed.With(t.Context(), deed.Call{ID: fmt.Sprint("k", from+i)})
				if _, err := vaults.Submit(ctx, nodes[by], "a", laterDrop{1}); err != nil {
					t.Fatal(err)
				}
			}
			before := map[string]int{"a": logs["a"].count("compacted"), "b": logs["b"].count("compacted")}
			time.Sleep(27 * time.Hour)
			for rec := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"$command"}}) {
				t.Errorf("%s is still there", rec.Stream)
			}
			if docs, err := nodes[by].Commands().Find(t.Context(), store.Query{}); err != nil || len(docs) > 0 {
				t.Errorf("%d documents, %v", len(docs), err)
			}
			for _, name := range []string{"a", "b"} {
				if logs[name].count("ERROR")+logs[name].count("left to another") > 0 {
					t.Errorf("%s: %s", name, logs[name])
				}
				if logs[name].count("compacted") > before[name] {
					names += name
				}
			}
			return names
		}
		first, second := who("a", 0), map[string]string{"a": "b", "b": "a"}
		if second[first] == "" {
			t.Fatalf("they were given up by %q", first)
		}
		stops[first]()
		if next := who(second[first], 100); next != second[first] {
			t.Errorf("then they were given up by %q", next)
		}
	})
}

// A logbook is a log that can be read while it is written.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (d *logbook) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.Write(b)
}

func (d *logbook) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

func (d *logbook) count(what string) int { return strings.Count(d.String(), what) }
