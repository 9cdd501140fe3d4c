package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/deed-dev/deed/store"
)

// searchClauses are passed by a store that is no [store.Searcher], too: it reads
// all documents.
var searchClauses = []Clause{
	clause("search/words", "people look for what they remember", func(ctx context.Context, s store.Store) {
		machines(ctx, s)
		for search, want := range map[string][]string{
			"tractor": {"a", "b", "d"}, "RED tractor": {"a", "d"}, "tract": nil, "tract*": {"a", "b", "d"}, "plough": {"c"},
			`"red tractor"`: {"a"}, `"tractor red"`: {"d"}, "red-tractor": {"a"}, `"heavy old"`: nil, "heavy old": {"b"}, "hä*": {"c"}, "HÄTTE": {"c"},
			"1985": {"a"}, "19*": {"a", "c"}, "near or not": nil, "x' y": {"e"}, "ж*": {"e"},
		} {
			equalSlices(keys(collect(store.Find(ctx, s, "v", searching(search)), "find")), want, "%s", search)
			n, err := store.Count(ctx, s, "v", searching(search))
			check(err, "count")
			equal(n, len(want), "documents with %s", search)
		}
		q := searching("tractor")
		q.Where, q.Sort, q.Desc = []store.Cond{{Field: "n", Op: ">", Value: int64(1)}}, "n", true
		equalSlices(keys(collect(store.Find(ctx, s, "v", q), "find")), []string{"d", "b"}, "with a condition, sorted")
		equalSlices(keys(collect(store.Find(ctx, s, "v", store.Query{Search: "heavy", Text: []string{"name"}}), "find")), nil, "in other fields than those declared")
		equal(len(collect(store.Find(ctx, s, "never", searching("x")), "find")), 0, "documents of no collection")
	}),
	clause("search/pages", "who goes through pages sees each document once", func(ctx context.Context, s store.Store) {
		check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes")
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search")
		var changes []store.Change
		var byKey []string
		for i := range 700 {
			name := "green door"
			if i%3 == 0 {
				name = "door, green"
				byKey = append(byKey, fmt.Sprintf("k%03d", i))
			}
			changes = append(changes, store.Change{Coll: "v", Key: fmt.Sprintf("k%03d", i), Data: fmt.Appendf(nil, `{"name":%q,"n":%d}`, name, i%5)})
		}
		check(s.Write(ctx, changes...), "write")
		for _, sort := range []string{"", "n"} {
			seen := map[string]bool{}
			var got []string
			q := searching(`"door green"`) // the words are in all of them
			q.Sort, q.Limit = sort, 50
			for {
				page := collect(store.Find(ctx, s, "v", q), "find")
				for _, d := range page {
					equal(seen[d.Key], false, "%s comes twice", d.Key)
					seen[d.Key] = true
					got = append(got, d.Key)
				}
				if len(page) < q.Limit {
					break
				}
				last := page[len(page)-1]
				q.After = &store.Mark{Key: last.Key}
				if sort != "" {
					q.After.Value = store.FieldOf(last.Data, sort)
				}
			}
			equal(len(got), len(byKey), "documents sorted by %q", sort)
			if sort == "" {
				equalSlices(got, byKey, "keys")
			}
		}
	}),
	clause("search/like-the-reference", "a search means the same on every store", func(ctx context.Context, s store.Store) {
		r := rand.New(rand.NewPCG(3, 4))
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search")
		var changes []store.Change
		for i := range 200 {
			changes = append(changes, store.Change{Coll: "v", Key: fmt.Sprintf("k%03d", i), Data: fmt.Appendf(nil, `{"name":%q,"tags":[%q,%q]}`, randomText(r), randomText(r), randomText(r))})
		}
		check(s.Write(ctx, changes...), "write")
		all := collect(s.List(ctx, "v", "", ""), "list")
		docs := func(yield func(store.Doc, error) bool) {
			for i := 0; i < len(all) && yield(all[i], nil); i++ {
			}
		}
		searches := 60
		if _, own := s.(store.Searcher); !own {
			searches = 10 // the answer is a scan, too
		}
		for range searches {
			q := searching(randomSearch(r))
			q.Desc = r.IntN(2) == 0
			want := keys(collect(store.Scan(docs, q), "scan"))
			equalSlices(keys(collect(store.Find(ctx, s, "v", q), "find")), want, "%+v", q)
		}
	}),
	clause("search/follows-changes", "what is found by words it does not have any more sends people to the wrong place", func(ctx context.Context, s store.Store) {
		put(ctx, s, "v", "old", `{"name":"was there before"}`)
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search")
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search again")
		find := func(search string) []string {
			return keys(collect(store.Find(ctx, s, "v", searching(search)), "find"))
		}
		equalSlices(find("before"), []string{"old"}, "what was there before")
		put(ctx, s, "v", "k", `{"name":"first"}`)
		put(ctx, s, "w", "k", `{"name":"first"}`)
		equalSlices(find("first"), []string{"k"}, "what was written")
		put(ctx, s, "v", "k", `{"name":"second","n":1}`)
		put(ctx, s, "v", "k", `{"name":"second","n":2}`)
		equalSlices(find("first"), nil, "what was changed")
		equalSlices(find("second"), []string{"k"}, "what it was changed to")
		check(s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: store.AnyRev}), "delete")
		equalSlices(find("second"), nil, "what was deleted")
		put(ctx, s, "v", "k", `{"name":"second"}`)
		equalSlices(find("second"), []string{"k"}, "what is there again")
		err := s.Write(ctx, store.Change{Coll: "v", Key: "k", Rev: 99, Data: []byte(`{"name":"third"}`)})
		equal(err != nil, true, "a conflict")
		equalSlices(find("third"), nil, "what was refused")
		check(store.EnsureSearch(ctx, s, "v", []string{"other"}), "search in other fields")
		put(ctx, s, "v", "k", `{"name":"second","other":"more"}`)
		equalSlices(find("second"), []string{"k"}, "what is not declared any more")
		equalSlices(keys(collect(store.Find(ctx, s, "v", store.Query{Search: "more", Text: []string{"other"}}), "find")), []string{"k"}, "what is declared now")
		check(store.EnsureSearch(ctx, s, "v", nil), "no search")
		equalSlices(find("second"), []string{"k"}, "what is not declared")
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search once more")
		check(store.DropColl(ctx, s, "v"), "drop")
		equalSlices(find("before"), nil, "what was dropped")
		put(ctx, s, "v", "k", `{"name":"again"}`)
		equalSlices(find("again"), []string{"k"}, "what came after that")
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search after the drop")
		equalSlices(find("again"), []string{"k"}, "what came before that")
	}),
	clause("search/invalid", "a search comes from outside", func(ctx context.Context, s store.Store) {
		check(store.EnsureSearch(ctx, s, "v", searchFields), "search")
		put(ctx, s, "v", "k", `{"name":"x"}`)
		for name, q := range map[string]store.Query{
			"open quotation mark": searching(`"x`), "star": searching("*"), "no word": searching("-"), "no fields": {Search: "x"},
			"too long": searching(strings.Repeat("x", 300)), "not text": searching("\xff"), "field": {Search: "x", Text: []string{"n;"}},
		} {
			var got error
			for _, got = range store.Find(ctx, s, "v", q) {
			}
			wantIs(got, store.ErrInvalid, "%s", name)
		}
		wantIs(store.EnsureSearch(ctx, s, "v", []string{"n;"}), store.ErrInvalid, "declare a field that is none")
		for _, search := range []string{"' OR 1=1", "a:b", "(x", "x & !y", "x <-> y", "NOT x", "{x}", "^x", "x\x00y", `x\`, "$1 ?"} {
			for _, err := range store.Find(ctx, s, "v", searching(search)) {
				check(err, "search")
			}
		}
	}),
}

var searchFields = []string{"name", "tags", "parts.name"}

func searching(search string) store.Query { return store.Query{Search: search, Text: searchFields} }

func machines(ctx context.Context, s store.Store) {
	check(store.EnsureIndexes(ctx, s, "v", []string{"n"}), "indexes")
	check(store.EnsureSearch(ctx, s, "v", searchFields), "search")
	for key, data := range map[string]string{
		"a": `{"name":"Red Tractor (1985)","n":1}`, "b": `{"name":"Blue tractor","tags":["old","heavy"],"n":2}`,
		"c": `{"name":"Plough","parts":[{"name":"Hätte 1990"},{"name":"Blade"}],"n":3}`, "d": `{"name":"TRACTOR, red","n":4}`,
		"e": `{"name":"x' y \"жук\""}`, "f": `{"name":null,"tags":7}`, "g": `{}`,
	} {
		put(ctx, s, "v", key, data)
	}
}

var someWords = []string{"a", "an", "ant", "Ant", "be", "bee", "Zoë", "zoe", "10", "1", "x-ray", "ray"}

func randomText(r *rand.Rand) string {
	words := make([]string, r.IntN(6))
	for i := range words {
		words[i] = someWords[r.IntN(len(someWords))]
	}
	return strings.Join(words, []string{" ", ", ", "-"}[r.IntN(3)])
}

func randomSearch(r *rand.Rand) string {
	var terms []string
	for range 1 + r.IntN(2) {
		word := someWords[r.IntN(len(someWords))]
		switch r.IntN(4) {
		case 0:
			word += "*"
		case 1:
			word = `"` + word + " " + someWords[r.IntN(len(someWords))] + `"`
		}
		terms = append(terms, word)
	}
	return strings.Join(terms, " ")
}
