package deed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// What is stored of redrives, and of messages that were edited or given up, is for
// ever. Every field is set.
func TestLetterFormats(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000000, time.UTC)
	edits := []LetterEdit{{Data: json.RawMessage(`{"to":"Cork"}`), At: at, By: "ann", Why: "a misprint"}}
	q := Queue{doc: subscriptionDoc{Subscription: Subscription{Topic: "freight", Name: "work"}, Follower: "freight.work.k3f9aq2b"}}
	m := storedMessage{
		Event: CloudEvent{
			SpecVersion: "1.0", ID: "crate/a:2:2", Source: "/freight", Type: "crate.shipped.v1", Subject: "crate/a", Time: at, ContentType: "application/json",
			Aggregate: "a", PartitionKey: "crate/a", Sequence: "0000000000000000002", Data: json.RawMessage(`{"to":"Cork"}`),
		},
		Deliveries: 2, Reason: "torn", DeadAt: at, Original: json.RawMessage(`{"to":"Cark"}`), Edits: edits,
	}
	note, err := q.note(found{storedMessage: m, key: messageKey(store.Position{Seq: 17}, 2)}, engine.StateDiscarded, engine.Closed{At: at, By: "bob", Why: "test data"})
	if err != nil {
		t.Fatal(err)
	}
	var discarded DeadLetter
	if err := wire.Unmarshal(note.Data, &discarded); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, c := range []struct {
		what string
		v    any
	}{
		{"job", &storedJob{
			LetterJob: LetterJob{
				LetterAct: LetterAct{
					Do: DoRedrive, All: true, Rate: 2.5, First: true, Reason: "mended",
					LetterFilter: LetterFilter{IDs: []string{"mailer.17"}, Follower: "mailer", Subscription: "freight/work", Kind: "handler", Fingerprint: "4f1d2c3b4a59", State: "dead", Before: at},
				},
				ID: "j", State: JobStopped, Why: "the first one failed again", Letters: 3, Blocks: 2, ByFollower: map[string]int{"mailer": 3}, Sample: []string{"mailer.17"},
				Handled: 1, Failed: 1, Discarded: 1, Failure: "no", By: "ann", Begun: at, Ended: at,
			},
			Mark: "mailer.17", FirstID: "mailer.17", Since: at, Passed: true, Node: "n", Until: at,
		}},
		{"message", &m},
		{note.Coll + " " + note.Key, &discarded},
	} {
		data, err := wire.Marshal(c.v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %s\n", c.what, data)
		back := reflect.New(reflect.TypeOf(c.v).Elem())
		if err := wire.Unmarshal(data, back.Interface()); err != nil || !reflect.DeepEqual(back.Interface(), c.v) {
			t.Errorf("%s: %+v, %v", c.what, back.Elem(), err)
		}
	}
	golden(t, "testdata/dead-letters.txt", got.String())
}
