package deed

import (
	"cmp"
	"iter"
	"maps"
	"reflect"
	"slices"

	"github.com/deed-dev/deed/internal/wire"
)

// What tools need the Go types of (schemas, documents of the API) is in the
// infos beside the names, and not part of their JSON.

// A DomainInfo describes a domain to tools and people.
type DomainInfo struct {
	Name string `json:"name"`
	Doc  string `json:"doc,omitempty"`
}

// An AggregateInfo describes an aggregate to tools and people.
type AggregateInfo struct {
	Name     string   `json:"name"`
	Domain   string   `json:"domain,omitempty"`
	Doc      string   `json:"doc,omitempty"`
	Events   []string `json:"events"`
	Legacy   []string `json:"legacy,omitempty"` // old names that are still read
	Commands []string `json:"commands"`
	Internal []string `json:"internal,omitempty"` // commands that nobody outside can ask

	State      reflect.Type      `json:"-"`
	Prototypes map[string]any    `json:"-"` // of the commands, by name: the fields are the defaults for what an arriving command does not have
	Rules      map[string]Rules  `json:"-"` // of the commands, by name
	Upcasts    map[string]string `json:"-"` // of the old names those whose events had another shape, and what they become
}

// A ViewInfo describes a view to tools and people.
type ViewInfo struct {
	Name     string   `json:"name"`
	Doc      string   `json:"doc,omitempty"`
	Indexes  []string `json:"indexes,omitempty"`
	Search   []string `json:"search,omitempty"`   // fields whose text is searched
	Inline   bool     `json:"inline,omitzero"`    // it is updated together with the events
	Follower string   `json:"follower,omitempty"` // the projection that writes it; "" = event handlers do
	Roles    []string `json:"roles,omitempty"`    // who may read it, when access is checked; none = readers

	Document reflect.Type `json:"-"`
}

// A StepwiseInfo describes a command that is handled in steps.
type StepwiseInfo struct {
	Name   string   `json:"name"` // for example "league.create"
	Domain string   `json:"domain,omitempty"`
	Doc    string   `json:"doc,omitempty"`
	Steps  []string `json:"steps"`

	Prototype any   `json:"-"` // its fields are the defaults for what an arriving command does not have
	Rules     Rules `json:"-"`
}

// A SagaStepInfo describes a step of a saga.
type SagaStepInfo struct {
	Name   string   `json:"name"`
	Does   string   `json:"does"`             // send, do, ask, await or begin
	Events []string `json:"events,omitempty"` // that it waits for, for example "parcel.arrived"
	Undo   bool     `json:"undo,omitzero"`    // it can be undone
	Beside bool     `json:"beside,omitzero"`  // it is done at the same time as the one before it
}

// A ReactionInfo describes what a process reacts to.
type ReactionInfo struct {
	Kind   string   `json:"kind"`             // event, timer, decision, refused or ended
	Name   string   `json:"name,omitempty"`   // of the timer, the question, the saga
	Events []string `json:"events,omitempty"` // for example "order.placed"
	Starts bool     `json:"starts,omitzero"`
}

// A MachineInfo describes a process or saga.
type MachineInfo struct {
	Kind      string         `json:"kind"` // process, saga or schedule
	Name      string         `json:"name"`
	Domain    string         `json:"domain,omitempty"`
	Doc       string         `json:"doc,omitempty"`
	Version   int            `json:"version"`
	Roles     []string       `json:"roles,omitempty"`     // who may begin and cancel it
	Steps     []SagaStepInfo `json:"steps,omitempty"`     // of a saga
	Reactions []ReactionInfo `json:"reactions,omitempty"` // of a process
	Cron      string         `json:"cron,omitempty"`      // of a schedule: when, and in which time zone

	Prototype any `json:"-"` // of the state that a saga begins with; nil for others
}

// A QueryInfo describes a query to tools and people.
type QueryInfo struct {
	Name   string   `json:"name"`
	Domain string   `json:"domain,omitempty"`
	Doc    string   `json:"doc,omitempty"`
	Parts  bool     `json:"parts,omitzero"`  // the answer is put together from parts
	Async  bool     `json:"async,omitzero"`  // it is answered in the background
	Roles  []string `json:"roles,omitempty"` // who may ask it, when access is checked; none = readers
	Topic  string   `json:"topic,omitempty"` // on which its answers can be published

	Parameters reflect.Type `json:"-"`
	Result     reflect.Type `json:"-"`
}

// Info describes what a runtime runs.
type Info struct {
	Domains    []DomainInfo    `json:"domains"`
	Aggregates []AggregateInfo `json:"aggregates"`
	Stepwise   []StepwiseInfo  `json:"stepwise"`
	Machines   []MachineInfo   `json:"machines"` // processes and sagas
	Queries    []QueryInfo     `json:"queries"`
	Views      []ViewInfo      `json:"views"`
	Topics     []TopicInfo     `json:"topics"`
	Followers  []string        `json:"followers"`
}

