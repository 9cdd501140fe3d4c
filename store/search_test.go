package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/deed-dev/deed/store"
)

func TestParseSearch(t *testing.T) {
	for search, want := range map[string]string{
		`red tractor`:               "[{[red] false} {[tractor] false}]",
		`  RED	Tractor  `:           "[{[red] false} {[tractor] false}]",
		`"red tractor" rep*`:        "[{[red tractor] false} {[rep] true}]",
		`e-mail`:                    "[{[e mail] false}]",
		`o'br*`:                     "[{[o br] true}]",
		`bread & butter`:            "[{[bread] false} {[butter] false}]",
		`"" x`:                      "[{[x] false}]",
		`Straße ΣΊΣΥΦΟΣ`:            "[{[straße] false} {[σίσυφοσ] false}]",
		`2026-01-31`:                "[{[2026 01 31] false}]",
		strings.Repeat("ä", 40):     "[{[" + strings.Repeat("ä", 32) + "] false}]",
		"OR AND NOT near(":          "[{[or] false} {[and] false} {[not] false} {[near] false}]",
		"K \u212a":                  "[{[k] false} {[k] false}]",
		"col:x ^y {z}":              "[{[col x] false} {[y] false} {[z] false}]",
		strings.Repeat("w ", 16):    "[" + strings.TrimSpace(strings.Repeat("{[w] false} ", 16)) + "]",
		"'; DROP TABLE docs; --":    "[{[drop] false} {[table] false} {[docs] false}]",
		"x\u00a0y" + "\u3000z":      "[{[x] false} {[y] false} {[z] false}]",
		"हिन्दी":                    "[{[हिन्दी] false}]",
		strings.Repeat("n", 65):     "[{[" + strings.Repeat("n", 64) + "] false}]",
		`"a b` + "\n" + `c"` + ` d`: "[{[a b c] false} {[d] false}]",
	} {
		got, err := store.ParseSearch(search)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v, want %s", search, got, err, want)
		}
	}
	for search, says := range map[string]string{
		``: "at least one word", ` `: "at least one word", `- &`: "at least one word", `""`: "at least one word",
		`"red`: "not closed", `red"`: "a quotation mark stands", `re"d`: "a quotation mark stands", `"red"tractor`: "a space comes", `"red"*`: "a space comes",
		`*`: "a star stands", `-*`: "a star stands", `r*d`: "a star stands", `red**`: "a star stands", `"re*"`: "a star stands",
		"\xff": "is text", strings.Repeat("x", 257): "at most 256 bytes", strings.Repeat("w ", 17): "at most 16 terms",
	} {
		if got, err := store.ParseSearch(search); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, %v, want %q", search, got, err, says)
		}
	}
}

func TestMatches(t *testing.T) {
	doc := []byte(` {"name":"Red Tractor, repaired","tags":["old","very heavy"],"items":[{"name":"Plough"},{"name":"Seed drill"},{"n":1}],"n":7,"none":null,"in":{"side":"Left Door"}}`)
	fields := []string{"name", "tags", "items.name", "in.side", "n", "none", "nowhere.at"}
	for search, want := range map[string]bool{
		"tractor": true, "TRACTOR red": true, "tract": false, "tract*": true, `"red tractor"`: true, `"tractor red"`: false,
		`"tractor repaired"`: true, `"red repaired"`: false, "heavy": true, `"old very"`: false, `"very heavy"`: true, "plough drill": true,
		`"plough seed"`: false, "left-door": true, "7": false, "red missing": false, `red-tr*`: true, `tractor-red*`: false, "null": false,
	} {
		s, err := store.ParseSearch(search)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Matches(store.WordsOf(doc, fields)); got != want {
			t.Errorf("%s: %v, want %v", search, got, want)
		}
	}
	for _, bad := range []string{"", "null", "7", "[", `{"name":`, `{"name":"x`, `"name"`} {
		if got := store.WordsOf([]byte(bad), fields); len(got) > 0 {
			t.Errorf("%q has words: %v", bad, got)
		}
	}
	long := []byte(`{"name":"` + strings.Repeat("w ", 20_000) + `"}`)
	if texts := store.WordsOf(long, fields); len(texts) != 1 || len(texts[0]) != store.MaxDocWords {
		t.Errorf("%d texts", len(texts))
	}
}

// Whatever somebody types is a search or an error that says what is wrong, and
// what is found has no characters that would mean something to an index.
func FuzzParseSearch(f *testing.F) {
	for _, s := range []string{`red "blue sky" rep*`, `"`, `*`, "\xff", `e-mail`, "Σςσ", "a\x00b", `"a" "b"*`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		search, err := store.ParseSearch(s)
		if err != nil {
			if !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		for _, term := range search {
			for _, w := range term.Words {
				if w == "" || len(w) > store.MaxWord || !utf8.ValidString(w) || strings.ContainsAny(w, " \"'\\*:()^{}+-\x00") {
					t.Errorf("%q has the word %q", s, w)
				}
				if again := store.Words(w); len(again) != 1 || again[0] != w {
					t.Errorf("%q has the word %q, which is %q", s, w, again)
				}
			}
			if !(store.Search{term}).Matches([][]string{term.Words}) {
				t.Errorf("%q: %v does not match itself", s, term)
			}
		}
	})
}
