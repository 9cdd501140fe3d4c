package deed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A Question is what somebody has to decide so that a process or saga can go on.
type Question struct {
	Text      string          `json:"text"`                  // for the one who decides
	Roles     []string        `json:"roles,omitempty"`       // who may decide; none = administrators
	Choices   []string        `json:"choices,omitempty"`     // default: approve, reject
	Form      json.RawMessage `json:"form,omitzero"`         // JSON Schema of the data that goes with a decision; none: no data
	Within    time.Duration   `json:"within,omitzero"`       // how long there is; 0 = for ever
	Otherwise string          `json:"otherwise,omitempty"`   // the choice that counts if nobody decides in time; "": none, it is overdue
	Escalate  time.Duration   `json:"escalate,omitzero"`     // after that, those with the roles To may decide too; 0 = never
	To        []string        `json:"escalate_to,omitempty"` // roles
}

// A Decision is the answer to a [Question].
type Decision struct {
	Task    string          `json:"task"` // id of the task
	Choice  string          `json:"choice"`
	Reason  string          `json:"reason,omitempty"`
	Data    json.RawMessage `json:"data,omitzero"` // as the question's Form wants it
	By      string          `json:"by,omitempty"`  // actor; "" = nobody said, or nobody did
	Overdue bool            `json:"overdue,omitzero"`
}

// A Task is a question that a process or saga has asked.
type Task struct {
	ID        string    `json:"id"`
	Instance  string    `json:"instance"` // stream of the instance that asks
	Name      string    `json:"name"`     // of the question
	Question  Question  `json:"question"`
	State     string    `json:"state"`           // open, decided, overdue or withdrawn
	Roles     []string  `json:"roles,omitempty"` // who may decide now
	Claimed   string    `json:"claimed_by,omitempty"`
	Decision  *Decision `json:"decision,omitempty"`
	Reason    string    `json:"reason,omitempty"` // why it was withdrawn
	Escalated bool      `json:"escalated,omitzero"`
	Due       time.Time `json:"due_at,omitzero"`
	Opened    time.Time `json:"opened_at,omitzero"`
	Closed    time.Time `json:"closed_at,omitzero"`

	version uint64
}

// The states of a task.
const (
	TaskOpen      = "open"
	TaskDecided   = "decided"
	TaskOverdue   = "overdue"   // nobody has decided in time
	TaskWithdrawn = "withdrawn" // the instance needs no answer any more
)

// The events of a task's stream, "$task/<id>".
type (
	taskOpened struct {
		Instance string    `json:"instance"`
		Name     string    `json:"name"`
		Question Question  `json:"question"`
		Due      time.Time `json:"due_at,omitzero"`
	}
	taskClaimed   struct{}
	taskReleased  struct{}
	taskEscalated struct {
		To []string `json:"to"`
	}
	taskDecided struct {
		Decision Decision `json:"decision"`
	}
	taskClosed struct {
		Reason  string `json:"reason,omitempty"`
		Overdue bool   `json:"overdue,omitzero"`
	}
)

const taskCategory = "$task"

// taskEvents are the events under the names by which they are stored.
func taskEvents() map[string]any {
	return map[string]any{
		"opened": taskOpened{}, "claimed": taskClaimed{}, "released": taskReleased{}, "escalated": taskEscalated{},
		"decided": taskDecided{}, "closed": taskClosed{},
	}
}

func declareTasks(c *wire.Codec) error {
	var errs []error
	for name, proto := range taskEvents() {
		errs = append(errs, c.Declare(wire.Name{Category: taskCategory, Type: name}, proto))
	}
	return errors.Join(errs...)
}

// take folds an event of the task's stream.
func (t *Task) take(m Meta, e any) {
	t.version = m.Version
	switch e := e.(type) {
	case taskOpened:
		t.ID, t.Instance, t.Name, t.Question, t.Due, t.Opened = m.ID, e.Instance, e.Name, e.Question, e.Due, m.Time
		t.State, t.Roles = TaskOpen, e.Question.Roles
	case taskClaimed:
		t.Claimed = m.Actor
	case taskReleased:
		t.Claimed = ""
	case taskEscalated:
		t.Escalated = true
		t.Roles = append(slices.Clone(t.Roles), e.To...)
	case taskDecided:
		t.State, t.Decision, t.Closed = TaskDecided, &e.Decision, m.Time
	case taskClosed:
		t.State, t.Reason, t.Closed = TaskWithdrawn, e.Reason, m.Time
		if e.Overdue {
			t.State = TaskOverdue
		}
	}
}

