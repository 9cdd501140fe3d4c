package deed

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// An InstanceState says where a running process or saga is.
type InstanceState string

// The states of an instance. Completed, undone and closed ones are over.
const (
	InstanceRunning   InstanceState = "running"   // it goes on by itself, or waits for what it said it waits for
	InstanceUndoing   InstanceState = "undoing"   // what it did is being undone
	InstanceStuck     InstanceState = "stuck"     // somebody has to do something: see Instances
	InstanceCompleted InstanceState = "completed" // done
	InstanceUndone    InstanceState = "undone"    // it failed or was cancelled, and what it had done is undone
	InstanceClosed    InstanceState = "closed"    // somebody has declared it over, as it stands
)

// Over reports whether nothing more becomes of an instance in this state.
func (s InstanceState) Over() bool {
	return s == InstanceCompleted || s == InstanceUndone || s == InstanceClosed
}

// An Instance is one run of a [Process] or [Saga], as its records tell it.
type Instance struct {
	Kind        string               `json:"kind"` // "process", "saga" or "schedule"
	Name        string               `json:"name"` // of the process or saga
	ID          string               `json:"id"`
	Definition  int                  `json:"definition,omitzero"` // the Version of the process or saga it was begun with
	State       InstanceState        `json:"state"`
	Data        json.RawMessage      `json:"data,omitzero"` // its own state, the P or S
	Steps       []InstanceStep       `json:"steps,omitempty"`
	Step        string               `json:"step,omitempty"`        // the one it is at
	Timers      map[string]time.Time `json:"timers,omitempty"`      // when which goes off
	Tasks       map[string]string    `json:"tasks,omitempty"`       // name of an open question -> id of the task
	Undo        []UndoCommand        `json:"undo,omitempty"`        // what a process is going to send should it fail, the last one first
	Code        string               `json:"code,omitempty"`        // why it is undone or stuck
	Reason      string               `json:"reason,omitempty"`      // the same in a sentence
	Cause       string               `json:"cause,omitempty"`       // why it was turned back; also of one that got stuck then
	Parent      string               `json:"parent,omitempty"`      // stream of the instance that has begun it
	Entities    []string             `json:"entities,omitempty"`    // streams it sent commands to, the first hundred
	Commands    int                  `json:"commands,omitzero"`     // that it sent and that were accepted
	TurnedBack  bool                 `json:"turned_back,omitzero"`  // it is being undone, or was when it got stuck or ended
	Ignored     int                  `json:"ignored,omitzero"`      // inputs that came after it was over
	Wake        time.Time            `json:"wake_at,omitzero"`      // when it goes on by itself
	Correlation string               `json:"correlation,omitempty"` // id of the flow it belongs to
	Actor       string               `json:"actor,omitempty"`       // who has begun it
	Trace       string               `json:"trace,omitempty"`       // of who has begun it, see Call.Trace
	Started     time.Time            `json:"started_at,omitzero"`
	Changed     time.Time            `json:"changed_at,omitzero"`
	Finished    time.Time            `json:"finished_at,omitzero"`

	seen    map[string]uint64 // of each stream, up to which version its events were taken in
	cause   *cause            // why it was turned back; nil: it was not
	more    bool              // there is more to do than was recorded
	rounds  int               // how often somebody has asked for it to be tried again
	version uint64            // of its own stream
}

// An InstanceStep is how a step of a saga is doing.
type InstanceStep struct {
	Name     string    `json:"name"`
	State    StepState `json:"state"`
	Attempts int       `json:"attempts,omitzero"`
	Error    string    `json:"error,omitempty"`  // of the last attempt that failed, or why it was skipped
	Unclear  bool      `json:"unclear,omitzero"` // it may have been done, wholly or in part
	Next     time.Time `json:"next_at,omitzero"` // when it is tried again
	Started  time.Time `json:"started_at,omitzero"`
	Finished time.Time `json:"finished_at,omitzero"`
}

// A StepState says how far a step of a saga is.
type StepState string

// The states of a step of a saga.
const (
	StepBegun   StepState = "begun"   // it is being done, or is going to be tried again
	StepWaiting StepState = "waiting" // for an event, a decision, or the end of another saga
	StepDone    StepState = "done"
	StepSkipped StepState = "skipped" // its When said no, or somebody did
	StepRefused StepState = "refused" // the domain said no
	StepFailed  StepState = "failed"  // it failed too often
	StepUndoing StepState = "undoing" // it is being undone
	StepUndone  StepState = "undone"
)

// An UndoCommand is a command that a process sends if it fails.
type UndoCommand struct {
	Stream  string          `json:"stream"`
	Command string          `json:"command"`
	Body    json.RawMessage `json:"body"`
}

// Categories of the streams of instances, "$process/<name>/<id>". Schedules have
// one of their own, see [Schedule].
const (
	processCategory = "$process"
	sagaCategory    = "$saga"
)

func (s *Instance) stream() string { return instanceStream("$"+s.Kind, s.Name, s.ID) }

func instanceStream(category, name, id string) string { return category + "/" + name + "/" + id }

// why is what made the instance turn back; zero: it did not.
func (s *Instance) why() Reason {
	if s.cause == nil {
		return Reason{}
	}
	return Reason{s.cause.Code, s.cause.Reason}
}

// goesForward reports whether the instance is not over, and was not turned back.
func (s *Instance) goesForward() bool {
	return s.State == InstanceRunning || s.State == InstanceStuck && !s.TurnedBack
}

