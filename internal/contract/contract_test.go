package contract_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/contract"
	"github.com/deed-dev/deed/store/mem"
)

type crate struct{}

// What is stored and published, as it was and as it might become.
type (
	packed struct {
		Goods  string `json:"goods"`
		Weight int    `json:"weight"`
	}
	packedMore struct {
		Goods  string   `json:"goods"`
		Weight int      `json:"weight"`
		Labels []string `json:"labels,omitempty"`
	}
	packedLess struct {
		Goods string `json:"goods"`
	}
	packedFiner struct {
		Goods  string  `json:"goods"`
		Weight float64 `json:"weight"`
	}
	packedOther struct {
		Goods  string `json:"goods"`
		Weight string `json:"weight"`
	}
	packedBy struct {
		Goods  string `json:"goods"`
		Weight int    `json:"weight"`
		By     string `json:"by"`
	}
	opened struct{}
)

func (packed) Apply(*crate)      {}
func (packedMore) Apply(*crate)  {}
func (packedLess) Apply(*crate)  {}
func (packedFiner) Apply(*crate) {}
func (packedOther) Apply(*crate) {}
func (packedBy) Apply(*crate)    {}
func (opened) Apply(*crate)      {}

func same(old json.RawMessage) (json.RawMessage, error) { return old, nil }

type events = map[string]deed.Event[crate]

// crates is an aggregate of which nothing but its events matters.
func crates(e events) deed.Aggregate[crate] { return deed.Aggregate[crate]{Name: "crate", Events: e} }

// published makes events E public.
func published[E any](types ...string) deed.Publication {
	p := deed.Publication{Topic: "crates"}
	for _, typ := range types {
		p.Events = append(p.Events, deed.Publish(typ, func(e E) E { return e }))
	}
	return p
}

func of(t *testing.T, parts ...deed.Part) contract.Contract {
	t.Helper()
	rt, err := deed.New(mem.New(), deed.Config{Domains: []deed.Domain{{Name: "crates", Parts: parts}}})
	if err != nil {
		t.Fatal(err)
	}
	return contract.Of(rt)
}

