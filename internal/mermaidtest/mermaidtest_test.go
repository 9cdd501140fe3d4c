package mermaidtest

import (
	"slices"
	"strings"
	"testing"
)

// What is no diagram is told from what is one, and so is a page that is broken.
func TestDraw(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	all, err := draw(t.TempDir(), map[string]string{"good": "flowchart LR\n a[\"one\"] --> b[\"two\"]", "bad": "flowchart LR\n a[\"one\" --> b", "empty": ""})
	if err != nil {
		t.Fatal(err)
	}
	if d := all["good"]; d.Error != "" || d.Edges != 1 || !slices.Equal(d.Nodes, []string{"one", "two"}) || !strings.HasPrefix(d.SVG, "<svg") {
		t.Errorf("good: %+v", d)
	}
	for _, name := range []string{"bad", "empty"} {
		if all[name].Error == "" {
			t.Errorf("%s is drawn", name)
		}
	}
}