// rests reports whether an instance stays as it is until somebody asks for
// something else.
func (s *Instance) rests() bool { return s.State.Over() || s.State == InstanceStuck }

// step returns a step that was begun, or nil.
func (s *Instance) step(name string) *InstanceStep {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			return &s.Steps[i]
		}
	}
	return nil
}

// take folds a record.
func (s *Instance) take(m Meta, e moved) {
	if s.Kind == "" {
		s.begin(m, e)
	}
	s.Changed, s.Wake, s.version = m.Time, e.Wake, m.Version
	if f := e.Input.From; f != "" && e.Input.Version > 0 {
		if s.seen == nil {
			s.seen = map[string]uint64{}
		}
		s.seen[f] = max(s.seen[f], e.Input.Version)
	}
	if e.Ignored {
		s.Ignored++
	}
	if e.State != nil {
		s.Data = e.State
	}
	s.more = e.More
	if e.Input.Kind == inputRequest && e.Input.Request == requestRetry {
		s.rounds++
	}
	for _, t := range e.Timers {
		s.setTimer(t.Name, t.At)
	}
	for _, t := range e.Tasks {
		s.setTask(t.Name, t.Task)
	}
	for _, st := range e.Steps {
		s.moveStep(m, st)
	}
	for _, stream := range e.Touched {
		s.touched(stream)
	}
	for _, c := range e.Sent {
		s.Commands++
		s.touched(c.Stream)
		if c.Undo != nil {
			s.Undo = append([]UndoCommand{*c.Undo}, s.Undo...)
		}
	}
	s.Undo = s.Undo[min(e.Undid, len(s.Undo)):]
	s.settle(m, e)
}

func (s *Instance) begin(m Meta, e moved) {
	s.Kind, s.Definition, s.Parent, s.State = m.Aggregate[1:], e.Definition, e.Parent, InstanceRunning
	s.Name, s.ID = splitInstance(m.ID)
	s.Correlation, s.Actor, s.Trace, s.Started = m.Correlation, m.Actor, m.Trace, m.Time
}

// settle takes in what became of the instance as a whole.
func (s *Instance) settle(m Meta, e moved) {
	if e.Cause != nil { // it may have got stuck, or be over, in the same breath
		s.cause, s.Cause, s.TurnedBack = e.Cause, e.Cause.Reason, true
	}
	if e.Status == "" {
		return
	}
	s.State, s.Code, s.Reason = e.Status, e.Code, e.Reason
	s.Finished = time.Time{}
	if s.State.Over() {
		s.Finished, s.Step = m.Time, ""
		s.Timers, s.Tasks = nil, nil
	}
}

func (s *Instance) setTimer(name string, at time.Time) {
	if at.IsZero() {
		delete(s.Timers, name)
		return
	}
	if s.Timers == nil {
		s.Timers = map[string]time.Time{}
	}
	s.Timers[name] = at
}

func (s *Instance) setTask(name, task string) {
	if task == "" {
		delete(s.Tasks, name)
		return
	}
	if s.Tasks == nil {
		s.Tasks = map[string]string{}
	}
	s.Tasks[name] = task
}

func (s *Instance) moveStep(m Meta, e stepMoved) {
	st := s.step(e.Name)
	if st == nil {
		s.Steps = append(s.Steps, InstanceStep{Name: e.Name, Started: m.Time})
		st = &s.Steps[len(s.Steps)-1]
	}
	st.State, st.Attempts, st.Error, st.Unclear, st.Next, st.Finished = e.State, e.Attempts, e.Error, e.Unclear, e.Next, time.Time{}
	if s.Step = e.Name; e.State != StepBegun && e.State != StepWaiting && e.State != StepUndoing {
		st.Finished = m.Time
	}
}

func (s *Instance) touched(stream string) {
	if len(s.Entities) < maxNamed && !slices.Contains(s.Entities, stream) {
		s.Entities = append(s.Entities, stream)
	}
}

// earliest is when the instance has to be looked at again because of a timer;
// zero: never.
func (s *Instance) earliest() (at time.Time) {
	for _, t := range s.Timers {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return at
}

// due are the timers that have gone off by now, the earliest first.
func (s *Instance) due(now time.Time) []string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(s.Timers)), func(n string) bool { return s.Timers[n].After(now) })
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(s.Timers[a].Compare(s.Timers[b]), cmp.Compare(a, b))
	})
	return names
}

// gatherInstances is how long the view of instances lets their records gather. Most
// are over sooner than that, and have one document written instead of one for each
// thing they do.
const gatherInstances = 100 * time.Millisecond

// instances is the view of all instances of processes and sagas.
func instances() Projection[Instance] {
	return Projection[Instance]{
		Name:    "instances",
		Doc:     "Every run of a process or saga, and how it is doing.",
		Indexes: []string{"kind", "name", "state", "definition", "changed_at"},
		keyOf:   func(stream string) string { return stream[1:] }, // "saga/<name>/<id>"
		gather:  gatherInstances,
		On: []Handler[Instance]{{handler: handler{
			event: movedType, meta: true,
			apply: func(doc any, m Meta, e any) {
				s := doc.(*Instance)
				s.take(m, e.(moved))
				s.seen, s.cause, s.more, s.rounds = nil, nil, false, 0 // only the instance itself has to know
			},
		}}},
	}
}
