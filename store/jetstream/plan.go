package jetstream

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/deed-dev/deed/store"
)

// A plan is what is going to be written in one batch, and what each request in
// it is going to be told.
type plan struct {
	checks  []check
	events  []entry
	bytes   int
	heads   map[string]*planned
	members []member
	later   []*request // those who do not fit, or depend on others in this plan

	base   uint64 // sequence the log must end at
	micros int64  // the time of all records
}

// A check demands that a stream nobody writes to has not moved.
type check struct {
	stream string
	seq    uint64
}

// An entry is a record on its way.
type entry struct {
	place
	first    bool // of its stream in this plan
	imported bool // it has its time
	before   int  // index of the stream's entry before, if it is not the first
}

// A planned head is the end of a stream as it is going to be.
type planned struct {
	head
	touched bool
	entry   int // index of the last entry
}

// A member is a request that the plan gives a verdict.
type member struct {
	r       *request
	refused error
	written []store.Written
	ends    []int // indexes of the last entries of its writes; -1 = none
}

// plan decides what can be written together. A conflict counts only if the
// stream's head was asked for in this round.
func (w *writer) plan(ctx context.Context, requests []*request, alone bool) (*plan, error) {
	for {
		if err := w.fetch(ctx, w.missing(requests)); err != nil {
			return nil, w.unavailable(err)
		}
		p := &plan{heads: map[string]*planned{}}
		var stale []string
		for _, r := range requests {
			if alone && len(p.members) > 0 || !p.fits(r) {
				p.later = append(p.later, r)
				continue
			}
			stale = append(stale, w.judge(p, r)...)
		}
		if len(stale) == 0 {
			return p, nil
		}
		if err := w.fetch(ctx, stale); err != nil {
			return nil, w.unavailable(err)
		}
	}
}

// missing returns the streams whose heads must be asked for. That a stream is
// new is believed at first: JetStream is told, and refuses if it is not so.
func (w *writer) missing(requests []*request) (streams []string) {
	asked := map[string]bool{}
	for _, r := range requests {
		for _, wr := range r.writes {
			if _, known := w.know(wr.Stream); known || asked[wr.Stream] {
				continue
			}
			if wr.Expect != store.None || len(wr.Events) == 0 || w.careful {
				asked[wr.Stream] = true
				streams = append(streams, wr.Stream)
			}
		}
	}
	return streams
}

// know returns the end of a stream, if the writer knows it by heart.
func (w *writer) know(stream string) (head, bool) {
	if h, ok := w.fresh[stream]; ok {
		return h, true
	}
	return w.heads.Get(stream)
}

// fetchers is how many heads are asked for at once.
const fetchers = 32

// fetch asks the leader for the heads of streams.
func (w *writer) fetch(ctx context.Context, streams []string) error {
	heads, err := inParallel(streams, func(stream string) (head, error) {
		p, err := w.s.lastOf(ctx, stream)
		return head{p.Version, p.Position.Seq}, err
	})
	for i, h := range heads {
		if err == nil {
			w.note(streams[i], h)
		}
	}
	return err
}

// inParallel calls f for all of in, some at a time.
func inParallel[A, B any](in []A, f func(A) (B, error)) ([]B, error) {
	out, errs := make([]B, len(in)), make([]error, len(in))
	slots := make(chan struct{}, fetchers)
	var all sync.WaitGroup
	for i := range in {
		slots <- struct{}{}
		all.Go(func() {
			out[i], errs[i] = f(in[i])
			<-slots
		})
	}
	all.Wait()
	return out, errors.Join(errs...)
}

// fits reports whether there is room for a request. The first always fits.
func (p *plan) fits(r *request) bool {
	n, size := r.size()
	return len(p.members) == 0 || len(p.checks)+len(p.events)+n <= maxBatch && p.bytes+size <= maxBatchBytes
}

