package deed

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/wire"
)

// The events of the streams of queries, as they are stored for ever.
func TestRunEventsAreForEver(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	params, result := json.RawMessage(`{"name":"b"}`), json.RawMessage(`{"n":3}`)
	codec := wire.NewCodec()
	if err := declareRunEvents(codec); err != nil {
		t.Fatal(err)
	}
	examples := []any{
		queryAsked{Query: "summary", Hash: "h", Parameters: params, Head: "17"},
		queryAsked{Query: "summary", Hash: "h", Parameters: params, Head: "17", Of: &askedOf{Time: at}, Deliver: []string{"https://h/p", "file:x"}},
		queryAsked{Query: "summary", Hash: "h", Parameters: params, Of: &askedOf{Position: "3"}},
		queryAsked{Query: "summary", Hash: "h", Parameters: params, Of: &askedOf{Version: 2, Effective: at}},
		queryAnswered{Query: "summary", Hash: "h", Parameters: params, Position: "17", Result: result},
		queryAnswered{Query: "summary", Hash: "h", Parameters: params, Of: &askedOf{Time: at}, Cached: true, Position: "17", Inexact: true, Code: "not_found", Reason: "not found"},
		queryInvalid{Query: "summary", Hash: "h", Parameters: params, Findings: []Finding{{Field: "name", Text: "is blank", Fatal: true}}, Count: 101},
		partsRequested{Keys: []string{"a", "b"}, More: true},
		partsRequested{Keys: []string{}},
		partsAnswered{Parts: []partAnswer{{"a", result}, {"b", json.RawMessage(`null`)}}},
		attemptFailed{Attempt: 2, Error: "the line is dead", Next: at},
		queryCompleted{Position: "17", Result: result},
		queryCompleted{Position: "17", Inexact: true, Result: result},
		queryRejected{Code: "not_found", Reason: "not found"},
		queryFailed{Attempts: 3, Reason: "the line is dead"},
		queryCancelled{Reason: "asked twice"},
		queryCancelled{},
		queryDelivered{To: "file:x"},
		queryPublished{Topic: "leagues", Query: "summary", State: RunCompleted, Position: "17", Inexact: true, Result: result},
		queryPublished{Topic: "leagues", Query: "summary", State: RunRejected, Code: "not_found", Reason: "not found"},
		queryUndeliverable{To: "https://h/p", Reason: "the receiver answered 410 Gone"},
		givenUp{Runs: []string{"r-1"}},
	}
	if err := declareGivenUp(codec); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	seen := map[string]bool{}
	for _, e := range examples {
		n, data, err := codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		seen[n.Type] = true
		fmt.Fprintf(&got, "%s %s\n", n.Type, data)
		back, err := codec.Decode(n, data)
		again, errAgain := wire.Marshal(back)
		if err != nil || errAgain != nil || string(again) != string(data) {
			t.Errorf("%s comes back as %s, %v, %v", n.Type, again, err, errAgain)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(runEvents())) {
		if !seen[name] {
			t.Errorf("there is no example of %s", name)
		}
	}
	const path = "testdata/query-events.txt"
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
