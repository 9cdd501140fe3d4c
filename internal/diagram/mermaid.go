package diagram

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Mermaid returns the graph as a flowchart of Mermaid.
func (g Graph) Mermaid() string {
	w := &writer{g: g, keys: map[string]string{}, taken: map[string]bool{}, used: map[string][]string{}}
	if g.Title != "" {
		w.line("---\ntitle: \"" + text(g.Title) + "\"\n---")
	}
	w.line("flowchart LR")
	w.nodes("", "  ")
	for _, e := range g.Edges {
		w.edge(e)
	}
	w.styles()
	return w.out.String()
}

// A writer writes a graph.
type writer struct {
	g     Graph
	out   strings.Builder
	keys  map[string]string // names of nodes, by id
	taken map[string]bool
	used  map[string][]string // classes, and the nodes that have them
}

func (w *writer) line(s string) { w.out.WriteString(s + "\n") }

// nodes writes those that are part of one, "" for those that are part of none.
func (w *writer) nodes(in, indent string) {
	for _, n := range w.g.Nodes {
		if n.In != in {
			continue
		}
		name := w.key(n.ID)
		holds := w.holds(n.ID)
		c := class(n, holds)
		w.used[c] = append(w.used[c], name)
		if !holds {
			open, shut := shape(n.Kind)
			w.line(indent + name + open + label(n) + shut)
			continue
		}
		w.line(indent + "subgraph " + name + "[" + label(n) + "]")
		w.nodes(n.ID, indent+"  ")
		w.line(indent + "end")
	}
}

// holds reports whether a node has parts.
func (w *writer) holds(id string) bool {
	return slices.ContainsFunc(w.g.Nodes, func(n Node) bool { return n.In == id })
}

func (w *writer) edge(e Edge) {
	arrow := "-->"
	if e.Back {
		arrow = "-.->"
	}
	if e.Label != "" {
		arrow += "|" + quoted(e.Label) + "|"
	}
	w.line("  " + w.key(e.From) + " " + arrow + " " + w.key(e.To))
}

// styles writes the classes that are used.
func (w *writer) styles() {
	for _, c := range slices.Sorted(maps.Keys(w.used)) {
		w.line("  classDef " + c + " " + looks[c])
		w.line("  class " + strings.Join(w.used[c], ",") + " " + c)
	}
}

// class is the class of a node: that of its mark, if it has one. A node with
// parts is a frame around them.
func class(n Node, holds bool) string {
	switch {
	case n.Mark != "" && holds:
		return "frame_" + string(n.Mark)
	case n.Mark != "":
		return string(n.Mark)
	}
	return string(n.Kind)
}

// looks are the classes. Each says its own colour of letters, so that it can be
// read on a dark page too.
var looks = map[string]string{
	"domain":    "fill:none,stroke:#94a3b8",
	"aggregate": "fill:#fef9c3,stroke:#a16207,color:#111",
	"entity":    "fill:#fef9c3,stroke:#a16207,color:#111",
	"command":   "fill:#dbeafe,stroke:#1d4ed8,color:#111",
	"event":     "fill:#ffedd5,stroke:#c2410c,color:#111",
	"process":   "fill:#f3e8ff,stroke:#7e22ce,color:#111",
	"saga":      "fill:#faf5ff,stroke:#7e22ce,color:#111",
	"schedule":  "fill:#f3e8ff,stroke:#7e22ce,color:#111",
	"instance":  "fill:#f3e8ff,stroke:#7e22ce,color:#111",
	"step":      "fill:#f3e8ff,stroke:#7e22ce,color:#111",
	"undo":      "fill:#fff,stroke:#7e22ce,color:#111,stroke-dasharray:4 3",
	"timer":     "fill:#fff,stroke:#475569,color:#111",
	"question":  "fill:#fff,stroke:#475569,color:#111",
	"done":      "fill:#bbf7d0,stroke:#15803d,color:#111",
	"now":       "fill:#fde047,stroke:#a16207,color:#111,stroke-width:3px",
	"undone":    "fill:#e5e7eb,stroke:#6b7280,color:#374151,stroke-dasharray:4 3",
	"stuck":     "fill:#fecaca,stroke:#b91c1c,color:#111,stroke-width:3px",
	"failed":    "fill:#fee2e2,stroke:#b91c1c,color:#111",
	"skipped":   "fill:#f8fafc,stroke:#94a3b8,color:#64748b",

	"frame_done":    "fill:none,stroke:#15803d",
	"frame_now":     "fill:none,stroke:#a16207,stroke-width:3px",
	"frame_undone":  "fill:none,stroke:#6b7280,stroke-dasharray:4 3",
	"frame_stuck":   "fill:none,stroke:#b91c1c,stroke-width:3px",
	"frame_skipped": "fill:none,stroke:#94a3b8",
}

// shape is what stands around the label of a node.
func shape(k Kind) (open, shut string) {
	switch k {
	case KindAggregate, KindEntity:
		return "{{", "}}"
	case KindEvent:
		return "([", "])"
	case KindProcess, KindSchedule, KindInstance:
		return "[[", "]]"
	case KindTimer:
		return "((", "))"
	case KindQuestion:
		return "[/", "/]"
	}
	return "[", "]"
}

func label(n Node) string {
	if n.Note == "" {
		return quoted(n.Label)
	}
	return `"` + text(n.Label) + "<br/>" + text(n.Note) + `"`
}

func quoted(s string) string { return `"` + text(s) + `"` }

// text is text that means nothing else to Mermaid.
func text(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" .,:/()-", r) || r > 0xff:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

// key is the name of a node: its id, as far as Mermaid takes that, and something
// to tell it from others.
func (w *writer) key(id string) string {
	if k := w.keys[id]; k != "" {
		return k
	}
	short := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, id)
	k := short
	for n := 2; w.taken[k]; n++ {
		k = fmt.Sprintf("%s_%d", short, n)
	}
	w.keys[id], w.taken[k] = k, true
	return k
}
