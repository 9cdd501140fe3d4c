package diagram_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/diagram"
	"github.com/deed-dev/deed/internal/mermaidtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shop is a program of two domains that has everything a map can show.
var shop = deed.Info{
	Domains: []deed.DomainInfo{{Name: "empty"}, {Name: "shop", Doc: "Sells things."}, {Name: "post", Doc: "Carries them."}},
	Aggregates: []deed.AggregateInfo{
		{Name: "order", Domain: "shop", Events: []string{"end", "paid", "placed"}, Legacy: []string{"bought"}, Commands: []string{"end", "pay", "place"}, Internal: []string{"forget"}},
		{Name: "parcel", Domain: "post", Events: []string{"arrived"}, Commands: []string{"send", "send-back"}},
	},
	Stepwise: []deed.StepwiseInfo{{Name: "parcel.route", Domain: "post", Steps: []string{"plan", "book"}}},
	Machines: []deed.MachineInfo{
		{Kind: "process", Name: "reminder", Domain: "shop", Reactions: []deed.ReactionInfo{
			{Kind: "event", Events: []string{"order.bought", "order.placed"}, Starts: true},
			{Kind: "event", Events: []string{"parcel.arrived"}},
			{Kind: "timer", Name: "late"},
			{Kind: "decision", Name: "waive"},
			{Kind: "refused"},
			{Kind: "ended", Name: "checkout"},
		}},
		{Kind: "saga", Name: "checkout", Doc: "Takes the money, then sends it.", Domain: "shop", Version: 2, Steps: []deed.SagaStepInfo{
			{Name: "reserve", Does: "send", Undo: true},
			{Name: "charge", Does: "do", Undo: true},
			{Name: "wrap", Does: "do", Undo: true, Beside: true},
			{Name: "approve", Does: "ask"},
			{Name: "arrival", Does: "await", Events: []string{"parcel.arrived"}},
			{Name: "close", Does: "send"},
		}},
		{Kind: "schedule", Name: "sweep", Domain: "shop", Cron: "30 1 * * * Europe/Dublin"},
	},
}

// run is an instance of checkout with something in everything.
func run(change func(*deed.Instance)) deed.Instance {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	i := deed.Instance{
		Kind: "saga", Name: "checkout", ID: "o-1", Definition: 2, State: deed.InstanceRunning, Step: "approve",
		Steps: []deed.InstanceStep{
			{Name: "reserve", State: deed.StepDone}, {Name: "charge", State: deed.StepDone, Attempts: 2}, {Name: "wrap", State: deed.StepSkipped},
			{Name: "approve", State: deed.StepWaiting},
		},
		Timers: map[string]time.Time{"due:approve": at}, Tasks: map[string]string{"approve": "0b5e"},
		Parent: "$process/reminder/o-1", Entities: []string{"stock/p-1"},
	}
	if change != nil {
		change(&i)
	}
	return i
}

func stuck(i *deed.Instance) {
	i.State, i.Code, i.Reason, i.Timers, i.Tasks = deed.InstanceStuck, "stuck", "step wrap cannot be undone: no paper", nil, nil
	i.TurnedBack = true
	i.Steps[2] = deed.InstanceStep{Name: "wrap", State: deed.StepUndoing, Error: "no paper", Attempts: 3}
	i.Steps[3].State = deed.StepRefused
}

// A drawing is what it was, to the letter.
func TestMermaid(t *testing.T) {
	for name, g := range drawings() {
		path := filepath.Join("testdata", name+".mmd")
		got := g.Mermaid()
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s, wanted\n%s", name, got, want)
		}
	}
}

func drawings() map[string]diagram.Graph {
	return map[string]diagram.Graph{
		"program": diagram.Map(shop, ""),
		"shop":    diagram.Map(shop, "shop"),
		"running": diagram.Instance(shop, run(nil)),
		"stuck":   diagram.Instance(shop, run(stuck)),
		"undone": diagram.Instance(shop, run(func(i *deed.Instance) {
			stuck(i)
			i.State, i.Reason = deed.InstanceUndone, `the "boss" said no`
			for n := range 3 {
				i.Steps[n].State = deed.StepUndone
			}
		})),
		"former": diagram.Instance(shop, run(func(i *deed.Instance) { i.Definition = 1 })),
		"process": diagram.Instance(shop, deed.Instance{
			Kind: "process", Name: "reminder", ID: "o-1", State: deed.InstanceStuck, Reason: "order.end of order/o-1 is refused: too late",
			Undo: []deed.UndoCommand{{Stream: "order/o-1", Command: "order.end"}, {Stream: "parcel/p-1", Command: "parcel.send-back"}}, Entities: []string{"order/o-1"},
		}),
	}
}

