package cli_test

import (
	"context"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store/mem"
)

// crate is what is shipped. A sealed one cannot be unloaded.
type crate struct{ Loaded, Sealed bool }

type (
	loaded   struct{}
	unloaded struct{}
	sealed   struct{}
	unsealed struct{}
	stow     struct{}
	unstow   struct{}
	seal     struct{}
	unseal   struct{}
)

func (loaded) Apply(c *crate)   { c.Loaded = true }
func (unloaded) Apply(c *crate) { c.Loaded = false }
func (sealed) Apply(c *crate)   { c.Sealed = true }
func (unsealed) Apply(c *crate) { c.Sealed = false }

func happens(e deed.Event[crate]) []deed.Event[crate] { return []deed.Event[crate]{e} }

func (stow) Decide(c crate) ([]deed.Event[crate], error) {
	if c.Loaded {
		return nil, deed.Reason{Code: "crate_loaded", Text: "the crate is loaded already"}
	}
	return happens(loaded{}), nil
}

func (unstow) Decide(c crate) ([]deed.Event[crate], error) {
	if c.Sealed {
		return nil, deed.Reason{Code: "crate_sealed", Text: "the crate is sealed"}
	}
	return happens(unloaded{}), nil
}

func (seal) Decide(crate) ([]deed.Event[crate], error)   { return happens(sealed{}), nil }
func (unseal) Decide(crate) ([]deed.Event[crate], error) { return happens(unsealed{}), nil }

var crates = deed.Aggregate[crate]{
	Name:     "crate",
	Events:   map[string]deed.Event[crate]{"loaded": loaded{}, "unloaded": unloaded{}, "sealed": sealed{}, "unsealed": unsealed{}},
	Commands: map[string]deed.Command[crate]{"load": stow{}, "unload": unstow{}, "seal": seal{}, "unseal": unseal{}},
}

// shipment is the state of a saga that loads a crate and, if asked to, waits for
// the customs.
type shipment struct {
	Crate   string `json:"crate"`
	Customs bool   `json:"customs"`
}

func to(id string, c deed.Command[crate]) []deed.Sending {
	return []deed.Sending{deed.Send(crates, id, c)}
}

// collect is a command in steps: a crate is loaded, and fetched unless somebody
// has sealed it, which is in the way until it is unsealed.
type collect struct{}

var collecting = deed.Stepwise[collect]{
	Name: "crate.collect",
	Steps: []deed.Step[collect]{
		{Name: "load", Do: func(ctx context.Context, w *deed.Work, _ collect) error {
			return w.Ask(ctx, deed.Send(crates, w.ID, stow{}))
		}},
		{Name: "fetch", Retry: deed.Retry{Attempts: 1}, Do: func(ctx context.Context, w *deed.Work, _ collect) error {
			if c, _, err := crates.Load(ctx, w.Reader(), w.ID); err != nil || c.Sealed {
				return errors.Join(err, errors.New("the van has no key"))
			}
			return nil
		}},
	},
}

// shipping is a domain of these tests, with a command in steps, a saga and a
// process: as soon as a crate is sealed, its twin is loaded, and unloaded should
// that have been a mistake.
var shipping = deed.Domain{Name: "shipping", Parts: []deed.Part{
	crates, collecting,
	deed.Saga[shipment]{Name: "shipment", Steps: []deed.SagaStep[shipment]{
		{
			Name: "load",
			Send: func(_ string, s shipment) []deed.Sending { return to(s.Crate, stow{}) },
			Undo: func(_ string, s shipment) []deed.Sending { return to(s.Crate, unstow{}) },
		},
		{
			Name: "customs", When: func(_ string, s shipment) bool { return s.Customs },
			Ask: func(_ string, s shipment) deed.Question {
				return deed.Question{Text: "May " + s.Crate + " pass?", Roles: []string{"officer"}, Within: 24 * time.Hour}
			},
		},
		{Name: "carry", Do: func(context.Context, *deed.Work, *shipment) error { return nil }},
	}},
	deed.Reception{Name: "harbour", Doc: "What the harbour tells.", Messages: []deed.Receiving{
		deed.Receive("crate.arrived.v1", func(_ context.Context, m deed.Received[shipment]) ([]deed.Sending, error) {
			return to(m.Data.Crate, stow{}), nil
		}),
	}},
	deed.Process[struct{}]{Name: "twins", On: []deed.ProcessReaction[struct{}]{
		deed.Start(func(_ *struct{}, e deed.Recorded[sealed]) []deed.Action {
			twin := e.ID + "-twin"
			return []deed.Action{deed.Send(crates, twin, stow{}).Undo(deed.Send(crates, twin, unstow{})), deed.After("late", 24*time.Hour)}
		}),
		deed.OnTimer("late", func(*struct{}) []deed.Action { return []deed.Action{deed.Done()} }),
	}},
}}

// Scripts that talk to a server, which is there for each of them.
func TestScriptsOverHTTP(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/served",
		Setup: func(e *testscript.Env) error {
			e.Setenv("DEED_SERVER", deedtest.Serve(t, mem.New(), shipping, mailing()))
			e.Setenv("USER", "ann")
			return scriptEnv(e)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until},
	})
}

// until runs a program again and again until it prints what a pattern says:
// what goes on in the background takes a moment.
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	for range 600 {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("it never prints %q", args[0])
}
