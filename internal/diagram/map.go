package diagram

import (
	"slices"
	"strings"

	"github.com/deed-dev/deed"
)

// Map draws what a program is made of, or one domain of it with the events from
// elsewhere that it takes in. The domain "" is the whole program.
func Map(info deed.Info, domain string) Graph {
	m := &mapper{info: info, old: legacy(info), several: domain == "" && len(inhabited(info)) > 1}
	m.Title = domain
	for _, d := range inhabited(info) {
		if domain == "" || d.Name == domain {
			m.domain(d)
		}
	}
	return m.finished()
}

// inhabited are the domains of which there is something to draw.
func inhabited(info deed.Info) []deed.DomainInfo {
	some := map[string]bool{}
	for _, a := range info.Aggregates {
		some[a.Domain] = true
	}
	for _, s := range info.Stepwise {
		some[s.Domain] = true
	}
	for _, m := range info.Machines {
		some[m.Domain] = true
	}
	return slices.DeleteFunc(slices.Clone(info.Domains), func(d deed.DomainInfo) bool { return !some[d.Name] })
}

// legacy are the old names of events, which are not drawn.
func legacy(info deed.Info) map[string]bool {
	old := map[string]bool{}
	for _, a := range info.Aggregates {
		for _, e := range a.Legacy {
			old[a.Name+"."+e] = true
		}
	}
	return old
}

// A mapper makes a map.
type mapper struct {
	Graph
	info    deed.Info
	old     map[string]bool
	several bool // domains, so each is a node that holds what belongs to it
	in      string
}

func (m *mapper) domain(d deed.DomainInfo) {
	if m.several {
		m.in = m.add(Node{ID: id(KindDomain, d.Name), Kind: KindDomain, Label: d.Name})
	}
	for _, a := range m.info.Aggregates {
		if a.Domain == d.Name {
			m.aggregate(a)
		}
	}
	for _, s := range m.info.Stepwise {
		if s.Domain == d.Name {
			m.stepwise(s)
		}
	}
	for _, x := range m.info.Machines {
		if x.Domain == d.Name {
			m.machine(x)
		}
	}
}

// aggregate draws the commands of an aggregate on one side of it and its events
// on the other.
func (m *mapper) aggregate(a deed.AggregateInfo) {
	middle := id(KindAggregate, a.Name)
	for _, c := range a.Commands {
		m.link(m.put(KindCommand, a.Name+"."+c, c), middle, "")
	}
	for _, c := range a.Internal {
		name := m.put(KindCommand, a.Name+"."+c, c)
		m.node(name).Note = "internal"
		m.link(name, middle, "")
	}
	m.put(KindAggregate, a.Name, a.Name)
	for _, e := range a.Events {
		m.link(middle, m.put(KindEvent, a.Name+"."+e, e), "")
	}
}

// put adds a node to what is being drawn.
func (m *mapper) put(k Kind, name, label string) string {
	return m.add(Node{ID: id(k, name), Kind: k, In: m.in, Label: label})
}

// stepwise draws a command that is handled in steps.
func (m *mapper) stepwise(s deed.StepwiseInfo) {
	last := m.put(KindCommand, s.Name, s.Name)
	for _, name := range s.Steps {
		step := m.put(KindStep, s.Name+" "+name, name)
		m.link(last, step, "")
		last = step
	}
}

// machine draws a process, saga or schedule, and what it takes in.
func (m *mapper) machine(x deed.MachineInfo) {
	name := m.put(Kind(x.Kind), x.Name, x.Name)
	m.node(name).Note = x.Cron
	steps(&m.Graph, name, x.Steps)
	for _, st := range x.Steps {
		for _, e := range st.Events {
			m.takes(e, stepID(name, st.Name), "")
		}
	}
	for _, r := range x.Reactions {
		m.reaction(name, x.Name, r)
	}
}

// reaction draws what a process takes in.
func (m *mapper) reaction(process, name string, r deed.ReactionInfo) {
	switch r.Kind {
	case "event":
		how := ""
		if r.Starts {
			how = "begins"
		}
		for _, e := range r.Events {
			m.takes(e, process, how)
		}
	case "timer":
		m.link(m.put(KindTimer, name+" "+r.Name, r.Name), process, "")
	case "decision":
		m.link(m.put(KindQuestion, name+" "+r.Name, r.Name), process, "")
	case "ended":
		m.link(id(KindSaga, r.Name), process, "ended")
	}
}

// takes draws that an event is taken in.
func (m *mapper) takes(event, by, how string) {
	if !m.old[event] {
		m.link(id(KindEvent, event), by, how)
	}
}

// finished is the graph with what arrows come from that belongs to other
// domains.
func (m *mapper) finished() Graph {
	for _, e := range m.Edges {
		kind, name, _ := strings.Cut(e.From, " ")
		m.add(Node{ID: e.From, Kind: Kind(kind), Label: name})
	}
	return m.Graph
}