// odd is text that would break a diagram, or a page, if it were taken literally.
const odd = "end \"<img src=x onerror=alert(1)>\" `*a* _b_` #quot; %%{init:{}}%% ]) --> x;\n1. | $$x$$ é 漢 \\"

// Mermaid draws what it is given: each node, each arrow, each word.
func TestDrawn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	graphs := drawings()
	graphs["odd"] = diagram.Instance(shop, run(func(i *deed.Instance) {
		i.ID, i.State, i.Reason, i.Parent, i.Entities = odd, deed.InstanceStuck, odd, odd, []string{odd}
		i.Steps[0].Error = odd
	}))
	texts := map[string]string{}
	for name, g := range graphs {
		texts[name] = g.Mermaid()
	}
	for name, d := range mermaidtest.Draw(t, texts) {
		g := graphs[name]
		if d.Edges != len(g.Edges) {
			t.Errorf("%s: %d arrows are drawn of %d", name, d.Edges, len(g.Edges))
		}
		said := append(slices.Clone(d.Nodes), d.Groups...)
		for i, s := range said {
			said[i] = squeezed(s)
		}
		if len(said) != len(g.Nodes) {
			t.Errorf("%s: %d nodes are drawn of %d", name, len(said), len(g.Nodes))
		}
		for _, n := range g.Nodes {
			if want := squeezed(n.Label + " " + n.Note); !slices.Contains(said, want) {
				t.Errorf("%s: no node says %q; they say\n%s", name, want, strings.Join(said, "\n"))
			}
		}
	}
}

// squeezed is text without what lines are broken at.
func squeezed(s string) string { return strings.Join(strings.Fields(s), " ") }

// An instance is marked where it stands.
func TestMarks(t *testing.T) {
	marks := func(change func(*deed.Instance)) string {
		var all []string
		for _, n := range diagram.Instance(shop, run(change)).Nodes {
			if n.Mark != "" {
				_, name, _ := strings.Cut(n.ID, " saga checkout ")
				all = append(all, strings.TrimSpace(string(n.Kind)+" "+name)+" "+string(n.Mark))
			}
		}
		return strings.Join(all, ", ")
	}
	for name, c := range map[string]struct {
		change func(*deed.Instance)
		want   string
	}{
		"running": {nil, "saga now, step reserve done, step charge done, step wrap skipped, step approve now, timer due:approve now, question approve now"},
		"stuck":   {stuck, "saga stuck, step reserve done, step charge done, step wrap undone, undo wrap stuck, step approve failed"},
		"undoing": {func(i *deed.Instance) { stuck(i); i.State = deed.InstanceUndoing }, "saga now, step reserve done, step charge done, step wrap undone, undo wrap now, step approve failed"},
		"completed": {func(i *deed.Instance) {
			i.State, i.Timers, i.Tasks = deed.InstanceCompleted, nil, nil
			i.Steps[3].State = deed.StepDone
		}, "saga done, step reserve done, step charge done, step wrap skipped, step approve done"},
		"stuck on the way": {func(i *deed.Instance) { i.State = deed.InstanceStuck }, "saga stuck, step reserve done, step charge done, step wrap skipped, step approve stuck, timer due:approve now, question approve now"},
		"closed": {func(i *deed.Instance) {
			i.State, i.Timers, i.Tasks = deed.InstanceClosed, nil, nil
		}, "saga skipped, step reserve done, step charge done, step wrap skipped, step approve skipped"},
	} {
		if got := marks(c.change); got != c.want {
			t.Errorf("%s: %s\nwanted %s", name, got, c.want)
		}
	}
}

// A graph is JSON for programs that draw it their own way; each arrow leads
// from a node to a node.
func TestGraph(t *testing.T) {
	for name, g := range drawings() {
		nodes := map[string]bool{"": true}
		for _, n := range g.Nodes {
			if nodes[n.ID] {
				t.Errorf("%s: two nodes are %q", name, n.ID)
			}
			nodes[n.ID] = true
		}
		for _, n := range g.Nodes {
			if !nodes[n.In] {
				t.Errorf("%s: %q is part of %q, which there is not", name, n.ID, n.In)
			}
		}
		for _, e := range g.Edges {
			if !nodes[e.From] || !nodes[e.To] {
				t.Errorf("%s: an arrow from %q to %q", name, e.From, e.To)
			}
		}
	}
	b, err := json.Marshal(diagram.Map(shop, "post"))
	if err != nil || !strings.Contains(string(b), `{"id":"command parcel.send-back","kind":"command","label":"send-back"}`) {
		t.Errorf("%s, %v", b, err)
	}
}
