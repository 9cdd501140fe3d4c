// Package brokertest is what the tests of the kinds of brokers have in common.
package brokertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/deed-dev/deed/internal/delivery"
)

// Events returns n public events of several keys, which take turns. Their ids
// need escaping.
func Events(name string, n, keys int) (out []delivery.Event) {
	for i := range n {
		stream := fmt.Sprintf("order/%s ö %d", name, i%keys)
		out = append(out, delivery.Event{
			SpecVersion: "1.0", ID: fmt.Sprintf("%s:%d", stream, i/keys+1), Source: "/orders", Type: "order.placed.v2", Subject: stream,
			Time: time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC), ContentType: "application/json", Aggregate: stream[6:], Correlation: "flow",
			PartitionKey: stream, Sequence: fmt.Sprintf("%019d", i/keys+1), Data: json.RawMessage(`{"total":7}`),
		})
	}
	return out
}

// Open makes a target with settings, as a subscription does.
func Open(t testing.TB, k delivery.Kind, settings string) delivery.Target {
	t.Helper()
	stored, once, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(settings), nil)
	if err != nil || len(once) > 0 {
		t.Fatal(once, err)
	}
	target, err := k.Open("orders/shop", stored)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// Same compares an event that the official library has read with what was sent.
func Same(t testing.TB, e ce.Event, want delivery.Event) {
	t.Helper()
	if err := e.Validate(); err != nil || e.Type() != want.Type || e.Subject() != want.Subject || e.ID() != want.ID || !e.Time().Equal(want.Time) || e.Source() != want.Source ||
		string(e.Data()) != string(want.Data) || e.Extensions()["partitionkey"] != want.PartitionKey || e.Extensions()["aggregate"] != want.Aggregate {
		t.Errorf("%v is not %+v: %v", e, want, err)
	}
}

// SameBinary compares the attributes and the data of a message with what was
// sent; form is how a value stands in a header.
func SameBinary(t testing.TB, attributes map[string]string, data []byte, want delivery.Event, form func(string) string) {
	t.Helper()
	if string(data) != string(want.Data) {
		t.Errorf("the data are %s", data)
	}
	n := 0
	for name, v := range want.All() {
		if n++; attributes[name] != form(v) {
			t.Errorf("%s is %q, want %q", name, attributes[name], form(v))
		}
	}
	if n != len(attributes) {
		t.Errorf("%v is not %v", attributes, want.Attributes())
	}
}

// BadSettings has a kind refuse settings, each for what it says.
func BadSettings(t *testing.T, k delivery.Kind, bad map[string]string) {
	t.Helper()
	for settings, want := range bad {
		if _, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(settings), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

// Golden checks that settings are stored as in testdata/stored.json, which former
// programs have written, and that a target is opened of it.
func Golden(t *testing.T, k delivery.Kind, settings string) {
	t.Helper()
	want, err := os.ReadFile("testdata/stored.json")
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.TrimSpace(want)
	stored, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(settings), nil)
	if err != nil || !bytes.Equal(stored, want) {
		t.Errorf("stored is\n%s (%v), want\n%s", stored, err, want)
	}
	if _, err := k.Open("orders/shop", want); err != nil {
		t.Error(err)
	}
}

// Secrets checks that a secret is not shown, stays as it was when what is shown
// is put back, and does not when the host is another.
func Secrets(t *testing.T, k delivery.Kind, settings, host, other, secret string) {
	t.Helper()
	stored, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(settings), nil)
	if err != nil || !strings.Contains(string(stored), secret) {
		t.Fatalf("%s: %v", stored, err)
	}
	shown := k.Shown(stored)
	if strings.Contains(string(shown), secret) || !strings.Contains(string(shown), host) {
		t.Errorf("it shows %s", shown)
	}
	again, _, err := k.Prepare(t.Context(), "orders/shop", shown, stored)
	if err != nil || string(again) != string(stored) {
		t.Errorf("put back as it was shown it is %s (%v), want %s", again, err, stored)
	}
	elsewhere := strings.ReplaceAll(string(shown), host, other)
	if again, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(elsewhere), stored); err == nil || !strings.Contains(err.Error(), "say it again") {
		t.Errorf("for another host it is %s (%v)", again, err)
	}
}
