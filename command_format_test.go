package deed

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var update = flag.Bool("update", false, "write golden files anew: only for formats that no release has written")

// The events of command streams, as they are stored for ever.
func TestCommandEventsAreForEver(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	findings := []Finding{{Field: "name", Text: "is blank", Fatal: true}, {Text: "that is little"}}
	o := outcome{Command: "league.create", Stream: "league/b", Hash: "h", Version: 2, Events: []EventRef{{"formed", 1}, {"named", 2}}, Entities: []string{"league/b"}}
	no := outcome{Command: "league.create", Stream: "league/b", Hash: "h", Code: "taken", Reason: "the name is taken", Step: "form", Attempts: 2}
	examples := map[string]any{
		typeReceived:      commandReceived{Command: "league.create", Stream: "league/b", Hash: "h", Body: json.RawMessage(`{"name":"b"}`), Callbacks: []Callback{{"https://h/p", []string{"error", "step"}}}},
		typeCorrected:     commandCorrected{Hash: "h2", Body: json.RawMessage(`{"name":"c"}`)},
		"validated":       commandValidated{Warnings: findings[1:]},
		typeInvalid:       commandInvalid{Command: "league.create", Stream: "league/b", Findings: findings},
		"step-started":    stepStarted{Step: "form", Attempt: 2, Undo: true},
		"step-progressed": stepProgressed{Step: "form", Entities: []string{"league/b"}},
		"step-completed":  stepCompleted{Step: "form", Entities: []string{"league/b"}, Output: json.RawMessage(`7`), Undo: true},
		"step-failed":     stepFailed{Step: "form", Attempt: 2, Error: "the line is dead", Next: at, No: true, Undo: true},
		"undoing":         commandUndoing{Code: "taken", Reason: "the name is taken", Step: "form", Attempts: 2},
		typeRequeued:      commandRequeued{},
		typeCancel:        cancelRequested{"changed my mind"},
		typeCancelled:     commandCancelled{"changed my mind", true},
		typeFailed:        commandFailed{"league.create", "league/b", "form", 2, "the line is dead"},
		typeAccepted:      commandAccepted{o},
		typeCompleted:     commandCompleted{o},
		typeRejected:      commandRejected{no},
	}
	codec := wire.NewCodec()
	if err := declareCommandEvents(codec); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	example := func(name string, e any) {
		n, data, err := codec.Encode(e)
		if err != nil || n.Type != name {
			t.Fatalf("%s: %v, %v", name, n, err)
		}
		fmt.Fprintf(&got, "%s %s\n", name, data)
		back, err := codec.Decode(n, data)
		if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", e) {
			t.Errorf("%s comes back as %+v, %v", name, back, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(commandEvents())) {
		if _, ok := examples[name]; !ok {
			t.Errorf("there is no example of %s", name)
			continue
		}
		example(name, examples[name])
	}
	// What came later has an example of its own: the others stay as they are.
	example(typeInvalid, commandInvalid{"league.create", "league/b", findings[:1], 40_000})
	example("validated", commandValidated{findings[1:], 101})
	const path = "testdata/command-events.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got.String() != string(want) {
		t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, got.String(), want)
	}
}

// Programs have recorded accepted commands as completed once, and their answers
// are still given.
func TestOlderOutcomesAreRead(t *testing.T) {
	s := mem.New()
	rt, err := New(s, Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := store.Write{Stream: "$command/k", Events: []store.Event{{
		ID: newEventID(), Type: "completed",
		Data: []byte(`{"command":"order.create","stream":"order/o-1","hash":"h","version":1,"events":[{"type":"created","version":1}]}`),
	}}}
	if _, err := s.Append(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	r, found, err := rt.replay(t.Context(), &asked{Call: Call{ID: "k"}, hash: "h"})
	if err != nil || !found || r.Version != 1 || !r.Replay {
		t.Errorf("%+v, %v, %v", r, found, err)
	}
	status, err := rt.Commands().Get(t.Context(), "k")
	if err != nil || status.State != CommandCompleted || status.Command != "order.create" {
		t.Errorf("%+v, %v", status, err)
	}
}

// Programs have recorded any number of findings once; a hundred are shown.
func TestOlderFindingsAreBounded(t *testing.T) {
	s := mem.New()
	rt, err := New(s, Config{})
	if err != nil {
		t.Fatal(err)
	}
	many := commandInvalid{Command: "league.create", Findings: make([]Finding, 40_000)}
	many.Findings[39_999] = Finding{Text: "is blank", Fatal: true}
	var events []store.Event
	for _, e := range []any{commandReceived{Command: "league.create", Body: json.RawMessage("{}")}, many} {
		name, data, err := rt.codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, store.Event{ID: newEventID(), Type: name.Type, Data: data})
	}
	if _, err := s.Append(t.Context(), store.Write{Stream: "$command/k", Events: events}); err != nil {
		t.Fatal(err)
	}
	status, err := rt.Commands().Get(t.Context(), "k")
	if err != nil || len(status.Findings) != 100 || status.FindingCount != 40_000 || status.Findings[0].Text != "is blank" {
		t.Errorf("%d of %d findings, %v", len(status.Findings), status.FindingCount, err)
	}
	var wrong CommandError
	wrong.take(Meta{ID: "k"}, many)
	if len(wrong.Findings) != 100 || wrong.FindingCount != 40_000 {
		t.Errorf("%d of %d findings in the error record", len(wrong.Findings), wrong.FindingCount)
	}
}
