package sqlite

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
)

// names is what readers and the writer know of the dictionaries of event
// types and collections. The writer adds a name before it commits the first
// row that refers to it, so no reader ever meets a number it cannot know;
// numbers are never used twice, even if that commit fails.
type names struct {
	mu       sync.RWMutex
	kinds    map[kindName]int64
	kindByID map[int64]kindName
	lastKind int64
	colls    map[string]int64
	lastColl int64
}

type kindName struct{ category, typ string }

func (n *names) load(c *lib.Conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	kinds, err := dictionary(c, "kinds", "category, type")
	if err != nil {
		return err
	}
	colls, err := dictionary(c, "colls", "name, ''")
	if err != nil {
		return err
	}
	n.kinds, n.kindByID, n.colls = map[kindName]int64{}, kinds, map[string]int64{}
	for id, k := range kinds {
		n.kinds[k], n.lastKind = id, max(n.lastKind, id)
	}
	for id, k := range colls {
		n.colls[k.category], n.lastColl = id, max(n.lastColl, id)
	}
	return nil
}

// dictionary reads a table of names. It is small, and an event of which the
// type is not known would be passed over by who reads a type: so it is read
// from the table and from its index, and both must say the same.
func dictionary(c *lib.Conn, table, columns string) (map[int64]kindName, error) {
	var copies [2]map[int64]kindName
	for i, from := range []string{"NOT INDEXED", "INDEXED BY sqlite_autoindex_" + table + "_1"} {
		m := map[int64]kindName{}
		err := sqlitex.ExecuteTransient(c, fmt.Sprintf("SELECT id, %s FROM %s %s", columns, table, from), &sqlitex.ExecOptions{ResultFunc: func(st *lib.Stmt) error {
			m[st.ColumnInt64(0)] = kindName{st.ColumnText(1), st.ColumnText(2)}
			return nil
		}})
		if err != nil {
			return nil, err
		}
		copies[i] = m
	}
	if !maps.Equal(copies[0], copies[1]) {
		return nil, fmt.Errorf("%w: the table %s and its index differ: run deed check, restore a backup", store.ErrCorrupt, table)
	}
	return copies[0], nil
}

func (n *names) kind(id int64) (kindName, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	k, ok := n.kindByID[id]
	return k, ok
}

func (n *names) kindID(k kindName) (int64, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.kinds[k]
	return id, ok
}

func (n *names) addKind(k kindName) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastKind++
	n.kinds[k], n.kindByID[n.lastKind] = n.lastKind, k
	return n.lastKind
}

func (n *names) coll(name string) (int64, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	id, ok := n.colls[name]
	return id, ok
}

func (n *names) addColl(name string) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastColl++
	n.colls[name] = n.lastColl
	return n.lastColl
}

// selected returns the numbers of the kinds that a filter selects, sorted.
func (n *names) selected(f store.Filter) []int64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	ids := maps.Clone(n.kinds)
	maps.DeleteFunc(ids, func(k kindName, _ int64) bool {
		return len(f.Categories) > 0 && !slices.Contains(f.Categories, k.category) ||
			len(f.Types) > 0 && !slices.Contains(f.Types, k.typ)
	})
	return slices.Sorted(maps.Values(ids))
}
