package deed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/wire"
)

// What is stored of subscriptions and queues is for ever. Every field is set.
func TestSubscriptionFormats(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000000, time.UTC)
	event := CloudEvent{
		SpecVersion: "1.0", ID: "crate/a:2:2", Source: "/freight", Type: "crate.shipped.v2", Subject: "crate/a", Time: at, DataSchema: "/schemas/x",
		ContentType: "application/json", Aggregate: "a", Correlation: "flow", Causation: "why", PartitionKey: "Cork", Sequence: "2", TraceParent: "00-1-2-00",
		Data: json.RawMessage(`{"to":"Cork"}`),
	}
	var got bytes.Buffer
	for _, c := range []struct {
		what string
		v    any
	}{
		{"subscription", &subscriptionDoc{
			Subscription: Subscription{
				Topic: "freight", Name: "shop", Target: json.RawMessage(`{"kind":"webhook","url":"https://shop.example"}`), Types: []string{"crate.shipped.v2"},
				Filters:  []EventFilter{{Exact: map[string]string{"subject": "crate/a"}}, {Prefix: map[string]string{"subject": "c"}}, {Suffix: map[string]string{"id": "2"}}, {All: []EventFilter{{Any: []EventFilter{{Not: &EventFilter{Exact: map[string]string{"type": "x"}}}}}}}},
				Parallel: 4, Batch: 10, Partitions: 2, Unordered: true, Retry: []string{"5s", "5m"}, Roles: []string{"shop"},
			},
			Created: at, By: "ann", Start: "17", Follower: "freight.shop.k3f9aq2b", Disabled: "410", Deleted: true, Retired: []retired{{"freight.shop.aaaaaaaa", at}},
		}},
		{"attempts", &[]Attempt{{At: at, Event: "crate/a:2", Events: 3, Millis: 12, Error: "500"}}},
		{"message", &storedMessage{Event: event, Deliveries: 2, Epoch: 3, Until: at, Consumer: "c", NotBefore: at, Reason: "busy", DeadAt: at}},
	} {
		data, err := wire.Marshal(c.v)
		if _, is := c.v.(*[]Attempt); is {
			data, err = json.Marshal(c.v)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s %s\n", c.what, data)
		back := reflect.New(reflect.TypeOf(c.v).Elem())
		if err := wire.Unmarshal(data, back.Interface()); err != nil || !reflect.DeepEqual(back.Interface(), c.v) {
			t.Errorf("%s: %+v, %v", c.what, back.Elem(), err)
		}
	}
	golden(t, "testdata/subscriptions.txt", got.String())
}

// Filters want what they say, and nothing else.
func TestFilters(t *testing.T) {
	e := CloudEvent{ID: "crate/a:1", Type: "crate.shipped.v1", Subject: "crate/a", Aggregate: "a"}
	for text, want := range map[string]bool{
		`[]`: true,
		`[{"exact":{"type":"crate.shipped.v1"}}]`:                                         true,
		`[{"exact":{"type":"crate.shipped.v1","aggregate":"b"}}]`:                         false,
		`[{"prefix":{"subject":"crate/"}},{"suffix":{"type":".v1"}}]`:                     true,
		`[{"prefix":{"subject":"crate/"}},{"suffix":{"type":".v2"}}]`:                     false,
		`[{"any":[{"exact":{"aggregate":"b"}},{"exact":{"aggregate":"a"}}]}]`:             true,
		`[{"all":[{"exact":{"aggregate":"b"}},{"exact":{"aggregate":"a"}}]}]`:             false,
		`[{"not":{"exact":{"aggregate":"b"}}}]`:                                           true,
		`[{"not":{"any":[{"prefix":{"type":"crate"}},{"exact":{"correlationid":"x"}}]}}]`: false,
		`[{"exact":{"correlationid":"x"}}]`:                                               false,
	} {
		var filters []EventFilter
		if err := json.Unmarshal([]byte(text), &filters); err != nil || delivery.Check(filters) != nil {
			t.Errorf("%s: %v %v", text, err, delivery.Check(filters))
		}
		if delivery.Matches(filters, &e) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
}