// tasks is the view of all tasks.
func tasks() Projection[Task] {
	return Projection[Task]{
		Name: "tasks", Doc: "What processes and sagas have asked people, and the answers.",
		Indexes: []string{"state", "instance", "claimed_by", "due_at", "opened_at"},
		On: []Handler[Task]{
			ofTask[taskOpened](), ofTask[taskClaimed](), ofTask[taskReleased](), ofTask[taskEscalated](), ofTask[taskDecided](), ofTask[taskClosed](),
		},
	}
}

func ofTask[E any]() Handler[Task] {
	return On(func(t *Task, e Recorded[E]) { t.take(e.Meta, e.Event) })
}

// choices are what can be chosen.
func (q Question) choices() []string {
	if len(q.Choices) == 0 {
		return []string{"approve", "reject"}
	}
	return q.Choices
}

func (q Question) check() error {
	if q.Otherwise != "" && !slices.Contains(q.choices(), q.Otherwise) {
		return fmt.Errorf("the choice %q that counts when time is up is none of %s", q.Otherwise, strings.Join(q.choices(), ", "))
	}
	_, err := q.schema()
	return err
}

// schema is what the data of a decision has to be like; nil: there is none.
func (q Question) schema() (*jsonschema.Schema, error) {
	if len(q.Form) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(q.Form)))
	if err != nil {
		return nil, fmt.Errorf("the form is no JSON Schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("deed:form", doc); err != nil {
		return nil, fmt.Errorf("the form is no JSON Schema: %w", err)
	}
	s, err := c.Compile("deed:form")
	if err != nil {
		return nil, fmt.Errorf("the form is no JSON Schema: %w", err)
	}
	return s, nil
}

// accepts reports what is wrong with a decision.
func (q Question) accepts(d Decision) error {
	if !slices.Contains(q.choices(), d.Choice) {
		return Invalid{Field: "choice", Detail: "must be one of " + strings.Join(q.choices(), ", ")}
	}
	schema, err := q.schema()
	if err != nil {
		return err
	}
	if schema == nil {
		if len(d.Data) > 0 && string(d.Data) != "null" {
			return Invalid{Field: "data", Detail: "is not asked for"}
		}
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(cmp.Or(string(d.Data), "{}")))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		return Invalid{Field: "data", Detail: "is not as the form wants it: " + strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return nil
}

// unless is the error of a decision that is not the first of the choices.
func (d Decision) unless(q Question) error {
	if d.Choice == q.choices()[0] {
		return nil
	}
	if d.Overdue && d.Choice == "" {
		return Reason{codeOverdue, "nobody has decided in time"}
	}
	return Reason{"decided_" + d.Choice, cmp.Or(d.Reason, "it was decided: "+d.Choice)}
}

// Timers that belong to a question.
const (
	dueTimer      = "due:"
	escalateTimer = "escalate:"
)

// open opens a task.
func (p *plan) open(x *turn, name string, q Question) error {
	if err := q.check(); err != nil {
		return engine.Permanent(fmt.Errorf("deed: question %s of %s: %w", name, x.stream, err))
	}
	if prior := x.cell.state.Tasks[name]; prior != "" {
		if err := p.withdraw(x, name, "it was asked again"); err != nil {
			return err
		}
	}
	id := x.deriveID("task " + strconv.Itoa(len(p.tasks)) + " " + name)
	p.tasks[id] = &plannedTask{write: taskWrite(id, 0)}
	e := taskOpened{Instance: x.stream, Name: name, Question: q}
	if q.Within > 0 {
		e.Due = p.now.Add(q.Within)
		x.setTimer(dueTimer+name, e.Due)
	}
	if q.Escalate > 0 {
		x.setTimer(escalateTimer+name, p.now.Add(q.Escalate))
	}
	x.setTask(name, id)
	_, err := p.onTask(x, id, func(Task) any { return e })
	return err
}

// A plannedTask is a task as a plan would leave it.
type plannedTask struct {
	Task
	write store.Write
}

// onTask plans an event of a task, and returns the task as it was before.
func (p *plan) onTask(x *turn, id string, event func(Task) any) (Task, error) {
	t, ok := p.tasks[id]
	if !ok {
		now, err := p.rt.readTask(p.ctx, id)
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: task %s of %s is not there", store.ErrCorrupt, id, x.stream)
		}
		if err != nil {
			return now, err
		}
		t = &plannedTask{now, taskWrite(id, now.version)}
		p.tasks[id] = t
	}
	was, e, i := t.Task, event(t.Task), &x.cell.state
	record, err := p.rt.taskEvent(e, meta{Actor: i.Actor, Correlation: i.Correlation, Causation: x.stream, Source: i.Kind})
	t.write.Events = append(t.write.Events, record)
	t.take(Meta{ID: id, Time: p.now, Actor: i.Actor}, e)
	return was, err
}

