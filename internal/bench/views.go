package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// A Person is an entity of which there are many, with one event each.
type Person struct {
	Town   string `json:"town"`
	Points int64  `json:"points"`
	Name   string `json:"name"`
}

// Enrolled is that event.
type Enrolled Person

// Apply implements deed.Event.
func (e Enrolled) Apply(p *Person) { *p = Person(e) }

// How many people there are in a town, on a page, and to an entity of the group.
const (
	perTown   = 1000
	pageSize  = 50
	perMember = 50
	maxPoints = 1_000_000
)

var (
	people  = deed.Aggregate[Person]{Name: "person", Events: map[string]deed.Event[Person]{"enrolled": Enrolled{}}}
	persons = deed.Projection[Person]{
		Name: "persons", Indexes: []string{"town", "points"},
		On: []deed.Handler[Person]{deed.On(func(p *Person, e Enrolled) { *p = Person(e) })},
	}
	// crew are those of whom a group consists: one for each fifty people, 20,000 if
	// there are a million.
	crew   = deed.Aggregate[Member]{Name: "member", Events: map[string]deed.Event[Member]{"joined": Joined{}}}
	onDuty = deed.Classifier[Member]{Name: "on-duty", Of: crew.States(), Verdict: func(m Member) deed.Verdict {
		if m.Since == "" {
			return deed.Exclude
		}
		return deed.Include
	}}
	best = deed.Query[town, []string]{
		Name: "best-of-town",
		Answer: func(ctx context.Context, r deed.Reader, p town) (names []string, err error) {
			for row, err := range persons.Find(ctx, r, store.Query{Where: inTown(p.Town), Sort: "points", Desc: true, Limit: pageSize}) {
				if err != nil {
					return nil, err
				}
				names = append(names, row.Value.Name)
			}
			return names, nil
		},
	}
	crowd = deed.Domain{Name: "crowd", Parts: []deed.Part{people, persons, crew, onDuty, best}}
)

// Member is the state of a member, Joined its one event.
type (
	Member struct {
		Since string `json:"since"`
	}
	Joined Member
)

// Apply implements deed.Event.
func (e Joined) Apply(m *Member) { *m = Member(e) }

type town struct {
	Town string `json:"town"`
	N    int    `json:"n"` // each is a question of its own
}

func inTown(name string) []store.Cond { return []store.Cond{{Field: "town", Op: "=", Value: name}} }

