package deed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A crate is packed with goods, and shipped: a domain that publishes.
type (
	crate  struct{ Goods []string }
	packed struct {
		Goods  []string
		Secret string
	}
	shipped struct{ To string }
	pack    struct {
		Goods  []string
		Secret string
	}
	ship struct{ To string }
)

func (e packed) Apply(c *crate)  { c.Goods = append(c.Goods, e.Goods...) }
func (e shipped) Apply(c *crate) { c.Goods = nil }
func (c pack) Decide(crate) ([]deed.Event[crate], error) {
	return []deed.Event[crate]{packed(c)}, nil
}
func (c ship) Decide(crate) ([]deed.Event[crate], error) {
	return []deed.Event[crate]{shipped(c)}, nil
}

// The public forms.
type (
	goodsPacked struct {
		Item  string `json:"item"`
		Crate string `json:"crate"`
	}
	crateShipped struct {
		To string `json:"to"`
	}
	crateShippedV2 struct {
		Crate       string `json:"crate"`
		Destination string `json:"destination"`
	}
)

func (s crateShippedV2) PartitionKey() string { return s.Destination }

func crateAggregate() deed.Aggregate[crate] {
	return deed.Aggregate[crate]{
		Name:     "crate",
		Events:   map[string]deed.Event[crate]{"packed": packed{}, "shipped": shipped{}},
		Commands: map[string]deed.Command[crate]{"pack": pack{}, "ship": ship{}},
	}
}

func packedGoods(e deed.Recorded[packed]) (out []goodsPacked) {
	for _, g := range e.Event.Goods {
		out = append(out, goodsPacked{g, e.ID})
	}
	return out
}

func crateTopic() deed.Publication {
	return deed.Publication{
		Topic: "freight", Doc: "What becomes of crates.", Source: "https://freight.example/crates", Schemas: "https://freight.example/schemas/",
		Events: []deed.Publishing{
			deed.PublishEach("goods.packed.v1", packedGoods),
			deed.Publish("crate.shipped.v1", func(e shipped) crateShipped { return crateShipped(e) }),
			deed.Publish("crate.shipped.v2", func(e deed.Recorded[shipped]) crateShippedV2 { return crateShippedV2{e.ID, e.Event.To} }),
		},
	}
}

func crates(parts ...deed.Part) deed.Domain {
	return deed.Domain{Name: "freight", Parts: append([]deed.Part{crateAggregate()}, parts...)}
}

