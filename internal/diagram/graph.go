// Package diagram draws what a program is made of: commands, what they are
// asked of, the events that come of them, and the processes and sagas that go
// on from there; and one process or saga with how far it has come. It makes
// graphs of descriptions and knows no runtime; graphs can be had as Mermaid.
//
// What is decided when a program runs is not in its description: which event a
// command leads to, which commands a reaction or a step sends. A map has arrows
// as far as the description goes; the drawing of an instance has those to the
// entities that it sent commands to.
package diagram

// A Graph is a drawing: nodes and what leads from one to another.
type Graph struct {
	Title string `json:"title,omitempty"`
	Nodes []Node `json:"nodes"`
	Edges []Edge `json:"edges"`
}

// A Node is a thing in a graph.
type Node struct {
	ID    string `json:"id"` // its kind and name, for example "command order.submit"
	Kind  Kind   `json:"kind"`
	In    string `json:"in,omitempty"` // id of the node that it is part of
	Label string `json:"label"`
	Note  string `json:"note,omitempty"` // more, in a few words
	Mark  Mark   `json:"mark,omitempty"` // of an instance: how it stands
}

// A Kind says what a node is.
type Kind string

// The kinds of nodes.
const (
	KindDomain    Kind = "domain"
	KindAggregate Kind = "aggregate"
	KindEntity    Kind = "entity" // one, by its stream
	KindCommand   Kind = "command"
	KindEvent     Kind = "event"
	KindProcess   Kind = "process"
	KindSaga      Kind = "saga"
	KindSchedule  Kind = "schedule"
	KindStep      Kind = "step" // of a saga, or of a command that is handled in steps
	KindUndo      Kind = "undo" // of a step, or of a command that a process has sent
	KindTimer     Kind = "timer"
	KindQuestion  Kind = "question"
	KindInstance  Kind = "instance" // another one, by its stream
)

// A Mark says how part of an instance stands.
type Mark string

// The marks. What has none lies ahead.
const (
	Done    Mark = "done"
	Now     Mark = "now" // it is being done, tried again or waited for
	Undone  Mark = "undone"
	Stuck   Mark = "stuck"   // somebody has to repair it
	Failed  Mark = "failed"  // it was refused, or failed too often
	Skipped Mark = "skipped" // it was passed over
)

// An Edge leads from one node to another, both by their ids.
type Edge struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Label string `json:"label,omitempty"`
	Back  bool   `json:"back,omitzero"` // it leads to undoing
}

// add adds a node unless the graph has it.
func (g *Graph) add(n Node) string {
	if !g.has(n.ID) {
		g.Nodes = append(g.Nodes, n)
	}
	return n.ID
}

func (g *Graph) has(id string) bool { return g.node(id) != nil }

// node returns a node, to be changed, or nil.
func (g *Graph) node(id string) *Node {
	for i := range g.Nodes {
		if g.Nodes[i].ID == id {
			return &g.Nodes[i]
		}
	}
	return nil
}

func (g *Graph) link(from, to, label string) {
	g.Edges = append(g.Edges, Edge{From: from, To: to, Label: label})
}

func (g *Graph) back(from, to, label string) {
	g.Edges = append(g.Edges, Edge{From: from, To: to, Label: label, Back: true})
}

// id names a node.
func id(k Kind, name string) string { return string(k) + " " + name }
