package deed_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A farStore counts which documents of views are read one by one.
type farStore struct {
	*mem.Store
	single, together, needless atomic.Int64
}

func (s *farStore) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	if strings.Contains(coll, "by-") {
		s.single.Add(1)
	}
	return s.Store.Get(ctx, coll, key)
}

func (s *farStore) GetMany(ctx context.Context, coll string, keys []string) (map[string]store.Doc, error) {
	if strings.Contains(coll, "by-lamp") { // all their streams begin in the log that is read
		s.needless.Add(int64(len(keys)))
	}
	s.together.Add(1)
	return store.GetMany(ctx, s.Store, coll, keys)
}

// Where documents come from a server, a batch asks for them together, and not at
// all for those of streams that only begin.
func TestDocumentsAreReadTogether(t *testing.T) {
	views := []deed.Projection[count]{
		{Name: "by-colour", On: []deed.Handler[count]{deed.OnBy(func(e Lit) string { return e.Colour }, func(c *count, _ Lit) { c.N++ })}},
		{Name: "by-lamp", On: []deed.Handler[count]{deed.On(func(c *count, _ Lit) { c.N++ })}},
	}
	s := &farStore{Store: mem.New()}
	const lampsThere, each = 600, 3
	for i := range lampsThere {
		w := store.Write{Stream: fmt.Sprintf("lamp/%d", i), Expect: store.None}
		for j := range each {
			e := store.Event{Type: "lit.v2", Data: fmt.Appendf(nil, `{"colour":"c%d"}`, i%50)}
			copy(e.ID[:], fmt.Sprintf("%08d%08d", i, j))
			w.Events = append(w.Events, e)
		}
		if _, err := s.Append(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	rt := deedtest.StartOn(t, s, deed.Domain{Parts: []deed.Part{lamps(), views[0], views[1]}})
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]int{{"c7": lampsThere / 50 * each}, {"7": each}} {
		if err := rt.WaitForView(t.Context(), views[i].Name, head); err != nil {
			t.Fatal(err)
		}
		single := s.single.Load()
		if single > 0 || s.together.Load() == 0 || s.needless.Load() > 0 {
			t.Errorf("%s: %d documents were read one by one, %d times together, %d without need", views[i].Name, single, s.together.Load(), s.needless.Load())
		}
		for key, n := range want {
			if c, err := views[i].Get(t.Context(), rt, key); err != nil || c.N != n {
				t.Errorf("%s/%s: %+v, %v, want %d", views[i].Name, key, c, err, n)
			}
		}
		s.single.Store(0)
	}
}

// A sharedStore is one that several processes may use: what is in it is looked
// after in partitions.
type sharedStore struct{ *mem.Store }

func (sharedStore) Shared() bool { return true }

func TestSagasOfSeveralProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sharedStore{mem.New()}
		p := &sagas{T: t, s: s, saga: hauls(&outside{})}
		p.begin(vaults, p.saga)
		defer p.stop()
		p.fill("a", 500)
		const n = 20
		for i := range n {
			if _, err := p.saga.Start(t.Context(), p.rt, fmt.Sprintf("s%d", i), haul{From: "a", To: "b", N: 2}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			p.expect(fmt.Sprintf("s%d", i), "completed, take done, bless done, seal done, approve skipped, pay done")
		}
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.rt.WaitForView(t.Context(), "instances", head); err != nil {
			t.Fatal(err)
		}
		all, err := p.rt.Instances().Find(t.Context(), store.Query{})
		if err != nil || len(all) != n || all[0].Kind != "saga" || all[0].State != deed.InstanceCompleted {
			t.Errorf("the view has %d instances, the first %+v, %v", len(all), all[0], err)
		}
	})
}
