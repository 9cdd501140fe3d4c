package deed_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var (
	pastAskings = flag.Int("pastaskings", 150, "how often each store is asked about the past")
	pastSeed    = flag.Uint64("pastseed", 1, "of what happens, and of what is asked")
)

// What is asked about the past is what is so in a store whose log ends there:
// states, documents, pages, groups and queries, as of a version, a position or
// a time. That store has kept documents, and no past.
func TestThePastIsAsItWas(t *testing.T) {
	t.Run("mem", func(t *testing.T) { askAboutThePast(t, mem.New()) })
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) { askAboutThePast(t, open(t)) })
}

func askAboutThePast(t *testing.T, s store.Store) {
	rnd := rand.New(rand.NewPCG(*pastSeed, 0))
	rt := deedtest.StartOn(t, s, pastDomain())
	graze(t, rt, rnd)
	log := wholeLog(t, s)
	if err := rt.WaitFor(t.Context(), deed.Receipt{Position: string(store.CursorAt(log[len(log)-1].Position))}); err != nil {
		t.Fatal(err)
	}
	asked, points := map[string]int{}, somePoints(rnd, rt, log)
	truncated := &ending{TB: t}
	for i := range *pastAskings {
		at := points[i*len(points)/(*pastAskings)]
		what, ask := somethingToAsk(rnd)
		then, want := ask(t, rt, at.reader), ask(t, truncated.at(at), nil)
		if then != want {
			t.Fatalf("-pastseed %d, asking %d: %s as of %s:\n%s\nbut in a log that ends there:\n%s", *pastSeed, i, what, at.name, then, want)
		}
		asked[what]++
	}
	t.Logf("%d records, %d points: %v", len(log), len(points), asked)
}

// pastDomain is a herd whose states are snapshotted, with groups of it.
func pastDomain() deed.Domain {
	animals := herd
	animals.Snapshot = deed.Snapshot{Every: 4, Version: 1}
	hungry := deed.Classifier[animal]{Name: "hungry", Of: herd.States("Field"), Verdict: func(a animal) deed.Verdict { return include(a.Eaten < 3) }}
	out := deed.Classifier[animal]{Name: "hungry-outside", Of: hungry.Of, Within: &hungry, Verdict: func(a animal) deed.Verdict {
		switch a.Field {
		case "f-0":
			return deed.Exclude
		case "f-1":
			return deed.Unchanged
		}
		return deed.Include
	}}
	fed := deed.Classifiers[atLeast, animal]{Name: "fed", With: func(n atLeast) deed.Classifier[animal] {
		return deed.Classifier[animal]{Of: hungry.Of, Verdict: func(a animal) deed.Verdict { return include(a.Eaten >= n.N) }}
	}}
	q := newHerdQueries()
	return deed.Domain{Name: "herd", Parts: []deed.Part{
		animals, animalDocs, fieldDocs, hungry, out, fed, q.animals, q.state, q.visits, q.report,
	}}
}

type atLeast struct {
	N int `json:"n"`
}

const (
	pastAnimals = 20
	pastFields  = 6
)

func someAnimal(rnd *rand.Rand) string { return fmt.Sprintf("a-%d", rnd.IntN(pastAnimals)) }
func someField(rnd *rand.Rand) string  { return fmt.Sprintf("f-%d", rnd.IntN(pastFields)) }

