package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/deed-dev/deed/store"
)

type streamHead struct{ id, version int64 }

// A headRow is what the row of the head says.
type headRow struct{ pos, stream, time int64 }

// A plan is what a transaction finds and what it is going to write.
type plan struct {
	s        *Store
	before   headRow // where the head was
	pos      int64
	stream   int64 // highest number of a stream
	now      int64
	times    []int64               // of the events that come, if they are imported
	latest   int64                 // time of any of them
	streams  map[string]streamHead // as they are going to be
	kinds    map[kindName]int64    // looked up in this transaction
	newKinds map[kindName]int64
	lastKind int64
	created  map[string]bool // streams that are new
	changed  map[string]bool
	repeats  bool // somebody asks again for what has happened before
	summer   store.Summer
	events   eventColumns
}

// eventColumns are rows of events, column by column.
type eventColumns struct {
	pos, stream, version, kind, time, sum []int64
	id, data, meta                        [][]byte
	recs                                  []store.Record // the same as readers see them
}

func (s *Store) newPlan() *plan {
	return &plan{s: s, streams: map[string]streamHead{}, newKinds: map[kindName]int64{}, created: map[string]bool{}, changed: map[string]bool{}}
}

// look takes the head and the streams that are to be written to.
func (p *plan) look(ctx context.Context, t *transaction, batch []*appending) error {
	var names []string
	for _, a := range batch {
		for _, w := range a.writes {
			names = append(names, w.Stream)
		}
	}
	asked := time.Now()
	var clock int64
	err := t.look(ctx, func(b *pgx.Batch) {
		b.Queue(p.s.sql("SELECT pos, stream, time, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM {}.head FOR UPDATE")).
			QueryRow(func(row pgx.Row) error { return row.Scan(&p.pos, &p.stream, &p.now, &clock) })
		b.Queue(p.s.sql(findStreams), names).Query(p.scanStreams)
	})
	p.s.known.asked, p.s.known.clock = asked, clock
	p.before, p.now = headRow{p.pos, p.stream, p.now}, max(p.now, clock)
	return err
}

// findStreams finds streams by their names, one by one: the server goes on with a
// plan of when there were few, and would look through all of them.
const findStreams = `SELECT n.name, s.id, s.version FROM unnest($1::text[]) n (name)
	CROSS JOIN LATERAL (SELECT id, version FROM {}.streams s WHERE s.name = n.name COLLATE "C" LIMIT 1) s`

func (p *plan) scanStreams(rows pgx.Rows) error {
	var name string
	var h streamHead
	_, err := pgx.ForEachRow(rows, []any{&name, &h.id, &h.version}, func() error { p.streams[name] = h; return nil })
	return err
}

// decide gives an append its verdict, and plans what it writes.
func (p *plan) decide(ctx context.Context, q querier, a *appending) error {
	a.refused, a.written = nil, make([]store.Written, len(a.writes))
	for _, w := range a.writes {
		if v := uint64(p.streams[w.Stream].version); !w.Expect.Met(v) {
			conflict := &store.ConflictError{Stream: w.Stream, Expect: w.Expect, Version: v}
			repeated, err := p.repeated(ctx, q, a)
			if err == nil && !repeated {
				a.written, a.refused = nil, conflict
			}
			p.repeats = p.repeats || repeated
			return err
		}
	}
	p.times = a.times
	for i, w := range a.writes {
		h := p.streams[w.Stream]
		a.written[i].Version = uint64(h.version)
		if len(w.Events) == 0 {
			continue
		}
		if err := p.record(ctx, q, w, &h); err != nil {
			return err
		}
		a.written[i] = store.Written{Version: uint64(h.version), Position: store.Position{Seq: uint64(p.pos)}, Time: time.UnixMicro(p.now).UTC()}
	}
	return nil
}

// record plans the rows of events at the end of a stream.
func (p *plan) record(ctx context.Context, q querier, w store.Write, h *streamHead) error {
	if h.id == 0 {
		p.stream++
		h.id = p.stream
		p.created[w.Stream] = true
	} else if !p.created[w.Stream] {
		p.changed[w.Stream] = true
	}
	rec := store.Record{Stream: w.Stream, Time: time.UnixMicro(p.now).UTC()}
	category := store.Category(w.Stream)
	for _, e := range w.Events {
		kind, err := p.kind(ctx, q, kindName{category, e.Type})
		if err != nil {
			return err
		}
		h.version++
		p.pos++
		micros := p.now
		if len(p.times) > 0 {
			micros, p.times = p.times[0], p.times[1:]
			p.latest, rec.Time = max(p.latest, micros), time.UnixMicro(micros).UTC()
		}
		rec.Version, rec.Position.Seq, rec.ID, rec.Type, rec.Data, rec.Meta = uint64(h.version), uint64(p.pos), e.ID, e.Type, e.Data, e.Meta
		c := &p.events
		c.recs = append(c.recs, rec)
		c.pos, c.stream, c.version = append(c.pos, p.pos), append(c.stream, h.id), append(c.version, h.version)
		c.kind, c.time, c.sum = append(c.kind, kind), append(c.time, micros), append(c.sum, int64(p.summer.Sum(&rec)))
		c.id, c.data, c.meta = append(c.id, e.ID[:]), append(c.data, notNull(e.Data)), append(c.meta, notNull(e.Meta))
	}
	p.streams[w.Stream] = *h
	return nil
}