// size is how many messages a request needs, at most, and how many bytes.
func (r *request) size() (n, size int) {
	for _, wr := range r.writes {
		n += max(1, len(wr.Events))
		for _, e := range wr.Events {
			size += len(e.Data) + len(e.Meta)
		}
	}
	return n, size
}

// head returns the planned head of a stream. What is not known is new.
func (w *writer) head(p *plan, stream string) *planned {
	h, ok := p.heads[stream]
	if !ok {
		known, _ := w.know(stream)
		h = &planned{head: known}
		p.heads[stream] = h
	}
	return h
}

// judge adds a request to a plan, or refuses it. It returns the stream that
// seems to be in conflict but may have moved.
func (w *writer) judge(p *plan, r *request) (stale []string) {
	for _, wr := range r.writes {
		h := w.head(p, wr.Stream)
		switch {
		case wr.Expect.Met(h.version):
		case h.touched: // by a request before it, whose fate is not decided yet
			p.later = append(p.later, r)
			return nil
		default:
			if _, fresh := w.fresh[wr.Stream]; !fresh {
				return []string{wr.Stream}
			}
			err := &store.ConflictError{Stream: wr.Stream, Expect: wr.Expect, Version: h.version}
			p.members = append(p.members, member{r: r, refused: err})
			return nil
		}
	}
	m := member{r: r, written: make([]store.Written, len(r.writes)), ends: make([]int, len(r.writes))}
	times := r.times
	for i, wr := range r.writes {
		m.ends[i] = w.add(p, wr, times)
		times = times[min(len(wr.Events), len(times)):]
		m.written[i].Version = p.heads[wr.Stream].version
	}
	p.members = append(p.members, m)
	return nil
}

// add adds the events of a write, with their times if they are imported, and returns the index of the last, or -1.
func (w *writer) add(p *plan, wr store.Write, times []time.Time) int {
	h := p.heads[wr.Stream]
	if len(wr.Events) == 0 {
		if !h.touched {
			p.checks = append(p.checks, check{wr.Stream, h.seq})
		}
		return -1
	}
	for i, ev := range wr.Events {
		h.version++
		e := entry{first: !h.touched, before: h.entry}
		e.prev = h.seq // if it is the first
		e.Record = store.Record{ID: ev.ID, Stream: wr.Stream, Version: h.version, Type: ev.Type, Data: ev.Data, Meta: ev.Meta}
		if i < len(times) {
			e.Time, e.imported = times[i].UTC(), true
		}
		h.touched, h.entry = true, len(p.events)
		p.events = append(p.events, e)
		p.bytes += len(ev.Data) + len(ev.Meta)
	}
	return h.entry
}

// place gives all records their positions and their time.
func (p *plan) place(base uint64, micros int64) {
	p.base, p.micros = base, micros
	at := time.UnixMicro(micros).UTC()
	for i := range p.events {
		e := &p.events[i]
		if e.Position.Seq = p.seq(i); !e.imported {
			e.Time = at
		}
		if !e.first {
			e.prev = p.seq(e.before)
		}
	}
}

// seq is the sequence of an entry.
func (p *plan) seq(entry int) uint64 { return p.base + uint64(len(p.checks)+entry) + 1 }

// last is the sequence of the last entry.
func (p *plan) last() uint64 { return p.seq(len(p.events) - 1) }

// latest is the time of the end of the log.
func (p *plan) latest() int64 {
	at := p.micros
	for _, e := range p.events {
		at = max(at, e.Time.UnixMicro())
	}
	return at
}

// settle tells the members what has happened.
func (p *plan) settle() {
	for _, m := range p.members {
		m.r.written = m.written
		for i, e := range m.ends {
			if e >= 0 {
				m.written[i].Position.Seq = p.seq(e)
				m.written[i].Time = p.events[e].Time
			}
		}
		m.r.Answer(m.refused)
	}
}

// fail tells the members that the plan was not written, or that nobody knows.
func (p *plan) fail(err error) {
	for _, m := range p.members {
		m.r.Answer(cmp.Or(m.refused, err))
	}
}