// graze lets animals be born, move and eat, several at the same time.
func graze(t *testing.T, rt *deed.Runtime, rnd *rand.Rand) {
	t.Helper()
	commands := make([][]deed.Command[animal], pastAnimals-1) // one of them is never born
	for i := range commands {
		commands[i] = append(commands[i], beBorn{someField(rnd)})
		for range rnd.IntN(16) {
			if rnd.IntN(3) == 0 {
				commands[i] = append(commands[i], moveTo{someField(rnd)})
			} else {
				commands[i] = append(commands[i], eat{1 + rnd.IntN(2)})
			}
		}
	}
	var all sync.WaitGroup
	for i := range commands {
		all.Go(func() {
			for _, cmd := range commands[i] {
				if _, err := herd.Execute(t.Context(), rt, fmt.Sprintf("a-%d", i), cmd); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func wholeLog(t *testing.T, s store.Store) (log []store.Record) {
	t.Helper()
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, rec)
	}
	return log
}

// A point is a place in the past, and all that was recorded up to there.
type point struct {
	name   string
	reader deed.Reader
	log    []store.Record
}

// somePoints are a hundred positions and times, from the first to the last, and
// then all versions: who copies the log up to one after the other needs few copies.
func somePoints(rnd *rand.Rand, rt *deed.Runtime, log []store.Record) (points []point) {
	for range 100 {
		n := rnd.IntN(len(log) + 1)
		at := store.Start
		if n > 0 {
			at = store.CursorAt(log[n-1].Position)
		}
		if at == store.Start || rnd.IntN(2) == 0 {
			then := log[0].Time.Add(-time.Microsecond)
			if n > 0 {
				then = log[n-1].Time.Add(time.Duration(rnd.IntN(2)) * time.Microsecond)
			}
			end := slices.IndexFunc(log, func(rec store.Record) bool { return rec.Time.After(then) })
			if end < 0 {
				end = len(log)
			}
			points = append(points, point{"time " + then.String(), rt.AsOf(then), log[:end]})
			continue
		}
		points = append(points, point{"position " + string(at), rt.AtPosition(at), log[:n]})
	}
	slices.SortStableFunc(points, func(a, b point) int { return len(a.log) - len(b.log) })
	for v := range uint64(17) {
		upTo := slices.DeleteFunc(slices.Clone(log), func(rec store.Record) bool { return rec.Version > v+1 })
		points = append(points, point{fmt.Sprintf("version %d", v+1), rt.AtVersion(v + 1), upTo})
	}
	return points
}

// An ending is a store whose log ends at one point after the other. It goes on
// in the same store as long as what is there is the beginning of what is to be.
type ending struct {
	testing.TB
	s   store.Store
	rt  *deed.Runtime
	log []store.Record
}

// at returns a runtime that knows what was recorded up to a point, and no more.
func (e *ending) at(p point) *deed.Runtime {
	e.Helper()
	same := func(a, b store.Record) bool { return a.ID == b.ID }
	if e.s == nil || len(p.log) < len(e.log) || !slices.EqualFunc(e.log, p.log[:len(e.log)], same) {
		e.s, e.log = mem.New(), nil
		e.rt = deedtest.StartOn(e.TB, e.s, pastDomain())
	}
	if err := store.Import(e.Context(), e.s, p.log[len(e.log):]); err != nil {
		e.Fatal(err)
	}
	e.log = p.log
	head, err := e.s.Head(e.Context())
	if err == nil {
		err = e.rt.WaitFor(e.Context(), deed.Receipt{Position: string(head)})
	}
	if err != nil {
		e.Fatal(err)
	}
	return e.rt
}

// An askAt asks something of what a reader sees, or a runtime if that is nil.
type askAt func(t *testing.T, rt *deed.Runtime, r deed.Reader) string

func somethingToAsk(rnd *rand.Rand) (string, askAt) {
	animal := someAnimal(rnd)
	kinds := []struct {
		name string
		ask  func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error)
	}{
		{"state", func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
			state, version, err := rt.State(t.Context(), r, "animal", animal)
			return []any{state, version}, err
		}},
		{"document", someDocument(rnd)},
		{"page", somePage(rnd)},
		{"group", someGroup(rnd)},
		{"query", someQuery(rnd)},
	}
	k := kinds[rnd.IntN(len(kinds))]
	return k.name, func(t *testing.T, rt *deed.Runtime, r deed.Reader) string {
		t.Helper()
		if r == nil {
			r = rt
		}
		answer, err := k.ask(t, rt, r)
		if errors.Is(err, deed.ErrNotFound) {
			return "nothing"
		}
		if err != nil {
			t.Fatalf("%s: %v", k.name, err)
		}
		out, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
}

type asking func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error)

func someDocument(rnd *rand.Rand) asking {
	view, key := "animals", someAnimal(rnd)
	if rnd.IntN(2) == 0 {
		view, key = "fields", someField(rnd)
	}
	return func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
		return rt.Document(t.Context(), r, view, key)
	}
}

// somePage is a page of animals: filtered, sorted, and somewhere in the middle.
func somePage(rnd *rand.Rand) asking {
	q := store.Query{Sort: []string{"", "field", "eaten"}[rnd.IntN(3)], Desc: rnd.IntN(2) == 0, Limit: rnd.IntN(8)}
	op := []string{"=", "!=", "<", "<=", ">", ">="}[rnd.IntN(6)]
	switch rnd.IntN(3) {
	case 0:
		q.Where = []store.Cond{{Field: "field", Op: op, Value: someField(rnd)}}
	case 1:
		q.Where = []store.Cond{{Field: "eaten", Op: op, Value: int64(rnd.IntN(12))}}
	}
	if rnd.IntN(3) == 0 {
		q.After = &store.Mark{Key: someAnimal(rnd)}
		switch q.Sort {
		case "field":
			q.After.Value = someField(rnd)
		case "eaten":
			q.After.Value = int64(rnd.IntN(12))
		}
	}
	return func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
		return rt.Documents(t.Context(), r, "animals", q)
	}
}

// someGroup are the members of a group, or what it knows of one animal.
func someGroup(rnd *rand.Rand) asking {
	name, key, params := []string{"hungry", "hungry-outside", "fed"}[rnd.IntN(3)], someAnimal(rnd), json.RawMessage(nil)
	if name == "fed" {
		params = fmt.Appendf(nil, `{"n":%d}`, rnd.IntN(6))
	}
	if rnd.IntN(2) == 0 {
		return func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
			return rt.GroupMembers(t.Context(), r, name, params, store.Query{Where: []store.Cond{{Field: "in", Op: "=", Value: true}}})
		}
	}
	return func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
		known, err := rt.GroupMember(t.Context(), r, name, params, key)
		if err != nil {
			return nil, err
		}
		spells, err := rt.GroupHistory(t.Context(), r, name, key)
		return []any{known, spells}, err
	}
}

func someQuery(rnd *rand.Rand) asking {
	name := []string{"animals-in-field", "visits-of-field", "herd-report", "state-of-animal"}[rnd.IntN(4)]
	params := fmt.Appendf(nil, `{"field":%q}`, someField(rnd))
	if name == "state-of-animal" {
		params = fmt.Appendf(nil, `{"id":%q}`, someAnimal(rnd))
	}
	return func(t *testing.T, rt *deed.Runtime, r deed.Reader) (any, error) {
		run, err := rt.Queries().Ask(t.Context(), name, params, deed.Asking{Of: r})
		return run.Result, err
	}
}