// What a program may become, and what it may not.
func TestCompare(t *testing.T) {
	renamed := crates(events{"filled": packed{}, "opened": opened{}})
	legacy, upcast := renamed, crates(events{"filled": packedLess{}, "opened": opened{}})
	legacy.Legacy = events{"packed": packed{}}
	upcast.Upcasts = map[string]deed.Upcast{"packed": {To: "filled", From: same}}
	wrongLegacy := crates(events{"filled": packedLess{}, "opened": opened{}})
	wrongLegacy.Legacy = events{"packed": packedLess{}}
	ended := published[packed]("crate.packed.v1")
	ended.Events = append(ended.Events, deed.Publish[packed, packed]("crate.packed.v2", nil))

	for name, test := range map[string]struct {
		is         []deed.Part
		broken     []string
		unrecorded []string
	}{
		"nothing": {is: []deed.Part{crates(events{"packed": packed{}, "opened": opened{}}), published[packed]("crate.packed.v1")}},
		"an optional field": {
			is:         []deed.Part{crates(events{"packed": packedMore{}, "opened": opened{}}), published[packedMore]("crate.packed.v1")},
			unrecorded: []string{"event crate.packed has changed as it may", "public event crate.packed.v1 has changed as it may"},
		},
		"a wider number": {
			is:         []deed.Part{crates(events{"packed": packedFiner{}, "opened": opened{}}), published[packedFiner]("crate.packed.v1")},
			broken:     []string{"public event crate.packed.v1, field weight: is number, and was integer. Publish another type, crate.packed.v2, beside it."},
			unrecorded: []string{"event crate.packed has changed as it may"},
		},
		"new ones": {
			is:         []deed.Part{crates(events{"packed": packed{}, "opened": opened{}, "weighed": packedBy{}}), published[packed]("crate.packed.v1", "crate.packed.v2")},
			unrecorded: []string{"event crate.weighed is new", "public event crate.packed.v2 is new"},
		},
		"a field less": {
			is: []deed.Part{crates(events{"packed": packedLess{}, "opened": opened{}}), published[packedLess]("crate.packed.v1")},
			broken: []string{
				"event crate.packed, field weight: is gone. Keep it, or give the new shape a new name, and packed an Upcast.",
				"public event crate.packed.v1, field weight: is gone. Keep it, or publish another type, crate.packed.v2, beside it.",
			},
		},
		"another type": {
			is: []deed.Part{crates(events{"packed": packedOther{}, "opened": opened{}}), published[packedOther]("crate.packed.v1")},
			broken: []string{
				"event crate.packed, field weight: is string, and was integer. Give the new shape a new name, and packed an Upcast.",
				"public event crate.packed.v1, field weight: is string, and was integer. Publish another type, crate.packed.v2, beside it.",
			},
		},
		"a required field": {
			is: []deed.Part{crates(events{"packed": packedBy{}, "opened": opened{}}), published[packedBy]("crate.packed.v1")},
			broken: []string{
				"event crate.packed, field by: is new and required, and missing in what was written before. Tag it omitzero, or give the new shape a new name, and packed an Upcast.",
				"public event crate.packed.v1, field by: is new and required, and missing in what was written before. Tag it omitzero, or publish another type, crate.packed.v2, beside it.",
			},
		},
		"renamed": {
			is:         []deed.Part{renamed, published[packed]("crate.packed.v1")},
			broken:     []string{"event crate.packed: is gone. Events of that name may be stored: name it in Legacy of crate if the shape is the same, in Upcasts if it is not."},
			unrecorded: []string{"event crate.filled is new"},
		},
		"renamed, and in Legacy": {is: []deed.Part{legacy, published[packed]("crate.packed.v1")}, unrecorded: []string{"event crate.filled is new"}},
		"renamed, and in Legacy of another shape": {
			is:         []deed.Part{wrongLegacy, published[packedLess]("crate.packed.v2")},
			broken:     []string{"event crate.packed, field weight: is gone. Keep it, or give the new shape a new name, and packed an Upcast.", "public event crate.packed.v1: is gone. Publish it again, beside what comes in its place; when nobody reads it any more, delete DIR/public/crate.packed.v1.json."},
			unrecorded: []string{"event crate.filled is new", "public event crate.packed.v2 is new"},
		},
		"an upcast": {
			is:         []deed.Part{upcast, published[packedLess]("crate.packed.v2")},
			broken:     []string{"public event crate.packed.v1: is gone. Publish it again, beside what comes in its place; when nobody reads it any more, delete DIR/public/crate.packed.v1.json."},
			unrecorded: []string{"event crate.filled is new", "public event crate.packed.v2 is new"},
		},
		"one that has ended": {is: []deed.Part{crates(events{"packed": packed{}, "opened": opened{}}), ended}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			was := of(t, crates(events{"packed": packed{}, "opened": opened{}}), published[packed]("crate.packed.v1"))
			first, err := was.Compare(dir)
			if err != nil || len(first.Unrecorded) != 3 {
				t.Fatalf("at first %v, %v", first, err)
			}
			if err := first.Record(); err != nil {
				t.Fatal(err)
			}
			r, err := of(t, test.is...).Compare(dir)
			if err != nil {
				t.Fatal(err)
			}
			var broken, unrecorded []string
			for _, f := range r.Broken {
				broken = append(broken, strings.ReplaceAll(f.String(), dir, "DIR"))
			}
			for _, u := range r.Unrecorded {
				unrecorded = append(unrecorded, u.String())
			}
			if !slices.Equal(broken, test.broken) {
				t.Errorf("broken:\n%s\nwant\n%s", strings.Join(broken, "\n"), strings.Join(test.broken, "\n"))
			}
			if !slices.Equal(unrecorded, test.unrecorded) {
				t.Errorf("unrecorded: %q, want %q", unrecorded, test.unrecorded)
			}
			if len(r.Broken) > 0 {
				return
			}
			if err := r.Record(); err != nil {
				t.Fatal(err)
			}
			if again, err := of(t, test.is...).Compare(dir); err != nil || len(again.Broken)+len(again.Unrecorded) > 0 {
				t.Errorf("once recorded: %v, %v", again, err)
			}
		})
	}
}

// A file that is no schema is an error, and not a format less.
func TestBadFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "events"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events", "crate.packed.json"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := of(t, crates(events{"packed": packed{}})).Compare(dir); err == nil || !strings.Contains(err.Error(), "crate.packed.json is no schema") {
		t.Error(err)
	}
}
