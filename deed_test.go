package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/examples/orders"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// Lamp is an entity whose events have seen several shapes.
type Lamp struct {
	Colour string `json:"colour"`
	Watts  int    `json:"watts"`
	Times  int    `json:"times"`
}

type Lit struct {
	Colour string `json:"colour"`
	Watts  int    `json:"watts"`
}

func (e Lit) Apply(l *Lamp) { l.Colour, l.Watts = e.Colour, e.Watts; l.Times++ }

type Light struct {
	Colour string `json:"colour"`
	Panic  bool   `json:"panic"`
}

var errNoGreen = deed.Reason{Code: "no_green", Text: "there is no green light"}

func (c Light) Decide(Lamp) ([]deed.Event[Lamp], error) {
	switch {
	case c.Panic:
		panic("the fuse is blown")
	case c.Colour == "green":
		return nil, fmt.Errorf("%w in this room", errNoGreen)
	case c.Colour == "":
		return nil, nil
	}
	return []deed.Event[Lamp]{Lit{Colour: c.Colour, Watts: 5}}, nil
}

func lamps() deed.Aggregate[Lamp] {
	return deed.Aggregate[Lamp]{
		Name:     "lamp",
		Events:   map[string]deed.Event[Lamp]{"lit.v2": Lit{Watts: 40}},
		Legacy:   map[string]deed.Event[Lamp]{"switched-on": Lit{Colour: "yellow", Watts: 60}},
		Upcasts:  map[string]deed.Upcast{"lit": {To: "lit.v2", From: fromRGB}},
		Commands: map[string]deed.Command[Lamp]{"light": Light{}},
	}
}

// fromRGB reads the first shape, {"rgb":"ff0000"}.
func fromRGB(old json.RawMessage) (json.RawMessage, error) {
	var v struct{ RGB string }
	if err := json.Unmarshal(old, &v); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"colour": "#" + v.RGB})
}

func TestOldEventsAreRead(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{lamps()}})
	for i, typ := range []struct{ name, data string }{{"switched-on", `{}`}, {"lit", `{"RGB":"ff0000"}`}, {"lit.v2", `{"colour":"blue"}`}, {"lit.v2", `{"colour":"red","watts":3,"unknown":1}`}} {
		w := store.Write{Stream: "lamp/l", Expect: store.Any, Events: []store.Event{{ID: store.ID{byte(i + 1)}, Type: typ.name, Data: []byte(typ.data)}}}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for version, want := range map[uint64]Lamp{1: {"yellow", 60, 1}, 2: {"#ff0000", 40, 2}, 3: {"blue", 40, 3}, 4: {"red", 3, 4}} {
		got, v, err := lamps().Load(t.Context(), rt.AtVersion(version), "l")
		if err != nil || got != want || v != version {
			t.Errorf("version %d: %+v (%d, %v), want %+v", version, got, v, err, want)
		}
	}
}

type secretive struct {
	Open   int
	Secret int `json:"-"`
}

type stranger struct{}

func (stranger) Apply(*Lamp) {}

type count struct {
	N int `json:"n"`
}

