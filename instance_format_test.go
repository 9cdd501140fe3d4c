package deed

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// The records of instances, as they are stored for ever. There is an example of
// every kind of record, and among them every field is set.
func TestInstanceRecordsAreForEver(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	undo := &UndoCommand{"vault/a", "vault.drop", json.RawMessage(`{"n":3}`)}
	examples := map[string]moved{
		inputStarted: {
			Input: input{Kind: inputStarted, Hash: "h"}, Definition: 2, Parent: "$saga/haul/s1", State: json.RawMessage(`{}`),
			Steps: []stepMoved{{Name: "take", State: StepDone}, {Name: "call", State: StepBegun}}, Begun: []string{"$saga/errand/e1"},
			Sent: []sent{{Stream: "vault/a", Command: "vault.take", ID: "c1", Events: []EventRef{{"taken", 4}}, Undo: undo}}, Wake: at,
		},
		inputEvent: {
			Input: input{Kind: inputEvent, From: "order/o1", Version: 7, Type: "placed"}, State: json.RawMessage(`{"n":3}`),
			Timers: []timerSet{{"deadline", at}, {"soon", time.Time{}}}, Tasks: []taskSet{{"large", "t1"}, {"small", ""}}, Wake: at, More: true,
		},
		inputTimer: {
			Input: input{Kind: inputTimer, Name: "deadline"}, Status: InstanceUndone, Code: "overdue", Reason: "it took too long",
			Cause: &cause{"overdue", "it took too long"}, Undid: 2, Refused: []refused{{"vault/b", "vault.take", "too_few", "there are not that many"}},
		},
		inputDecision: {Input: input{Kind: inputDecision, From: "$task/t1", Name: "large", Choice: "approve", Reason: "they are good for it"}, Status: InstanceCompleted},
		inputWork: {
			Input: input{Kind: inputWork, Name: "call"}, Touched: []string{"vault/c"},
			Steps: []stepMoved{{Name: "call", State: StepBegun, Attempts: 2, Error: "the line is dead", Unclear: true, Next: at}}, Wake: at,
		},
		inputEnded:   {Input: input{Kind: inputEnded, From: "$saga/errand/e1", Name: "errand"}, Ignored: true},
		inputGoOn:    {Input: input{Kind: inputGoOn}},
		inputRequest: {Input: input{Kind: inputRequest, Request: requestSkip, Name: "call", Reason: "they were called"}},
		inputStuck:   {Input: input{Kind: inputStuck, Reason: "it panicked"}, Status: InstanceStuck, Code: "stuck", Reason: "it panicked"},
	}
	codec := formats(t)
	var got strings.Builder
	for _, kind := range inputKinds {
		e, ok := examples[kind]
		if !ok {
			t.Errorf("there is no example of %s", kind)
			continue
		}
		data, err := wire.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "$saga %s %s\n", kind, data)
		for _, category := range []string{sagaCategory, processCategory, scheduleCategory} {
			if back, err := codec.Decode(wire.Name{Category: category, Type: kind}, data); err != nil || !reflect.DeepEqual(back, e) {
				t.Errorf("%s comes back as %+v, %v", kind, back, err)
			}
		}
	}
	eachFieldIsSet(t, slices.Collect(maps.Values(examples)))
	golden(t, "testdata/instance-records.txt", got.String())
}

// formats is a codec that knows all these records.
func formats(t *testing.T) *wire.Codec {
	t.Helper()
	codec := wire.NewCodec()
	if err := errors.Join(declareInstances(codec), declareTasks(codec)); err != nil {
		t.Fatal(err)
	}
	return codec
}

// eachFieldIsSet checks that the examples leave out no field that is stored.
func eachFieldIsSet[E any](t *testing.T, examples []E) {
	t.Helper()
	set := map[string]bool{}
	for _, e := range examples {
		data, err := wire.Marshal(e)
		var doc any
		if err = errors.Join(err, wire.Unmarshal(data, &doc)); err != nil {
			t.Fatal(err)
		}
		noteFields(set, "", doc)
	}
	var missing []string
	storedFields(reflect.TypeFor[E](), "", func(field string) {
		if !set[field] {
			missing = append(missing, field)
		}
	})
	if len(missing) > 0 {
		t.Errorf("no example has %v", missing)
	}
}

// noteFields notes the fields of a JSON value, in the form .a.b.
func noteFields(set map[string]bool, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, of := range v {
			set[prefix+"."+name] = true
			noteFields(set, prefix+"."+name, of)
		}
	case []any:
		for _, of := range v {
			noteFields(set, prefix, of)
		}
	}
}

// storedFields gives the fields of a type, in the same form.
func storedFields(typ reflect.Type, prefix string, give func(string)) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[time.Time]() {
		return
	}
	for f := range typ.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "-" {
			field := prefix + "." + cmp.Or(name, f.Name)
			give(field)
			storedFields(f.Type, field, give)
		}
	}
}