// notNull makes no bytes an empty value.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// kind returns the number of an event type. One that this process has not met
// is looked up, under the lock of the head; nobody else can add it meanwhile.
func (p *plan) kind(ctx context.Context, q querier, k kindName) (int64, error) {
	if id, ok := p.s.names.kindID(k); ok {
		return id, nil
	}
	if p.kinds == nil {
		if err := p.s.names.loadKinds(ctx, p.s, q); err != nil {
			return 0, err
		}
		p.kinds = map[kindName]int64{}
		for id, known := range p.s.names.kindsByID() {
			p.kinds[known], p.lastKind = id, max(p.lastKind, id)
		}
	}
	if id, ok := p.kinds[k]; ok {
		return id, nil
	}
	p.lastKind++
	p.kinds[k], p.newKinds[k] = p.lastKind, p.lastKind
	return p.lastKind, nil
}

// write queues the statements that write what is planned. The one that may be
// large comes first, see patience.
func (p *plan) write(b *pgx.Batch) {
	c := &p.events
	b.Queue(p.s.sql(`INSERT INTO {}.events (pos, stream, version, kind, id, time, data, meta, sum) SELECT * FROM
		unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::bigint[])`),
		c.pos, c.stream, c.version, c.kind, c.id, c.time, c.data, c.meta, c.sum)
	const rows = "INSERT INTO {}.streams (id, name, version) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[])"
	p.writeStreams(b, p.created, rows)
	// Not an UPDATE, which would look through all of them, see findStreams.
	p.writeStreams(b, p.changed, rows+" ON CONFLICT (id) DO UPDATE SET version = excluded.version")
	for k, id := range p.newKinds {
		b.Queue(p.s.sql("INSERT INTO {}.kinds (id, category, type) VALUES ($1, $2, $3)"), id, k.category, k.typ)
	}
}

func (p *plan) writeStreams(b *pgx.Batch, which map[string]bool, sql string) {
	if len(which) == 0 {
		return
	}
	ids, names, versions := make([]int64, 0, len(which)), make([]string, 0, len(which)), make([]int64, 0, len(which))
	for name := range which {
		h := p.streams[name]
		ids, names, versions = append(ids, h.id), append(names, name), append(versions, h.version)
	}
	b.Queue(p.s.sql(sql), ids, names, versions)
}

// time is that of the end of the log.
func (p *plan) time() int64 { return max(p.now, p.latest) }

// writeAll queues what is planned, and the head, which is locked.
func (p *plan) writeAll(b *pgx.Batch) {
	p.write(b)
	b.Queue(p.s.sql("UPDATE {}.head SET pos = $1, stream = $2, time = $3"), p.pos, p.stream, p.time())
}

// confirm queues a change that changes nothing. What was recorded earlier is
// acknowledged only now, and its first commit may have been cut short while it
// waited for a standby: this one waits again.
func (p *plan) confirm(b *pgx.Batch) { b.Queue(p.s.sql("UPDATE {}.head SET time = time")) }

// repeated reports whether exactly these writes happened before, and then says
// what they returned. They may be part of this very transaction.
func (p *plan) repeated(ctx context.Context, q querier, a *appending) (bool, error) {
	written, events := make([]store.Written, len(a.writes)), 0
	for i, w := range a.writes {
		v := uint64(p.streams[w.Stream].version)
		if w.Expect < 0 || v < uint64(w.Expect)+uint64(len(w.Events)) || len(w.Events) == 0 && v != uint64(w.Expect) {
			return false, nil
		}
		written[i] = store.Written{Version: uint64(w.Expect), Repeated: true}
		same, err := p.same(ctx, q, w, &written[i])
		if err != nil || !same {
			return false, err
		}
		events += len(w.Events)
	}
	if events > 0 {
		a.written = written
	}
	return events > 0, nil
}

// same reports whether exactly these events follow the expected version, and
// notes where they are.
func (p *plan) same(ctx context.Context, q querier, w store.Write, at *store.Written) (bool, error) {
	if len(w.Events) == 0 {
		return true, nil
	}
	stream := p.streams[w.Stream].id
	found := map[int64]store.Written{}
	ids := map[int64]store.ID{}
	for i, s := range p.events.stream { // what this transaction is going to write
		if s == stream {
			v := p.events.version[i]
			ids[v], found[v] = store.ID(p.events.id[i]), store.Written{Position: store.Position{Seq: uint64(p.events.pos[i])}, Time: time.UnixMicro(p.events.time[i]).UTC()}
		}
	}
	rows, err := q.Query(ctx, p.s.sql("SELECT version, id, pos, time FROM {}.events WHERE stream = $1 AND version > $2 AND version <= $3"),
		stream, int64(w.Expect), int64(w.Expect)+int64(len(w.Events)))
	if err != nil {
		return false, err
	}
	var version, pos, micros int64
	var id []byte
	_, err = pgx.ForEachRow(rows, []any{&version, &id, &pos, &micros}, func() error {
		ids[version], found[version] = store.ID(id), store.Written{Position: store.Position{Seq: uint64(pos)}, Time: time.UnixMicro(micros).UTC()}
		return nil
	})
	if err != nil {
		return false, err
	}
	for i, e := range w.Events {
		v := int64(w.Expect) + int64(i) + 1
		if ids[v] != e.ID {
			return false, nil
		}
		at.Version, at.Position, at.Time = uint64(v), found[v].Position, found[v].Time
	}
	return true, nil
}
