package deed

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// changes are the latest records of the log, each of which this process reads
// once, so that it can tell whether what was read some time ago would be read
// the same now.
type changes struct {
	store store.Store
	turn  chan struct{} // holds one token: whoever has it may read the log
	begun atomic.Uint64 // looks at the log

	mu     sync.Mutex
	ended  uint64 // the last look at the log that has ended
	known  bool   // the log was looked at
	first  uint64 // number of the first change of the list
	list   []*change
	size   int // bytes of its records
	at     store.Cursor
	latest time.Time // of the last record in the list
}

// A change is a record, and the documents that it may change.
type change struct {
	rec  store.Record
	docs map[*view]touchedKeys
}

type touchedKeys struct {
	keys []string
	all  bool // it cannot be told
}

// A moment is a place in the log: before the change with a number.
type moment struct {
	number uint64
	cursor store.Cursor
}

// Bounds of what is kept. What has changed longer ago is not known, and what
// was read then is read again.
const (
	maxChanges     = 16_384
	maxChangesSize = 32 << 20
)

func newChanges(s store.Store) *changes {
	// Records from before the first look can be put in front.
	return &changes{store: s, turn: make(chan struct{}, 1), first: 1 << 40}
}

// now looks where the log ends, and reads what it has not read yet. Those who
// ask at the same time share a look that has begun after they asked.
func (c *changes) now(ctx context.Context) (moment, error) {
	arrived := c.begun.Load()
	if err := c.lock(ctx); err != nil {
		return moment{}, err
	}
	defer c.unlock()
	c.mu.Lock()
	ended, m := c.ended, c.end()
	c.mu.Unlock()
	if ended > arrived {
		return m, nil
	}
	look := c.begun.Add(1)
	if err := c.read(ctx); err != nil {
		return moment{}, storeError(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = look
	return c.end(), nil
}

func (c *changes) lock(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *changes) unlock() { <-c.turn }

func (c *changes) end() moment { return moment{c.first + uint64(len(c.list)), c.at} }

func (c *changes) read(ctx context.Context) error {
	head, err := c.store.Head(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	known, at := c.known, c.at
	c.mu.Unlock()
	switch {
	case !known || at.Behind(head) > maxChanges:
		c.begin(head)
		return nil
	case at.CoversAll(head):
		return nil
	}
	for rec, err := range c.store.ReadAll(ctx, at, store.Filter{}) {
		if err != nil {
			return err
		}
		c.add(rec)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Join(head)
	return nil
}

// begin forgets all and goes on from the end of the log.
func (c *changes) begin(head store.Cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first += uint64(len(c.list)) + 1 // nothing that was read before is known to be the same
	c.list, c.size = nil, 0
	c.known, c.at = true, head
}

func (c *changes) add(rec store.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, &change{rec: rec})
	c.size += sizeOf(rec)
	c.at, c.latest = c.at.Advance(rec.Position), rec.Time
	drop := 0
	for len(c.list)-drop > maxChanges || c.size > maxChangesSize {
		c.size -= sizeOf(c.list[drop].rec)
		drop++
	}
	if drop > 0 {
		c.first += uint64(drop)
		clear(c.list[:drop])
		c.list = c.list[drop:]
	}
}

func sizeOf(rec store.Record) int { return len(rec.Data) + len(rec.Meta) + len(rec.Stream) + 200 }

// since returns the moment after a cursor, if what has changed since is known or
// not too much to be read.
func (c *changes) since(ctx context.Context, after store.Cursor) (moment, bool, error) {
	if _, err := c.now(ctx); err != nil {
		return moment{}, false, err
	}
	if err := c.lock(ctx); err != nil {
		return moment{}, false, err
	}
	defer c.unlock()
	c.mu.Lock()
	first, begins := c.first, c.at // where the list begins
	if len(c.list) > 0 {
		begins = before(c.list[0].rec)
	}
	single := len(c.at.Positions()) < 2
	c.mu.Unlock()
	if !single {
		return moment{}, false, nil
	}
	if !after.CoversAll(begins) {
		ok, err := c.prepend(ctx, after, begins)
		if err != nil || !ok {
			return moment{}, false, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first > first { // it was too much to be kept
		return moment{}, false, nil
	}
	i := slices.IndexFunc(c.list, func(x *change) bool { return !after.Covers(x.rec.Position) })
	if i < 0 {
		i = len(c.list)
	}
	return moment{c.first + uint64(i), after}, true, nil
}

// prepend reads the records between two cursors, to be the first of the list.
func (c *changes) prepend(ctx context.Context, after, to store.Cursor) (bool, error) {
	c.mu.Lock()
	room := maxChanges - len(c.list)
	c.mu.Unlock()
	if after.Behind(to) > uint64(max(room, 0)) {
		return false, nil
	}
	var older []*change
	size := 0
	for rec, err := range c.store.ReadAll(ctx, after, store.Filter{}) {
		if err != nil {
			return false, storeError(err)
		}
		if !to.Covers(rec.Position) {
			break
		}
		older = append(older, &change{rec: rec})
		size += sizeOf(rec)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+size > maxChangesSize {
		return false, nil
	}
	c.list, c.size, c.first = append(older, c.list...), c.size+size, c.first-uint64(len(older))
	return true, nil
}

// past reports whether it is certain that no record is going to have a time of t
// or earlier.
func (c *changes) past(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest.After(t)
}

// A doubt is a document that is not in a selection, and may belong there now.
type doubt struct {
	documentKey
	selections []*selection
}

// compare reports whether what was read at a moment is certainly not the same at
// a later one. If it is not certain, the documents are to be looked at that are
// returned.
func (c *changes) compare(r *reads, from, to moment) (doubts map[documentKey]*doubt, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from.number < c.first {
		return nil, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsure {
		return nil, true
	}
	doubts = map[documentKey]*doubt{}
	for n := from.number; n < to.number; n++ {
		x := c.list[n-c.first]
		if r.streams[x.rec.Stream] || slices.ContainsFunc(r.logs, x.isIn) {
			return nil, true
		}
		for v := range r.views {
			if r.changedBy(x.touches(v), v, doubts) {
				return nil, true
			}
		}
	}
	return doubts, false
}

// changedBy reports whether what was read of a view has certainly changed.
func (r *reads) changedBy(t touchedKeys, v *view, doubts map[documentKey]*doubt) bool {
	if t.all {
		return true
	}
	for _, key := range t.keys {
		at := documentKey{v, key}
		if r.documents[at] {
			return true
		}
		for _, s := range r.selections {
			switch {
			case s.view != v:
				continue
			case s.has(key):
				return true
			}
			d := doubts[at]
			if d == nil {
				d = &doubt{documentKey: at}
				doubts[at] = d
			}
			if !slices.Contains(d.selections, s) {
				d.selections = append(d.selections, s)
			}
		}
	}
	return false
}

// touchedAny reports whether any of some documents may have changed between two
// moments.
func (c *changes) touchedAny(doubts map[documentKey]*doubt, from, to moment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from.number < c.first {
		return true
	}
	views := map[*view]bool{}
	for at := range doubts {
		views[at.view] = true
	}
	for n := from.number; n < to.number; n++ {
		for v := range views {
			t := c.list[n-c.first].touches(v)
			if t.all || slices.ContainsFunc(t.keys, func(key string) bool { return doubts[documentKey{v, key}] != nil }) {
				return true
			}
		}
	}
	return false
}

// touches returns the documents of a view that the record may change. It is
// found out once.
func (x *change) touches(v *view) touchedKeys {
	if t, known := x.docs[v]; known {
		return t
	}
	var t touchedKeys
	if v.concerns != nil {
		t.all = v.concerns(x.rec)
	} else if v.touched == nil {
		t.all = v.rt.handled[wire.Name{Category: store.Category(x.rec.Stream), Type: x.rec.Type}]
	} else if keys, err := v.touched(x.rec); err != nil {
		t.all = true
	} else {
		t.keys = keys
	}
	if x.docs == nil {
		x.docs = map[*view]touchedKeys{}
	}
	x.docs[v] = t
	return t
}

// isIn reports whether a filter of the log selects the record.
func (x *change) isIn(f store.Filter) bool {
	return (len(f.Categories) == 0 || slices.Contains(f.Categories, store.Category(x.rec.Stream))) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, x.rec.Type))
}