// The events of the streams of tasks, as they are stored for ever.
func TestTaskEventsAreForEver(t *testing.T) {
	q := Question{
		Text: "so much?", Roles: []string{"boss"}, Choices: []string{"yes", "no"}, Form: json.RawMessage(`{"type":"object"}`),
		Within: time.Hour, Otherwise: "no", Escalate: time.Minute, To: []string{"owner"},
	}
	opened := taskOpened{"$saga/haul/s1", "large", q, time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)}
	decided := taskDecided{Decision{"t1", "yes", "they are good for it", json.RawMessage(`{"limit":5}`), "ann", true}}
	eachFieldIsSet(t, []taskOpened{opened})
	eachFieldIsSet(t, []taskDecided{decided})
	examples := map[string]any{
		"opened": opened, "claimed": taskClaimed{}, "released": taskReleased{}, "escalated": taskEscalated{[]string{"owner"}},
		"decided": decided, "closed": taskClosed{"it was asked again", true},
	}
	codec := formats(t)
	var got strings.Builder
	for _, name := range slices.Sorted(maps.Keys(taskEvents())) {
		n, data, err := codec.Encode(examples[name])
		if err != nil || n.Type != name {
			t.Fatalf("%s: %v, %v", name, n, err)
		}
		fmt.Fprintf(&got, "%s %s\n", name, data)
		if back, err := codec.Decode(n, data); err != nil || !reflect.DeepEqual(back, examples[name]) {
			t.Errorf("%s comes back as %+v, %v", name, back, err)
		}
	}
	golden(t, "testdata/task-events.txt", got.String())
}

// What schedules keep, and what tells when instances go on by themselves.
func TestSmallDocumentsAreForEver(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	for _, tt := range []struct {
		doc  any
		want string
	}{
		{scheduled{"30 1 * * *", "Europe/Dublin", at, 7}, `{"cron":"30 1 * * *","zone":"Europe/Dublin","last":"2026-02-03T04:05:06.000007Z","runs":7}`},
		{waking{at}, `{"at":"2026-02-03T04:05:06.000007Z"}`},
	} {
		if got, err := wire.Marshal(tt.doc); err != nil || string(got) != tt.want {
			t.Errorf("%s, %v, wanted %s", got, err, tt.want)
		}
		back := reflect.New(reflect.TypeOf(tt.doc))
		if err := wire.Unmarshal([]byte(tt.want), back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), tt.doc) {
			t.Errorf("%s comes back as %+v, %v", tt.want, back.Elem(), err)
		}
	}
}

// An instance that was begun by a program of today asks the same things under the
// same ids when it goes on in one of tomorrow.
func TestIDsAreForEver(t *testing.T) {
	const stream = "$saga/haul/s1"
	x := &turn{stream: stream, cell: &cell[Instance]{folded: folded[Instance]{version: 3, state: Instance{Commands: 4}}}}
	do, undo := &Work{Command: stream, step: "call"}, &Work{Command: stream, step: "call", undo: true}
	for _, tt := range []struct{ what, got, want string }{
		{"command", x.commandID(), "a3f1a1e5-d6b3-5aa9-8317-b8b03d1cc97b"},
		{"task", x.deriveID("task 0 large"), "5e64a8bb-53de-59fe-91bb-03239892f0ae"},
		{"stored command", x.deriveID("command 0"), "9b14fa9c-734d-5d10-b232-39e4739eaf52"},
		{"key of a step", do.Key(), "a868b784-fedf-5071-aed1-4ba70ea14616"},
		{"key of undoing it", undo.Key(), "d84077ae-4348-5617-a597-6f9ee2151bc4"},
		{"command of a step", do.derive("vault.drop vault/a 1"), "4e7b1edf-70f1-5c62-843f-76487607ad02"},
	} {
		if tt.got != tt.want {
			t.Errorf("the %s has the id %s", tt.what, tt.got)
		}
	}
}

// golden compares a text with what a file has.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, got, want)
	}
}

// What each record of an instance does is for ever too: an instance of a program
// of today is the same to one of tomorrow.
func TestInstanceOfRecords(t *testing.T) {
	data, err := os.ReadFile("testdata/instance-records.txt")
	if err != nil {
		t.Fatal(err)
	}
	codec := formats(t)
	var got strings.Builder
	var i Instance
	for n, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		category, rest, _ := strings.Cut(line, " ")
		kind, record, _ := strings.Cut(rest, " ")
		e, err := codec.Decode(wire.Name{Category: category, Type: kind}, []byte(record))
		if err != nil {
			t.Fatal(err)
		}
		i.take(Meta{Aggregate: sagaCategory, ID: "haul/s2", Version: uint64(n + 1), Time: time.Date(2026, 2, 3, 5, n, 0, 0, time.UTC), Actor: "ann", Correlation: "flow"}, e.(moved))
		text, err := wire.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %s cause %+v more %v rounds %d seen %v\n", kind, text, *cmp.Or(i.cause, &cause{}), i.more, i.rounds, i.seen)
	}
	golden(t, "testdata/instance-states.txt", got.String())
}
