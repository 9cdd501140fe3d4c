package diagram

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deed-dev/deed"
)

// Instance draws one run of a process or saga and marks how far it has come. A
// program that has another version of the definition than the one the instance
// was begun with, or none, knows only the steps that were begun.
func Instance(info deed.Info, i deed.Instance) Graph {
	g := &Graph{Title: title(i), Nodes: []Node{}, Edges: []Edge{}} // lists in JSON too
	def := id(Kind(i.Kind), i.Name)
	whole := g.add(Node{ID: def, Kind: Kind(i.Kind), Label: i.Name + " " + i.ID, Note: string(i.State), Mark: markOf(i.State)})
	if i.Parent != "" {
		g.link(g.add(Node{ID: id(KindInstance, i.Parent), Kind: KindInstance, Label: plain(i.Parent)}), whole, "began")
	}
	if len(i.Steps) > 0 || i.Kind == "saga" {
		drawSteps(g, def, info, i)
	}
	drawUndo(g, def, i)
	drawTimers(g, def, i)
	drawTasks(g, def, i)
	for _, e := range i.Entities {
		g.link(whole, g.add(Node{ID: id(KindEntity, e), Kind: KindEntity, Label: e}), "")
	}
	return *g
}

func title(i deed.Instance) string {
	s := fmt.Sprintf("%s %s %s: %s", i.Kind, i.Name, i.ID, i.State)
	if i.Reason != "" {
		s += ", " + clip(i.Reason)
	}
	return s
}

// plain is the name of an instance's stream as people write it.
func plain(stream string) string { return strings.TrimPrefix(stream, "$") }

func markOf(s deed.InstanceState) Mark {
	switch s {
	case deed.InstanceCompleted:
		return Done
	case deed.InstanceUndone:
		return Undone
	case deed.InstanceStuck:
		return Stuck
	case deed.InstanceClosed:
		return Skipped
	}
	return Now
}

// drawSteps draws the steps of a saga, and marks those that were begun.
func drawSteps(g *Graph, saga string, info deed.Info, i deed.Instance) {
	steps(g, saga, definition(info, i))
	for _, st := range i.Steps {
		n := g.node(stepID(saga, st.Name))
		n.Mark = markOfStep(st, i)
		if back := g.node(undoID(saga, st.Name)); back != nil {
			if back.Mark = markOfUndo(st, i); back.Mark != "" {
				n = back // what is said of the last attempt is said of undoing
			}
		}
		n.Note = cmp.Or(noteOf(st), n.Note)
	}
}

// definition are the steps as the program has them, if that is the version of
// the instance, else those that were begun.
func definition(info deed.Info, i deed.Instance) (all []deed.SagaStepInfo) {
	for _, m := range info.Machines {
		if m.Kind == i.Kind && m.Name == i.Name && m.Version == i.Definition {
			all = slices.Clone(m.Steps)
		}
	}
	for _, st := range i.Steps {
		if !slices.ContainsFunc(all, func(d deed.SagaStepInfo) bool { return d.Name == st.Name }) {
			back := st.State == deed.StepUndoing || st.State == deed.StepUndone
			all = append(all, deed.SagaStepInfo{Name: st.Name, Undo: back})
		}
	}
	return all
}

func markOfStep(st deed.InstanceStep, i deed.Instance) Mark {
	switch st.State {
	case deed.StepDone:
		return Done
	case deed.StepSkipped:
		return Skipped
	case deed.StepRefused, deed.StepFailed:
		return Failed
	case deed.StepUndoing, deed.StepUndone:
		return Undone
	}
	switch {
	case i.State.Over(): // nobody waits for it any more
		return Skipped
	case i.State == deed.InstanceStuck && !i.TurnedBack && i.Step == st.Name:
		return Stuck
	}
	return Now
}

func markOfUndo(st deed.InstanceStep, i deed.Instance) Mark {
	switch {
	case st.State == deed.StepUndone:
		return Done
	case st.State == deed.StepUndoing && i.State == deed.InstanceStuck:
		return Stuck
	case st.State == deed.StepUndoing && i.State.Over():
		return Skipped
	case st.State == deed.StepUndoing:
		return Now
	}
	return ""
}

// noteOf says what is to be known about a step beside its state.
func noteOf(st deed.InstanceStep) string {
	var parts []string
	if st.Error != "" {
		parts = append(parts, clip(st.Error))
	}
	if st.Attempts > 1 {
		parts = append(parts, strconv.Itoa(st.Attempts)+" attempts")
	}
	if !st.Next.IsZero() {
		parts = append(parts, "again at "+when(st.Next))
	}
	return strings.Join(parts, ", ")
}

// drawUndo draws the commands that a process is going to send should it fail,
// or is sending now.
func drawUndo(g *Graph, process string, i deed.Instance) {
	last := process
	for n, u := range i.Undo {
		node := Node{ID: id(KindUndo, fmt.Sprintf("%s %d", process, len(i.Undo)-n)), Kind: KindUndo, Label: "undo: " + u.Command, Note: u.Stream}
		switch {
		case n == 0 && i.State == deed.InstanceStuck:
			node.Mark = Stuck
		case n == 0 && i.State == deed.InstanceUndoing:
			node.Mark = Now
		}
		g.back(last, g.add(node), "")
		last = node.ID
	}
}

func drawTimers(g *Graph, of string, i deed.Instance) {
	for _, name := range slices.Sorted(maps.Keys(i.Timers)) {
		t := g.add(Node{ID: id(KindTimer, of+" "+name), Kind: KindTimer, Label: name, Note: when(i.Timers[name]), Mark: Now})
		g.link(t, holder(g, of, name), "")
	}
}

func drawTasks(g *Graph, of string, i deed.Instance) {
	for _, name := range slices.Sorted(maps.Keys(i.Tasks)) {
		t := g.add(Node{ID: id(KindQuestion, of+" "+name), Kind: KindQuestion, Label: "task " + i.Tasks[name], Note: name, Mark: Now})
		g.link(t, holder(g, of, name), "")
	}
}

// holder is the step that a timer or question belongs to, or the whole if it
// has none. Timers of questions have names like "due:approve".
func holder(g *Graph, of, name string) string {
	if _, question, ok := strings.Cut(name, ":"); ok {
		name = question
	}
	if step := stepID(of, name); g.has(step) {
		return step
	}
	return of
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// clip bounds what is said in a drawing.
func clip(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}
