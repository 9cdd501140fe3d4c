package deed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/internal/backends"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

type (
	jar   struct{ Coins int }
	paid  struct{ N int }
	drop  struct{ N int }
	shake struct{}
)

func (e paid) Apply(j *jar)                           { j.Coins += e.N }
func (c drop) Decide(jar) ([]deed.Event[jar], error)  { return []deed.Event[jar]{paid(c)}, nil }
func (shake) Decide(j jar) ([]deed.Event[jar], error) { return []deed.Event[jar]{paid{0}}, nil }
func jars(drops deed.Rules) deed.Aggregate[jar] {
	return deed.Aggregate[jar]{
		Name:     "jar",
		Events:   map[string]deed.Event[jar]{"paid": paid{}},
		Commands: map[string]deed.Command[jar]{"drop": deed.Ruled(drop{}, drops), "shake": shake{}},
	}
}

// refusals are the codes in the poison log, by actor.
func refusals(t *testing.T, s store.Store) map[string]int {
	t.Helper()
	out := map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"$poison"}}) {
		if err != nil {
			t.Fatal(err)
		}
		m := struct{ Actor string }{}
		d := struct{ Code string }{}
		unmarshal(t, rec.Meta, &m)
		unmarshal(t, rec.Data, &d)
		out[m.Actor+" "+d.Code]++
	}
	return out
}

func TestRoles(t *testing.T) {
	s := mem.New()
	agg := jars(deed.Rules{Roles: []string{"saver", "parent"}})
	rt := deedtest.StartOn(t, s, deed.Domain{Name: "d", Parts: []deed.Part{agg}})
	for name, c := range map[string]struct {
		roles []string
		cmd   deed.Command[jar]
		ok    bool
	}{
		"role of the command":   {[]string{"guest", "parent"}, drop{1}, true},
		"another role":          {[]string{"guest"}, drop{1}, false},
		"no role":               {nil, drop{1}, false},
		"admin":                 {[]string{deed.RoleAdmin}, drop{1}, true},
		"command without roles": {[]string{"parent"}, shake{}, false},
		"the same, as admin":    {[]string{deed.RoleAdmin}, shake{}, true},
	} {
		ctx := deed.With(t.Context(), deed.Call{Actor: name, Restricted: true, Roles: c.roles})
		_, err := agg.Execute(ctx, rt, "j", c.cmd)
		_, forbidden := errors.AsType[deed.Forbidden](err)
		if forbidden == c.ok || c.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := refusals(t, s)[name+" forbidden"]; n == 1 == c.ok {
			t.Errorf("%s: %d refusals are recorded", name, n)
		}
	}
	if _, err := agg.Execute(t.Context(), rt, "j", drop{1}); err != nil {
		t.Errorf("trusted code: %v", err)
	}
}

// A quota is exact, however many ask at once by way of however many nodes.
func TestQuota(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		s := mem.New()
		quota(t, s, s)
	})
	backends.Each(t, func(t *testing.T, open func(testing.TB) store.Store) {
		t.Parallel() // it is the syncs of the disk that take the time
		one := open(t)
		other := one
		if store.IsShared(one) { // another process would have its own
			other = open(t)
		}
		quota(t, one, other)
	})
}

// quota has clients ask far more than they may, half of them by way of each of
// two nodes.
func quota(t *testing.T, stores ...store.Store) {
	const limit, clients, each = 100, 64, 2
	agg := jars(deed.Rules{Quota: deed.Quota{Limit: limit, Per: time.Hour}})
	now := func() time.Time { return time.Date(2026, 1, 1, 10, 59, 0, 0, time.UTC) }
	var nodes []*deed.Runtime
	for _, s := range stores {
		rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{agg}}}, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, rt)
	}
	var accepted, refused atomic.Int64
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for j := range each {
				ctx := deed.With(t.Context(), deed.Call{Actor: "ann", ID: fmt.Sprint(i, "-", j)})
				_, err := agg.Execute(ctx, nodes[(i+j)%2], fmt.Sprint(i%7), drop{1})
				for tries := 0; tries < 10 && (deed.IsUnavailable(err) || errors.Is(err, deed.ErrOutcomeUnknown)); tries++ { // the machine is busy
					_, err = agg.Execute(ctx, nodes[(i+j)%2], fmt.Sprint(i%7), drop{1})
				}
				over, isOver := errors.AsType[deed.QuotaExceeded](err)
				switch {
				case err == nil:
					accepted.Add(1)
				case isOver && over.Limit == limit && over.Retry == time.Minute:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if accepted.Load() != limit || refused.Load() != clients*each-limit {
		t.Errorf("%d accepted, %d refused", accepted.Load(), refused.Load())
	}
	coins := 0
	for i := range 7 {
		j, _, err := agg.Load(t.Context(), nodes[1], fmt.Sprint(i))
		if err != nil {
			t.Error(err)
		}
		coins += j.Coins
	}
	if coins != limit {
		t.Errorf("%d coins are in the jars", coins)
	}
	if got := refusals(t, stores[1]); got["ann quota_exceeded"] != clients*each-limit {
		t.Errorf("refusals in the poison log: %v", got)
	}
	ctx := deed.With(context.Background(), deed.Call{Actor: "bob"})
	if _, err := agg.Execute(ctx, nodes[0], "0", drop{1}); err != nil {
		t.Errorf("another actor: %v", err)
	}
	if _, err := agg.Execute(deed.With(t.Context(), deed.Call{Actor: "ann"}), nodes[0], "0", shake{}); err != nil {
		t.Errorf("another command: %v", err)
	}
}

// An equal command of the same actor within the window is a repetition, unless
// it is the same command.
func TestWindow(t *testing.T) {
	agg := jars(deed.Rules{Window: time.Hour})
	rt := deedtest.Start(t, deed.Domain{Name: "d", Parts: []deed.Part{agg}})
	ask := func(actor, id string, n int) error {
		_, err := agg.Execute(deed.With(t.Context(), deed.Call{ID: id, Actor: actor}), rt, "j", drop{n})
		return err
	}
	for _, c := range []struct {
		actor, id string
		n         int
		want      error
	}{
		{"ann", "c1", 1, nil}, {"ann", "c1", 1, nil}, {"ann", "c2", 1, deed.Repeated}, {"ann", "c2", 1, deed.Repeated},
		{"ann", "c3", 2, nil}, {"bob", "c4", 1, nil},
	} {
		if err := ask(c.actor, c.id, c.n); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if j, _, _ := agg.Load(t.Context(), rt, "j"); j.Coins != 4 {
		t.Errorf("%d coins", j.Coins)
	}
}

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}
