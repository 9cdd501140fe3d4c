package diagram

import "github.com/deed-dev/deed"

// steps draws the steps of a saga in their order, those beside each other side
// by side, and how it turns back: from a step that cannot be done to undoing
// what was done before it, the last step first.
func steps(g *Graph, saga string, all []deed.SagaStepInfo) {
	var before, beside []string // the steps that come before this one, and those that are done at the same time
	undo, last := "", deed.SagaStepInfo{}
	for i, st := range all {
		step := g.add(Node{ID: stepID(saga, st.Name), Kind: KindStep, In: saga, Label: st.Name, Note: doing[st.Does]})
		if !st.Beside || i == 0 {
			before, beside = beside, nil
		}
		beside = append(beside, step)
		for _, b := range before {
			g.link(b, step, "")
		}
		if undo != "" {
			g.back(step, undo, "no")
		}
		if st.Undo {
			back := g.add(Node{ID: undoID(saga, st.Name), Kind: KindUndo, In: saga, Label: "undo " + st.Name})
			if undo != "" {
				g.back(back, undo, "")
			}
			undo = back
		}
		last = st
	}
	if last.Undo { // no step after it can fail, but what is done can be undone
		g.back(stepID(saga, last.Name), undo, "undone")
	}
}

// doing says what a step does.
var doing = map[string]string{
	"send": "sends", "do": "does something outside", "ask": "asks somebody", "await": "waits for an event", "begin": "begins a saga",
}

func stepID(machine, step string) string { return id(KindStep, machine+" "+step) }

func undoID(machine, step string) string { return id(KindUndo, machine+" "+step) }