// Describe lists what the runtime runs: the domains in the order of Config,
// everything else in the order of names.
func (rt *Runtime) Describe() Info {
	info := Info{Domains: []DomainInfo{}, Aggregates: []AggregateInfo{}, Stepwise: []StepwiseInfo{}, Machines: []MachineInfo{}, Queries: []QueryInfo{}, Views: []ViewInfo{}, Topics: rt.Topics(), Followers: []string{}}
	domains := map[string]string{} // by key of the part
	for _, d := range rt.cfg.Domains {
		info.Domains = append(info.Domains, DomainInfo{d.Name, d.Doc})
		for _, p := range d.Parts {
			if p, ok := p.(keyed); ok {
				domains[p.key()] = d.Name
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rt.kinds)) {
		a := rt.kinds[name].describe()
		a.Domain = domains[name]
		info.Aggregates = append(info.Aggregates, a)
	}
	for _, v := range slices.SortedFunc(maps.Values(rt.views), func(a, b *view) int { return cmp.Compare(a.name, b.name) }) {
		info.Views = append(info.Views, ViewInfo{v.name, v.doc, v.indexes, v.search, rt.inlineOf(v.name) != nil, v.follower, v.roles, v.typ})
	}
	for _, f := range rt.followers {
		info.Followers = append(info.Followers, f.Name)
	}
	slices.Sort(info.Followers)
	for _, name := range slices.Sorted(maps.Keys(rt.stepwise)) {
		p := rt.stepwise[name]
		s := StepwiseInfo{Name: name, Domain: domains[name], Doc: p.doc, Prototype: p.proto, Rules: p.rules}
		for _, st := range p.steps {
			s.Steps = append(s.Steps, st.name)
		}
		info.Stepwise = append(info.Stepwise, s)
	}
	for _, name := range slices.Sorted(maps.Keys(rt.questions)) {
		q := rt.questions[name]
		info.Queries = append(info.Queries, QueryInfo{name, domains[queryCategory+"/"+name], q.doc, q.fan != nil, q.async, q.roles, q.topic, q.params, q.result})
	}
	for _, key := range slices.Sorted(maps.Keys(rt.machines)) {
		d := rt.machines[key]
		info.Machines = append(info.Machines, MachineInfo{
			Kind: d.kind, Name: d.name, Domain: domains[key], Doc: d.doc, Version: d.current, Roles: d.roles, Steps: d.steps, Reactions: d.reactions, Cron: d.cron, Prototype: d.proto,
		})
	}
	return info
}

// A keyed part is one that Describe lists with its domain. The key is the one
// under which the runtime knows it.
type keyed interface{ key() string }

func (a Aggregate[S]) key() string { return a.Name }
func (s Stepwise[C]) key() string  { return s.Name }
func (d Process[P]) key() string   { return processCategory + "/" + d.Name }
func (g Saga[S]) key() string      { return sagaCategory + "/" + g.Name }
func (s Schedule) key() string     { return scheduleCategory + "/" + s.Name }

func (k *kind) describe() AggregateInfo {
	legacy := append(slices.Collect(maps.Keys(k.legacy)), slices.Collect(maps.Keys(k.upcasts))...)
	slices.Sort(legacy)
	info := AggregateInfo{
		Name: k.name, Doc: k.doc, Legacy: legacy,
		Events: names(k.events), Commands: sorted(k.public()), Internal: names(k.internal),
		State: k.state, Prototypes: map[string]any{}, Rules: map[string]Rules{}, Upcasts: map[string]string{},
	}
	for name, cmd := range k.prototypes {
		info.Prototypes[name], info.Rules[name] = cmd, k.rulesOf(name)
	}
	for name, u := range k.upcasts {
		info.Upcasts[name] = u.To
	}
	return info
}

// names are the keys of a map in order; never nil, for JSON.
func names[V any](of map[string]V) []string { return sorted(maps.Keys(of)) }

// sorted is a list that is never null in JSON.
func sorted(names iter.Seq[string]) []string {
	all := slices.AppendSeq([]string{}, names)
	slices.Sort(all)
	return all
}

// EventType returns the Go type as which events stored in a category under a
// name are read, old names included.
func (rt *Runtime) EventType(category, name string) (reflect.Type, bool) {
	return rt.codec.TypeOf(wire.Name{Category: category, Type: name})
}

// DecodeEvent returns the event that is stored in a category under a name.
func (rt *Runtime) DecodeEvent(category, name string, data []byte) (any, error) {
	return rt.codec.Decode(wire.Name{Category: category, Type: name}, data)
}

// EncodeEvent returns the JSON under which an event is stored.
func (rt *Runtime) EncodeEvent(event any) ([]byte, error) {
	_, data, err := rt.codec.Encode(event)
	return data, err
}
