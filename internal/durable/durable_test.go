package durable

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"a", "A.b", ".a", "..", "a/b", "a%2Fb", "ä", " ", strings.Repeat("ä", 64), strings.Repeat("ä", 63) + "ö", strings.Repeat("x", 128)} {
		name := Name(id)
		if other, dup := seen[name]; dup || len(name) > 255 || strings.ContainsAny(name, "/\\") || name[0] == '.' {
			t.Errorf("%q has the name %q (%q)", id, name, other)
		}
		seen[name] = id
	}
}
