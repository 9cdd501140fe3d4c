package postgres

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

// names is what this process knows of the dictionaries. Rows are only ever
// added to them, by any process; what is not known here is looked up.
type names struct {
	mu     sync.RWMutex
	kinds  map[kindName]int64
	byID   map[int64]kindName
	colls  map[string]int64
	fields map[int64]map[string]int // of a collection: their numbers
}

type kindName struct{ category, typ string }

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (n *names) load(ctx context.Context, s *Store) error {
	n.mu.Lock()
	n.kinds, n.byID, n.colls, n.fields = map[kindName]int64{}, map[int64]kindName{}, map[string]int64{}, map[int64]map[string]int{}
	n.mu.Unlock()
	return n.loadKinds(ctx, s, s.pool)
}

func (n *names) loadKinds(ctx context.Context, s *Store, q querier) error {
	rows, err := q.Query(ctx, s.sql("SELECT id, category, type FROM {}.kinds"))
	if err != nil {
		return err
	}
	var id int64
	var k kindName
	found := map[kindName]int64{}
	_, err = pgx.ForEachRow(rows, []any{&id, &k.category, &k.typ}, func() error { found[k] = id; return nil })
	if err == nil {
		n.addKinds(found)
	}
	return err
}

// addKinds takes in kinds that are committed.
func (n *names) addKinds(kinds map[kindName]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, id := range kinds {
		n.kinds[k], n.byID[id] = id, k
	}
}

func (n *names) kindID(k kindName) (int64, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.kinds[k]
	return id, ok
}

// kindsByID returns all kinds that are known.
func (n *names) kindsByID() map[int64]kindName {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return maps.Clone(n.byID)
}

// coll returns the number of a collection; 0 if there is none.
func (s *Store) coll(ctx context.Context, name string) (id int64, err error) {
	s.names.mu.RLock()
	id, ok := s.names.colls[name]
	s.names.mu.RUnlock()
	if ok {
		return id, nil
	}
	if err := s.usable(ctx); err != nil || store.CheckName("collection", name) != nil {
		return 0, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	err = s.pool.QueryRow(ctx, s.sql("SELECT coalesce(max(id), 0) FROM {}.colls WHERE name = $1"), name).Scan(&id)
	if err == nil && id > 0 {
		s.names.addColl(name, id)
	}
	return id, err
}

// makeColl is coll, and makes the collection if there is none. A number must not
// be used before it is on the disk, whatever the server's settings: it could be
// given to another collection.
func (s *Store) makeColl(ctx context.Context, name string) (int64, error) {
	id, err := s.coll(ctx, name)
	if err != nil || id > 0 {
		return id, err
	}
	within, cancel := s.within(ctx)
	defer cancel()
	if _, err := s.pool.Exec(within, s.sql(`WITH safe AS MATERIALIZED (SELECT set_config('synchronous_commit', $2, true) IS NOT NULL AS ok)
		INSERT INTO {}.colls (name) SELECT $1::text FROM safe WHERE ok ON CONFLICT DO NOTHING`), name, s.commit); err != nil {
		return 0, err
	}
	if id, err = s.coll(ctx, name); err == nil && id == 0 {
		err = fmt.Errorf("collection %s vanished", name)
	}
	return id, err
}

func (n *names) addColl(name string, id int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.colls[name] = id
}

func (n *names) field(coll int64, field string) (int, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	i, ok := n.fields[coll][field]
	return i, ok
}

func (n *names) addField(coll int64, field string, i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fields[coll] == nil {
		n.fields[coll] = map[string]int{}
	}
	n.fields[coll][field] = i
}
