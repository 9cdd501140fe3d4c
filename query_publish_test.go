package deed_test

import (
	"errors"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// An answer that is asked for on a topic is one public event there.
func TestAnswersOnTopics(t *testing.T) {
	q := newHerdQueries()
	q.report.Topic, q.state.Topic = "herds", "herds"
	s := mem.New()
	rt, stop := startHerd(t, s, q, nil)
	mustExecute(t, rt, "a-1", beBorn{"f"})
	start := func(id, query, params string, to ...string) error {
		_, err := rt.Queries().Start(deed.With(t.Context(), deed.Call{ID: id, Correlation: "c"}), query, []byte(params), deed.Asking{Deliver: to})
		return err
	}
	for id, err := range map[string]error{
		"r-1": start("r-1", "herd-report", `{"field":"f"}`, "topic:herds"),
		"r-2": start("r-2", "herd-report", `{"field":"f"}`), // nobody wants it published
		"r-3": start("r-3", "state-of-animal", `{"id":"none"}`, "topic:herds"),
	} {
		if err != nil {
			t.Fatal(err)
		}
		await(t, rt, id)
	}
	for _, err := range []error{
		start("r-4", "herd-report", `{"field":"f"}`, "topic:others"),
		start("r-5", "animals-in-field", `{"field":"f"}`, "topic:herds"),
	} {
		if !errors.As(err, new(deed.Invalid)) {
			t.Error(err)
		}
	}
	if run := await(t, rt, "r-1"); len(run.Deliveries) != 1 || run.Deliveries[0].Done.IsZero() {
		t.Errorf("%+v", run.Deliveries)
	}
	read := func(types ...string) map[string]deed.CloudEvent {
		t.Helper()
		page, err := rt.ReadTopic(t.Context(), "herds", store.Start, types, 0)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]deed.CloudEvent{}
		for _, e := range page.Events {
			if _, dup := all[e.Subject]; dup {
				t.Errorf("%s is published twice", e.Subject)
			}
			all[e.Subject] = e
		}
		return all
	}
	want := map[string][2]string{
		"$query/r-1": {"herd-report.answered", `{"run":"r-1","query":"herd-report","state":"completed","result":{"animals":{"f":1},"eaten":0},"position":"3"}`},
		"$query/r-3": {"state-of-animal.answered", ""},
	}
	check := func() {
		t.Helper()
		all := read()
		for stream, w := range want {
			e := all[stream]
			if e.Type != w[0] || e.Source != "/herds" || e.Correlation != "c" || e.ID == "" || w[1] != "" && string(e.Data) != w[1] {
				t.Errorf("%s %s %s: %s", e.ID, e.Type, e.Source, e.Data)
			}
		}
		if len(all) != len(want) {
			t.Errorf("%d answers are public, not %d", len(all), len(want))
		}
	}
	check()
	if got := read("state-of-animal.answered"); len(got) != 1 {
		t.Errorf("%v", got)
	}
	before := read()["$query/r-1"].ID
	stop()
	rt, _ = startHerd(t, s, q, nil)
	if check(); read()["$query/r-1"].ID != before {
		t.Error("the id has changed")
	}
	if topics := rt.Topics(); len(topics) != 1 || len(topics[0].Types) != 2 {
		t.Errorf("%+v", topics)
	}
}