func TestNewRefusesContradictions(t *testing.T) {
	alter := func(f func(*deed.Aggregate[Lamp])) deed.Part { a := lamps(); f(&a); return a }
	handles := func(h deed.Handler[count]) deed.Part {
		return deed.Projection[count]{Name: "p", On: []deed.Handler[count]{h}}
	}
	onLit := deed.On(func(c *count, e Lit) { c.N++ })
	for _, tt := range []struct {
		name  string
		parts []deed.Part
		want  string
	}{
		{"handler of an event nobody declares", []deed.Part{handles(deed.On(func(*count, stranger) {}))}, "which no aggregate declares"},
		{"same aggregate twice", []deed.Part{lamps(), lamps()}, `two aggregates are named "lamp"`},
		{"one event under two names", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Events["other"] = Lit{} })}, "is both"},
		{"one name in Events and Legacy", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Legacy["lit.v2"] = Lit{} })}, "two events are named"},
		{"upcast to nowhere", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Upcasts["x"] = deed.Upcast{To: "y", From: fromRGB} })}, "not declared"},
		{"upcasts in a circle", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) {
			a.Upcasts["x"] = deed.Upcast{To: "y", From: fromRGB}
			a.Upcasts["y"] = deed.Upcast{To: "x", From: fromRGB}
		})}, "circle"},
		{"reserved name", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Name = "events" })}, "the HTTP API uses that name"},
		{"saga with the name of a route", []deed.Part{deed.Saga[struct{}]{Name: "retry"}}, "the HTTP API uses that name"},
		{"odd name", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Name = "Lamp/Post" })}, "use lower-case letters"},
		{"no prototype", []deed.Part{alter(func(a *deed.Aggregate[Lamp]) { a.Events["none"] = nil })}, "has no prototype"},
		{"projection of nothing", []deed.Part{deed.Projection[count]{Name: "p"}}, "handles no events"},
		{"index that is no field", []deed.Part{lamps(), deed.Projection[count]{Name: "p", Indexes: []string{"m"}, On: []deed.Handler[count]{onLit}}}, `no JSON field "m"`},
		{"two views of one name", []deed.Part{lamps(), handles(onLit), deed.View[count]{Name: "p"}}, "two views"},
		{"partitions with derived keys", []deed.Part{lamps(), deed.Projection[count]{Name: "p", Partitions: 2,
			On: []deed.Handler[count]{deed.OnBy(func(e Lit) string { return e.Colour }, func(*count, Lit) {})}}}, "cannot have partitions"},
		{"saga whose state JSON loses", []deed.Part{deed.Saga[[]secretive]{Name: "s", Steps: []deed.SagaStep[[]secretive]{{
			Name: "a", Do: func(context.Context, *deed.Work, *[]secretive) error { return nil },
		}}}}, "JSON leaves out the field deed_test.secretive.Secret"},
		{"process whose state JSON loses", []deed.Part{lamps(), deed.Process[secretive]{Name: "p", On: []deed.ProcessReaction[secretive]{
			deed.Start(func(*secretive, Lit) []deed.Action { return nil }),
		}}}, "JSON leaves out the field deed_test.secretive.Secret"},
		{"handler of nothing", []deed.Part{deed.EventHandler{Name: "h"}}, "handles no events"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "d", Parts: tt.parts}}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err %v, want %q", err, tt.want)
			}
		})
	}
}

func start(t *testing.T) (*deed.Runtime, *mem.Store) {
	s := mem.New()
	return deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{lamps()}}), s
}

func TestRejectionsAreAnswersToo(t *testing.T) {
	rt, _ := start(t)
	ctx := deed.With(t.Context(), deed.Call{ID: "c-1", Actor: "ann"})
	for range 2 {
		_, err := lamps().Execute(ctx, rt, "l", Light{Colour: "green"})
		rejected, ok := errors.AsType[deed.Rejected](err)
		if !ok || !errors.Is(err, errNoGreen) || rejected.Reason() != (deed.Reason{Code: "no_green", Text: "there is no green light in this room"}) {
			t.Fatalf("err %v", err)
		}
	}
	if _, err := lamps().Execute(ctx, rt, "l", Light{Colour: "red"}); !errors.Is(err, deed.ErrMismatch) {
		t.Errorf("another command with that id: %v", err)
	}
}

func TestNothingToDo(t *testing.T) {
	rt, s := start(t)
	r, err := lamps().Execute(t.Context(), rt, "l", Light{})
	if err != nil || r.Version != 0 || len(r.Events) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for rec := range s.Read(t.Context(), "lamp/l", store.Range{}) {
		t.Errorf("there is an event: %v", rec)
	}
}