// views measures what it takes to read from a view with as many documents as the
// log has events.
func (r *run) views() (err error) {
	s, err := sqlite.Open(r.path("views.db"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := r.enroll(s); err != nil {
		return err
	}
	start := time.Now()
	return r.running(s, crowd, func(ctx context.Context, rt *deed.Runtime) error {
		if err := upToDate(ctx, rt, "persons", "on-duty"); err != nil {
			return err
		}
		r.note(fmt.Sprintf("a view of %s documents is made", number(float64(r.Events))), float64(r.Events)/time.Since(start).Seconds(), "documents/s")
		return errors.Join(r.pages(ctx, rt), r.cache(ctx, rt), r.group(ctx, rt))
	})
}

func (r *run) towns() int { return max(1, r.Events/perTown) }

// enroll writes the log: a thousand entities at a time.
func (r *run) enroll(s store.Store) error {
	var writes []store.Write
	flush := func() error {
		if len(writes) == 0 {
			return nil
		}
		_, err := s.Append(r.ctx, writes...)
		writes = writes[:0]
		return err
	}
	add := func(stream, typ string, event any) error {
		data, err := wire.Marshal(event)
		if err != nil {
			return err
		}
		e := store.Event{ID: store.ID(uuid.New()), Type: typ, Data: data, Meta: []byte(`{"actor":"bench"}`)}
		if writes = append(writes, store.Write{Stream: stream, Expect: store.None, Events: []store.Event{e}}); len(writes) < 1000 {
			return nil
		}
		return flush()
	}
	for i := range r.Events {
		err := add(fmt.Sprintf("person/p-%07d", i), "enrolled", Enrolled{fmt.Sprintf("town-%d", i%r.towns()), rand.Int64N(maxPoints), fmt.Sprintf("Person %d", i)})
		if err == nil && i%perMember == 0 {
			err = add(fmt.Sprintf("member/m-%07d", i), "joined", Joined{"2026-02-03"})
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

// pages measures pages of 50 documents, as a list on a screen asks for: of a town,
// or of all by points; one after the other. And those of a town by points, for which
// all of the town are sorted.
func (r *run) pages(ctx context.Context, rt *deed.Runtime) error {
	town := func() []store.Cond { return inTown(fmt.Sprintf("town-%d", rand.IntN(r.towns()))) }
	byIndex, err := r.page(ctx, rt, func() store.Query {
		if rand.IntN(2) == 0 {
			return store.Query{Where: town(), Limit: pageSize}
		}
		return store.Query{Sort: "points", Desc: true, Limit: pageSize, After: &store.Mark{Value: rand.Int64N(maxPoints), Key: "p"}}
	})
	if err != nil {
		return err
	}
	sorted, err := r.page(ctx, rt, func() store.Query { return store.Query{Where: town(), Sort: "points", Desc: true, Limit: pageSize} })
	if err != nil {
		return err
	}
	what := fmt.Sprintf("a page of a view with %s documents", number(float64(r.Events)))
	r.note(what+", median", ms(byIndex[len(byIndex)/2]), "ms")
	r.atMost(what+", p99", ms(byIndex[len(byIndex)*99/100]), "ms", 5)
	r.note(fmt.Sprintf("the same, %d of them sorted, median", perTown), ms(sorted[len(sorted)/2]), "ms")
	return nil
}

// page asks for pages, and for the page after each, and returns how long each took,
// the shortest first.
func (r *run) page(ctx context.Context, rt *deed.Runtime, some func() store.Query) (took []time.Duration, err error) {
	for end := time.Now().Add(r.d); time.Now().Before(end); {
		q := some()
		for range 2 {
			start := time.Now()
			rows, err := rt.Documents(ctx, rt, "persons", q)
			if err != nil {
				return nil, err
			}
			if took = append(took, time.Since(start)); len(rows) < pageSize {
				break
			}
			q.After = &store.Mark{Key: rows[len(rows)-1].Key, Value: store.FieldOf(rows[len(rows)-1].Value, "points")}
		}
	}
	slices.Sort(took)
	return took, nil
}

// cache measures a query that is answered anew each time, and one that need not be.
func (r *run) cache(ctx context.Context, rt *deed.Runtime) error {
	n := 0
	made, err := rate(1, r.d, func(int) error {
		n++
		_, _, err := best.Ask(ctx, rt, town{fmt.Sprintf("town-%d", n%r.towns()), n})
		return err
	})
	if err != nil {
		return err
	}
	kept, err := rate(1, r.d, func(int) error {
		_, _, err := best.Ask(ctx, rt, town{Town: "town-0"})
		return err
	})
	if err != nil {
		return err
	}
	r.note("a query is answered anew", made, "answers/s")
	r.ratio("a query is answered from memory", kept, "answers/s", "anew", made, 20)
	return nil
}

// group measures a list of all members.
func (r *run) group(ctx context.Context, rt *deed.Runtime) error {
	var took []time.Duration
	for end := time.Now().Add(r.d); time.Now().Before(end) || len(took) == 0; {
		start := time.Now()
		rows, err := rt.GroupMembers(ctx, rt, "on-duty", json.RawMessage(nil), store.Query{Where: []store.Cond{{Field: "in", Op: "=", Value: true}}})
		if err != nil {
			return err
		}
		if want := (r.Events + perMember - 1) / perMember; len(rows) != want {
			return fmt.Errorf("the group has %d members, and not %d", len(rows), want)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	r.atMost(fmt.Sprintf("a group of %d is listed, median", (r.Events+perMember-1)/perMember), ms(took[len(took)/2]), "ms", 200)
	return nil
}