// inCrates runs f in simulated time, with crates that two commands were asked of.
func inCrates(t *testing.T, f func(rt *deed.Runtime)) {
	synctest.Test(t, func(t *testing.T) {
		rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{crates(crateTopic())}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := deed.With(t.Context(), deed.Call{ID: "c-1", Correlation: "flow", Causation: "why"})
		if _, err := crateAggregate().Execute(ctx, rt, "a", pack{[]string{"tea", "salt"}, "hush"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := crateAggregate().Execute(deed.With(t.Context(), deed.Call{ID: "c-2"}), rt, "a", ship{"Cork"}); err != nil {
			t.Fatal(err)
		}
		f(rt)
	})
}

// What is public of an event is written for ever: others have taken it in.
func TestPublicEventsStayTheSame(t *testing.T) {
	inCrates(t, func(rt *deed.Runtime) {
		page, err := rt.ReadTopic(t.Context(), "freight", store.Start, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for _, e := range page.Events {
			data, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&got, "%s\n", data)
		}
		const path = "testdata/public-events.txt"
		if flag.Lookup("update").Value.String() == "true" {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got.String() != string(want) {
			t.Errorf("public events are\n%s\nwant\n%s%v", &got, want, err)
		}
	})
}

// The official library reads public events, and finds nothing wrong with them.
func TestPublicEventsAreCloudEvents(t *testing.T) {
	inCrates(t, func(rt *deed.Runtime) {
		page, err := rt.ReadTopic(t.Context(), "freight", store.Start, nil, 0)
		if err != nil || len(page.Events) != 4 {
			t.Fatal(page, err)
		}
		for _, e := range page.Events {
			data, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var parsed ce.Event
			if err := json.Unmarshal(data, &parsed); err != nil {
				t.Fatal(err)
			}
			if err := parsed.Validate(); err != nil {
				t.Errorf("%s: %v", data, err)
			}
			is := func(name, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %s is %q, want %q", e.ID, name, got, want)
				}
			}
			is("id", parsed.ID(), e.ID)
			is("source", parsed.Source(), "https://freight.example/crates")
			is("type", parsed.Type(), e.Type)
			is("subject", parsed.Subject(), "crate/a")
			is("schema", parsed.DataSchema(), "https://freight.example/schemas/"+e.Type)
			is("data", string(parsed.Data()), string(e.Data))
			for name, v := range parsed.Extensions() {
				is(name, fmt.Sprint(v), e.Attributes()[name])
			}
			if !parsed.Time().Equal(e.Time) || strings.Contains(string(data), "hush") {
				t.Errorf("%s", data)
			}
		}
	})
}

// A topic is read in pages, of the types that are wanted, and nothing is
// missing or twice.
func TestTopicInPages(t *testing.T) {
	inCrates(t, func(rt *deed.Runtime) {
		var ids []string
		after, pages := store.Start, 0
		for {
			page, err := rt.ReadTopic(t.Context(), "freight", after, []string{"goods.packed.v1", "crate.shipped.v2"}, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				ids = append(ids, e.ID)
			}
			if pages++; !page.More {
				break
			}
			after = page.Next
		}
		want := []string{"crate/a:1", "crate/a:1:1.2", "crate/a:2:2"}
		if !slices.Equal(ids, want) || pages != 3 {
			t.Errorf("%d pages of %q, want %q", pages, ids, want)
		}
		if _, err := rt.ReadTopic(t.Context(), "none", store.Start, nil, 0); !errors.Is(err, deed.ErrUnknown) {
			t.Errorf("%v", err)
		}
	})
}

// A type that is not published any more leaves the ids of the others alone.
func TestWhatIsRetiredKeepsItsPlace(t *testing.T) {
	p := crateTopic()
	p.Events[1] = deed.Publish[shipped, crateShipped]("crate.shipped.v1", nil)
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{crates(p)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crateAggregate().Execute(t.Context(), rt, "a", ship{"Cork"}); err != nil {
		t.Fatal(err)
	}
	page, err := rt.ReadTopic(t.Context(), "freight", store.Start, nil, 0)
	if err != nil || len(page.Events) != 1 || page.Events[0].ID != "crate/a:1:2" || page.Events[0].PartitionKey != "Cork" {
		t.Errorf("%+v, %v", page.Events, err)
	}
	if topics := rt.Topics(); len(topics) != 1 || len(topics[0].Types) != 2 {
		t.Errorf("%+v", topics)
	}
}

// An event that cannot be made public is not passed over: what precedes it is read,
// and then it is an error that says where it is, and how to go on.
func TestWhatCannotBePublished(t *testing.T) {
	for name, f := range map[string]func(e shipped) func(){
		"no JSON": func(shipped) func() { return func() {} },
		"a panic": func(shipped) func() { panic("no such place") },
	} {
		rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{crates(deed.Publication{Topic: "odd", Events: []deed.Publishing{
			deed.Publish("odd.v1", f),
			deed.Publish("packed.v1", func(e packed) string { return e.Goods[0] }),
		}})}})
		if err != nil {
			t.Fatal(err)
		}
		var last deed.Receipt
		for id, c := range []deed.Command[crate]{pack{Goods: []string{"tea"}}, ship{"Cork"}, pack{Goods: []string{"rum"}}} {
			if last, err = crateAggregate().Execute(t.Context(), rt, fmt.Sprint(id), c); err != nil {
				t.Fatal(err)
			}
		}
		before, err := rt.ReadTopic(t.Context(), "odd", store.Start, nil, 0)
		if err != nil || len(before.Events) != 1 || !before.More {
			t.Errorf("%s: %+v, %v", name, before, err)
		}
		page, err := rt.ReadTopic(t.Context(), "odd", before.Next, nil, 0)
		if !errors.Is(err, deed.ErrNotPublic) || !strings.Contains(err.Error(), "crate/1@1") || page.Next != before.Next {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
		_, next, _ := strings.Cut(err.Error(), "read on after cursor ")
		for _, after := range []store.Cursor{store.Cursor(next), store.Start} { // by the way, who wants another type does not meet it
			page, err = rt.ReadTopic(t.Context(), "odd", after, []string{"packed.v1"}, 0)
			if n := len(page.Events); err != nil || n == 0 || page.Events[n-1].Aggregate != "2" || string(page.Next) != last.Position {
				t.Errorf("%s: %+v, %v", name, page, err)
			}
		}
	}
}

func TestBadPublications(t *testing.T) {
	type unknown struct{}
	same := func(e shipped) crateShipped { return crateShipped(e) }
	for name, c := range map[string]struct {
		pub  []deed.Part
		want string
	}{
		"name":          {[]deed.Part{deed.Publication{Topic: "A topic"}}, "topic name"},
		"unknown event": {[]deed.Part{deed.Publication{Topic: "t", Events: []deed.Publishing{deed.Publish("t.v1", func(unknown) int { return 1 })}}}, "no aggregate declares"},
		"type":          {[]deed.Part{deed.Publication{Topic: "t", Events: []deed.Publishing{deed.Publish("t v1", same)}}}, "use letters"},
		"two forms": {[]deed.Part{deed.Publication{Topic: "t", Events: []deed.Publishing{
			deed.Publish("t.v1", same), deed.Publish("t.v1", func(packed) goodsPacked { return goodsPacked{} }),
		}}}, "a type of its own"},
		"two publications": {[]deed.Part{
			deed.Publication{Topic: "t", Events: []deed.Publishing{deed.Publish("t.v1", same)}},
			deed.Publication{Topic: "t", Events: []deed.Publishing{deed.Publish("t.v2", same)}},
		}, "two publications publish crate.shipped"},
		"twice":   {[]deed.Part{deed.Publication{Topic: "t", Events: []deed.Publishing{deed.Publish("t.v1", same), deed.Publish("t.v1", same)}}}, "of crate.shipped twice"},
		"nothing": {[]deed.Part{deed.Publication{Topic: "t"}}, "publishes nothing"},
		"source":  {[]deed.Part{deed.Publication{Topic: "t", Source: ":"}}, "no URI reference"},
	} {
		_, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{crates(c.pub...)}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// ExamplePublication makes shipments public, and nothing of what is in them.
func ExamplePublication() {
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{crates(deed.Publication{
		Topic: "shipments",
		Events: []deed.Publishing{
			deed.Publish("crate.shipped.v1", func(e shipped) crateShipped { return crateShipped(e) }),
		},
	})}})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	crateAggregate().Execute(ctx, rt, "a", pack{Goods: []string{"tea"}})
	crateAggregate().Execute(ctx, rt, "a", ship{"Cork"})
	page, err := rt.ReadTopic(ctx, "shipments", store.Start, nil, 0)
	if err != nil {
		panic(err)
	}
	for _, e := range page.Events {
		fmt.Println(e.ID, e.Type, string(e.Data))
	}
	// Output: crate/a:2 crate.shipped.v1 {"to":"Cork"}
}