func TestPanicsAreErrors(t *testing.T) {
	rt, _ := start(t)
	if _, err := lamps().Execute(t.Context(), rt, "l", Light{Panic: true}); err == nil || !strings.Contains(err.Error(), "the fuse is blown") {
		t.Errorf("err %v", err)
	}
	if _, err := lamps().Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestVersionIsDemanded(t *testing.T) {
	rt, _ := start(t)
	at := func(v uint64) context.Context { return deed.With(t.Context(), deed.Call{IfVersion: &v}) }
	if _, err := lamps().Execute(at(0), rt, "l", Light{Colour: "red"}); err != nil {
		t.Error(err)
	}
	_, err := lamps().Execute(at(0), rt, "l", Light{Colour: "red"})
	if c, ok := errors.AsType[deed.Conflict](err); !ok || c.Version != 1 {
		t.Errorf("err %v", err)
	}
	if _, err := lamps().Execute(at(1), rt, "l", Light{Colour: "red"}); err != nil {
		t.Error(err)
	}
}

// Two runtimes on one store have caches of their own; neither decides on a
// state that is out of date, and no command is lost.
func TestStateCachesOfTwoRuntimes(t *testing.T) {
	s := mem.New()
	type runtime = *deed.Runtime
	var rts []runtime
	for range 2 {
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Parts: []deed.Part{lamps()}}}, Retries: 1000})
		if err != nil {
			t.Fatal(err)
		}
		rts = append(rts, rt)
	}
	const workers, each = 8, 50
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for range each {
				if _, err := lamps().Execute(t.Context(), rts[w%2], "l", Light{Colour: "red"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	l, v, err := lamps().Load(t.Context(), rts[0], "l")
	if err != nil || l.Times != workers*each || v != workers*each {
		t.Errorf("lit %d times in version %d (%v), want %d", l.Times, v, err, workers*each)
	}
}

func TestSnapshots(t *testing.T) {
	s := mem.New()
	a := lamps()
	a.Snapshot = deed.Snapshot{Every: 10, Version: 1}
	rt := deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{a}})
	for range 25 {
		if _, err := a.Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
			t.Fatal(err)
		}
	}
	var doc store.Doc
	for range 100 { // it is taken beside the command
		var err error
		if doc, err = s.Get(t.Context(), "$snapshot/lamp", "l"); err == nil && strings.Contains(string(doc.Data), `"version":20`) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if want := `{"version":20,"schema":1,"state":{"colour":"red","watts":5,"times":20}}`; string(doc.Data) != want {
		t.Fatalf("snapshot %s, want %s", doc.Data, want)
	}
	// A state that says it comes from a snapshot.
	put := func(data string) {
		if err := s.Write(t.Context(), store.Change{Coll: "$snapshot/lamp", Key: "l", Rev: store.AnyRev, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, data string
		version    uint64 // to read at; 0 = now
		times      int
	}{
		{"is used", `{"version":20,"schema":1,"state":{"times":1020}}`, 0, 1025},
		{"of another schema is not", `{"version":20,"schema":2,"state":{"times":1020}}`, 0, 25},
		{"that is damaged is not", `nonsense`, 0, 25},
		{"that is too new is not", `{"version":20,"schema":1,"state":{"times":1020}}`, 15, 15},
	} {
		put(tt.data)
		var r deed.Reader = rt
		if tt.version > 0 {
			r = rt.AtVersion(tt.version)
		}
		if l, _, err := a.Load(t.Context(), r, "l"); err != nil || l.Times != tt.times {
			t.Errorf("a snapshot %s: lit %d times (%v), want %d", tt.name, l.Times, err, tt.times)
		}
	}
}

func TestJournalLevels(t *testing.T) {
	for _, tt := range []struct {
		level   deed.Journal
		id      string
		journal bool
	}{{deed.JournalAll, "", true}, {deed.JournalKeyed, "", false}, {deed.JournalKeyed, "k", true}, {deed.JournalNone, "k", false}} {
		s := mem.New()
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Parts: []deed.Part{lamps()}}}, Journal: tt.level})
		if err != nil {
			t.Fatal(err)
		}
		r, err := lamps().Execute(deed.With(t.Context(), deed.Call{ID: tt.id}), rt, "l", Light{Colour: "red"})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range s.Read(t.Context(), "$command/"+r.Command, store.Range{}) {
			n++
		}
		if (n == 1) != tt.journal {
			t.Errorf("level %v, id %q: %d journal events", tt.level, tt.id, n)
		}
	}
}

