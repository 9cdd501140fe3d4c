package store_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
)

const canonical = "018f5a3e-0001-7000-8000-00000000000a"

func TestParseID(t *testing.T) {
	for _, s := range []string{canonical, strings.ToUpper(canonical)} {
		id, err := store.ParseID(s)
		if err != nil || id.String() != canonical {
			t.Errorf("%q is read as %v (%v)", s, id, err)
		}
	}
	for _, s := range []string{
		"", "x", canonical[1:], canonical + "0", strings.ReplaceAll(canonical, "-", ""), "{" + canonical[2:] + "}",
		strings.Replace(canonical, "a", "g", 1), strings.Replace(canonical, "-", "0", 1), "urn:uuid:" + canonical,
	} {
		if id, err := store.ParseID(s); err == nil || id != (store.ID{}) {
			t.Errorf("%q was read as %v (%v)", s, id, err)
		}
	}
}

// In JSON an id is its text, and what is not an id leaves the old one alone.
func TestIDInJSON(t *testing.T) {
	var got struct{ ID store.ID }
	if err := json.Unmarshal([]byte(`{"ID":"`+canonical+`"}`), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"ID":"nonsense"}`), &got); err == nil {
		t.Error("nonsense was read as an id")
	}
	if b, err := json.Marshal(got); err != nil || string(b) != `{"ID":"`+canonical+`"}` {
		t.Errorf("written as %s (%v)", b, err)
	}
}

func FuzzID(f *testing.F) {
	f.Add(canonical)
	f.Fuzz(func(t *testing.T, s string) {
		id, err := store.ParseID(s)
		if err != nil {
			return
		}
		if again, err := store.ParseID(id.String()); err != nil || again != id {
			t.Errorf("%q is read as %v, which is read as %v (%v)", s, id, again, err)
		}
	})
}