func taskWrite(id string, version uint64, events ...store.Event) store.Write {
	return store.Write{Stream: taskCategory + "/" + id, Expect: store.Exactly(version), Events: events}
}

func (rt *Runtime) taskEvent(e any, m meta) (store.Event, error) {
	name, data, err := rt.codec.Encode(e)
	if err != nil {
		return store.Event{}, err
	}
	circumstances, err := wire.Marshal(m)
	return store.Event{ID: newEventID(), Type: name.Type, Data: data, Meta: circumstances}, err
}

// closeTask plans the end of a task that nobody has decided.
func (p *plan) closeTask(x *turn, name string, e taskClosed) error {
	id := x.cell.state.Tasks[name]
	x.setTask(name, "")
	x.setTimer(dueTimer+name, time.Time{})
	x.setTimer(escalateTimer+name, time.Time{})
	_, err := p.onTask(x, id, func(Task) any { return e })
	return err
}

func (p *plan) withdraw(x *turn, name, why string) error {
	return p.closeTask(x, name, taskClosed{Reason: clip(why)})
}

func (p *plan) withdrawAll(x *turn, why string) error {
	for _, name := range sortedKeys(x.cell.state.Tasks) {
		if err := p.withdraw(x, name, why); err != nil {
			return err
		}
	}
	return nil
}

// taskTimer takes in a timer that belongs to a question.
func (p *plan) taskTimer(x *turn, in input) (done bool, err error) {
	if name, ok := strings.CutPrefix(in.Name, escalateTimer); ok {
		id := x.cell.state.Tasks[name]
		if id == "" {
			return true, nil
		}
		_, err := p.onTask(x, id, func(t Task) any { return taskEscalated{t.Question.To} })
		return true, err
	}
	name, ok := strings.CutPrefix(in.Name, dueTimer)
	if !ok {
		return false, nil
	}
	id := x.cell.state.Tasks[name]
	if id == "" {
		return true, nil
	}
	x.setTask(name, "")
	x.setTimer(escalateTimer+name, time.Time{})
	t, err := p.onTask(x, id, func(t Task) any {
		return taskClosed{Overdue: true, Reason: cmp.Or(t.Question.Otherwise, "nobody has decided in time")}
	})
	if err != nil {
		return true, err
	}
	d := Decision{Task: id, Choice: t.Question.Otherwise, Overdue: true}
	return true, x.def.move(p, x, input{Kind: inputDecision, Name: name, decision: d})
}

// readTask returns a task, or [ErrNotFound].
func (rt *Runtime) readTask(ctx context.Context, id string) (t Task, err error) {
	for rec, err := range rt.store.Read(ctx, taskCategory+"/"+id, store.Range{}) {
		if err != nil {
			return t, storeError(err)
		}
		m, e, err := rt.understand(rec)
		if err != nil {
			return t, err
		}
		t.take(m, e)
	}
	if t.version == 0 {
		return t, ErrNotFound
	}
	return t, nil
}