// The formats of journal, claims and meta are for ever.
func TestStoredFormats(t *testing.T) {
	s := mem.New()
	rt := deedtest.StartOn(t, s, orders.Domain)
	ctx := deed.With(t.Context(), deed.Call{ID: "k-1", Actor: "ann", Correlation: "flow", Causation: "cause", Source: "test"})
	if _, err := orders.Orders.Execute(ctx, rt, "o-1", orders.Create{Customer: "c"}); err != nil {
		t.Fatal(err)
	}
	orders.Orders.Execute(deed.With(t.Context(), deed.Call{ID: "k-2"}), rt, "o-1", orders.Submit{})
	var got strings.Builder
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s@%d %s %s %s\n", rec.Stream, rec.Version, rec.Type, rec.Data, rec.Meta)
	}
	want := `order/o-1@1 created {"customer":"c"} {"actor":"ann","command":"k-1","correlation":"flow","causation":"cause","source":"test"}
$command/k-1@1 accepted {"command":"order.create","stream":"order/o-1","hash":"afvl12eqgecq3xA5fiaXfwqjZwtw2rzZxsboCfSO5ow","version":1,"events":[{"type":"created","version":1}]} {"actor":"ann","command":"k-1","correlation":"flow","causation":"cause","source":"test"}
$command/k-2@1 rejected {"command":"order.submit","stream":"order/o-1","hash":"YHNbbpvjX6q0QRTJVep87xUmn5-dZ11aZTUHbhLsGc0","code":"order_empty","reason":"Cannot submit empty order"} {"command":"k-2","correlation":"k-2"}
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

// A handler's documents are written once, however often it fails on the way.
func TestHandlerRetries(t *testing.T) {
	view := deed.View[count]{Name: "lights"}
	tries := 0
	handler := deed.EventHandler{Name: "counter", Retry: deed.Retry{First: time.Millisecond}, On: []deed.Reaction{
		deed.Handle(func(ctx context.Context, tx *deed.Tx, e deed.Recorded[Lit]) error {
			c, err := view.Look(ctx, tx, e.ID)
			if err != nil && !errors.Is(err, deed.ErrNotFound) {
				return err
			}
			c.N++
			if err := view.Put(tx, e.ID, c); err != nil {
				return err
			}
			if tries++; tries%3 != 0 {
				return errors.New("the mail server does not answer")
			}
			return nil
		}),
	}}
	s := mem.New()
	rt := deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{lamps(), view, handler}})
	for range 5 {
		if _, err := lamps().Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		if c, err := view.Get(t.Context(), rt, "l"); err == nil && c.N == 5 {
			if tries != 15 {
				t.Errorf("%d tries for 5 events that fail twice each", tries)
			}
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Errorf("not done after %d tries: %+v", tries, rt.Followers().List())
}

// Ring is a command that the runtime fills in: nothing of it is in the body.
type Ring struct{ year int }

func (c Ring) Stamp(s deed.Stamp) deed.Command[Lamp] {
	c.year = s.Time.Year()
	return c
}

func (c Ring) Decide(Lamp) ([]deed.Event[Lamp], error) {
	return []deed.Event[Lamp]{Lit{Colour: "red", Watts: c.year}}, nil
}

func TestCommandWithoutBody(t *testing.T) {
	a := lamps()
	a.Commands["ring"] = Ring{}
	rt := deedtest.Start(t, deed.Domain{Parts: []deed.Part{a}})
	for _, body := range []string{"", "{}", " { } "} {
		if _, err := rt.Dispatch(t.Context(), "lamp", "l", "ring", []byte(body)); err != nil {
			t.Errorf("body %q: %v", body, err)
		}
	}
	if _, err := rt.Dispatch(t.Context(), "lamp", "l", "ring", []byte(`{"year":1}`)); err == nil {
		t.Error("a field that is not for callers was taken")
	}
	if l, _, err := a.Load(t.Context(), rt, "l"); err != nil || l.Times != 3 || l.Watts < 2026 {
		t.Errorf("%+v, %v", l, err)
	}
}

// Burst is an event that cannot be applied.
type Burst struct{}

func (Burst) Apply(*Lamp) { panic("the bulb has burst") }

type BurstIt struct{}

func (BurstIt) Decide(Lamp) ([]deed.Event[Lamp], error) {
	return []deed.Event[Lamp]{Lit{Colour: "red"}, Burst{}}, nil
}

// An event that its own entity cannot take is never recorded: it would be there
// for ever.
func TestApplyThatPanics(t *testing.T) {
	a := lamps()
	a.Events["burst"], a.Commands["burst"] = Burst{}, BurstIt{}
	rt := deedtest.Start(t, deed.Domain{Parts: []deed.Part{a}})
	ctx := deed.With(t.Context(), deed.Call{ID: "k"})
	for range 2 {
		if _, err := a.Execute(ctx, rt, "l", BurstIt{}); err == nil || !strings.Contains(err.Error(), "burst") {
			t.Errorf("the command answers %v", err)
		}
	}
	if _, err := a.Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
		t.Errorf("the next command: %v", err)
	}
	if l, v, err := a.Load(t.Context(), rt, "l"); err != nil || v != 1 || l.Times != 1 {
		t.Errorf("%+v at version %d, %v", l, v, err)
	}
}
