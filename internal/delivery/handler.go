package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/store"
)

// A Route is what goes where, and how.
type Route struct {
	// Publish makes the public events of a record that are to be delivered.
	Publish   func(*store.Record) ([]Event, error)
	Outlet    *Outlet
	Parallel  int  // so many deliveries at once; default 8
	Batch     int  // so many events in one delivery; default 1
	Unordered bool // there is no order to keep

	// Attempts is where the latest attempts are kept, for a record of the partition.
	Attempts func(stream string) (coll, key string)
}

// Timing of a handler.
const (
	// hold is how long deliveries begin before what came of them is committed.
	hold = 250 * time.Millisecond
	// slow is how long others wait for a delivery that takes its time.
	slow = time.Second
	// lookAgain is when what came of a slow one is asked for again.
	lookAgain = 500 * time.Millisecond
	// saveAttempts is how often attempts are saved that went well.
	saveAttempts = time.Second
	// kept is how long it is kept why a delivery failed that was not asked for in
	// its turn.
	kept = 2 * time.Second
	// remembered is for how many rounds it is known what was delivered: longer
	// than it takes to commit it.
	remembered = 6
)

// A handler delivers what a partition of the log says, in order for each key
// and many keys at once. It is used by one goroutine; those that it starts
// deliver, and tell it when they are done.
type handler struct {
	Route
	seed    maphash.Seed
	jobs    map[store.Position]*job
	asked   [remembered + 1][]store.Position // for in the latest rounds
	ready   []*job
	flights []*flight // that are under way
	ended   chan *flight
	round   int
	saved   time.Time

	mu       sync.Mutex                 // guards what follows
	prepared [2]map[store.Position]*job // those of the batch that comes next, and of the one before it
	flying   sync.WaitGroup
	life     context.Context // of deliveries
	stop     context.CancelFunc
}

// NewHandler returns the handler of a follower that delivers.
func NewHandler(r Route) engine.Handler {
	if r.Parallel <= 0 {
		r.Parallel = 8
	}
	if r.Batch <= 0 {
		r.Batch = 1
	}
	return &handler{Route: r, seed: maphash.MakeSeed(), jobs: map[store.Position]*job{}, ended: make(chan *flight, r.Parallel)}
}

// A job is a record whose events are to be delivered.
type job struct {
	of     uint64 // hash of the record's data: a dead letter may have been edited
	events []Event
	keys   []string
	state  jobState
	err    error     // why it is over, if it was in vain
	at     time.Time // when it was over
	round  int       // in which it was last asked for

	place int    // among the records of this round
	ahead int    // so many before it that share a key, and are not delivered
	next  []*job // that are behind it
}

type jobState int

const (
	waiting jobState = iota
	inHand
	over
)

// A flight is jobs that are delivered together.
type flight struct {
	ctx   context.Context
	jobs  []*job
	errs  []error
	begun time.Time
}

// Keys implements engine.Handler.
func (h *handler) Keys(rec store.Record) []string {
	events, err := h.events(&rec)
	switch {
	case err != nil:
		return []string{rec.Stream}
	case len(events) == 0 || h.Unordered:
		return []string{rec.ID.String()}
	}
	return keysOf(events)
}

func keysOf(events []Event) []string {
	if len(events) == 1 {
		return []string{events[0].PartitionKey}
	}
	keys := make([]string, len(events))
	for i := range events {
		keys[i] = events[i].PartitionKey
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// events are those that a record becomes. That they cannot be made is final.
func (h *handler) events(rec *store.Record) (events []Event, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = engine.Permanent(fmt.Errorf("panic: %v", v))
		}
	}()
	events, err = h.Publish(rec)
	return events, engine.Permanent(err)
}

// Handle implements engine.Handler.
func (h *handler) Handle(ctx context.Context, tx *engine.Tx, rec store.Record) error {
	return h.HandleAll(ctx, tx, []store.Record{rec})[0]
}

// Flush implements engine.Handler.
func (h *handler) Flush(context.Context, *engine.Tx) error { return nil }

// Reset implements engine.Handler. What was delivered is not forgotten: it
// would be delivered again. The attempts that were to be kept with it are not kept.
func (h *handler) Reset() {
	h.saved = time.Time{}
	h.Outlet.unkept()
}

// Keep implements engine.Keeper: when the partition is given up, nothing more
// is under way.
func (h *handler) Keep(ctx context.Context, _ func(string) bool) {
	<-ctx.Done()
	h.mu.Lock()
	stop := h.stop
	h.life = nil
	h.mu.Unlock()
	if stop != nil {
		stop()
	}
	h.flying.Wait()
}

// alive returns the context of deliveries, which ends when the partition is
// given up.
func (h *handler) alive() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		h.life, h.stop = context.WithCancel(context.Background())
	}
	return h.life
}

// HandleAll implements engine.BatchHandler.
func (h *handler) HandleAll(ctx context.Context, tx *engine.Tx, recs []store.Record) []error {
	h.land()
	h.forget()
	jobs := h.line(recs)
	trouble := h.work(ctx)
	errs := h.verdicts(jobs, trouble)
	if err := h.save(tx, recs[0].Stream, errs); err != nil {
		errs[0] = err
	}
	return errs
}

// land settles the flights that have ended since the last round.
func (h *handler) land() {
	for {
		select {
		case f := <-h.ended:
			h.settle(f)
		default:
			return
		}
	}
}

// forget drops what was delivered and committed since.
func (h *handler) forget() {
	h.round++
	at := h.round % len(h.asked)
	old := h.asked[at]
	h.asked[at] = nil
	for _, pos := range old {
		switch j := h.jobs[pos]; {
		case j == nil || h.round-j.round <= remembered: // it was asked for since
		case j.state == over:
			delete(h.jobs, pos)
		default:
			h.asked[at] = append(h.asked[at], pos)
		}
	}
}

// line makes jobs of records, each behind those that share a key with it.
func (h *handler) line(recs []store.Record) []*job {
	jobs := make([]*job, len(recs))
	last := map[string]*job{}
	h.ready = h.ready[:0]
	asked := &h.asked[h.round%len(h.asked)]
	for i := range recs {
		j := h.job(&recs[i])
		*asked = append(*asked, recs[i].Position)
		jobs[i] = j
		j.place, j.ahead, j.next, j.round = i, 0, nil, h.round
		for _, key := range j.keys {
			if p := last[key]; p != nil && (p.state != over || p.err != nil) {
				p.next = append(p.next, j)
				j.ahead++
			}
			last[key] = j
		}
		if j.state == waiting && j.ahead == 0 {
			h.ready = append(h.ready, j)
		}
	}
	return jobs
}

// job returns the job that a record is, which may have been begun. What is under
// way is not called back, should the record have been edited meanwhile: it is
// delivered again, as it is now.
func (h *handler) job(rec *store.Record) *job {
	j, of := h.jobs[rec.Position], maphash.Bytes(h.seed, rec.Data)
	if j != nil && (j.state == inHand || j.of == of && (j.state == waiting || j.err == nil || time.Since(j.at) < kept)) {
		return j
	}
	if j = h.takePrepared(rec.Position); j == nil || j.of != of {
		j = h.begin(rec, of)
	}
	j.at = time.Now()
	h.jobs[rec.Position] = j
	return j
}

// begin makes the job that a record is.
func (h *handler) begin(rec *store.Record, of uint64) *job {
	j := &job{of: of}
	if j.events, j.err = h.events(rec); j.err != nil || len(j.events) == 0 {
		j.state = over
	}
	switch {
	case j.err != nil:
		j.keys = []string{rec.Stream}
	case !h.Unordered:
		j.keys = keysOf(j.events)
	}
	return j
}

// Prepare implements engine.Preparer: the jobs that come next are made while
// those before them are delivered.
func (h *handler) Prepare(recs []store.Record) {
	next := make(map[store.Position]*job, len(recs))
	for i := range recs {
		next[recs[i].Position] = h.begin(&recs[i], maphash.Bytes(h.seed, recs[i].Data))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prepared = [2]map[store.Position]*job{h.prepared[1], next}
}

func (h *handler) takePrepared(pos store.Position) *job {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, some := range h.prepared {
		if j := some[pos]; j != nil {
			delete(some, pos)
			return j
		}
	}
	return nil
}

// work delivers for a while, and returns why it stopped before its time, if it did.
func (h *handler) work(ctx context.Context) (trouble error) {
	start := time.Now()
	for {
		for trouble == nil && len(h.ready) > 0 && len(h.flights) < h.Parallel && time.Since(start) < hold {
			// Permits are given in the order of the log, so that what stands in the
			// way of everything else is what is tried first.
			allowed, err := h.Outlet.permit()
			if err != nil {
				trouble = err
				break
			}
			h.send(h.take(), allowed)
		}
		wait := h.patience(start, trouble != nil)
		if wait <= 0 {
			return trouble
		}
		timer := time.NewTimer(wait)
		select {
		case f := <-h.ended:
			if err := h.settle(f); err != nil {
				trouble = err
			}
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// patience is for how long there is still something to wait for: a delivery
// that may be over soon, or a hand that comes free.
func (h *handler) patience(start time.Time, troubled bool) (wait time.Duration) {
	now := time.Now()
	for _, f := range h.flights {
		wait = max(wait, f.begun.Add(slow).Sub(now))
	}
	if len(h.ready) > 0 && !troubled {
		wait = max(wait, start.Add(hold).Sub(now))
	}
	return wait
}

// take takes jobs in hand that can be delivered together: those that are behind
// nothing, and those behind them.
func (h *handler) take() []*job {
	var batch, follow []*job
	n, within := 0, map[*job]int{} // so many of those ahead of a job are in the batch
	for {
		from := &h.ready
		if len(follow) > 0 {
			from = &follow
		}
		if len(*from) == 0 || n > 0 && n+len((*from)[0].events) > h.Batch {
			return batch
		}
		j := (*from)[0]
		*from = (*from)[1:]
		n += len(j.events)
		j.state = inHand
		batch = append(batch, j)
		if n >= h.Batch {
			return batch
		}
		for _, k := range j.next {
			if within[k]++; within[k] == k.ahead && k.state == waiting {
				follow = append(follow, k)
			}
		}
	}
}

// send delivers jobs, in a goroutine of its own.
func (h *handler) send(batch []*job, allowed permit) {
	f := &flight{ctx: h.alive(), jobs: batch, errs: make([]error, len(batch)), begun: time.Now()}
	h.flights = append(h.flights, f)
	h.flying.Go(func() {
		h.deliver(f, allowed)
		h.ended <- f
	})
}

// deliver delivers jobs together, or one by one if that fails: only one of them
// may be to blame.
func (h *handler) deliver(f *flight, allowed permit) {
	together := f.events()
	if len(together) > h.Batch { // one job, of many events
		first, rest := together[:h.Batch], together[h.Batch:]
		if f.errs[0] = h.Outlet.permitted(f.ctx, allowed, first); f.errs[0] == nil {
			f.errs[0] = h.inParts(f.ctx, rest)
		}
		return
	}
	err := h.Outlet.permitted(f.ctx, allowed, together)
	away := h.Outlet.away()
	switch {
	case err == nil || len(f.jobs) == 1 || isAway(err) || f.ctx.Err() != nil:
		for i := range f.errs {
			f.errs[i] = err
		}
		return
	case away != nil: // none of them may be to blame, but one has to answer for it
		for i := range f.errs {
			f.errs[i] = away
		}
		f.errs[0] = err
		return
	}
	failed := map[string]bool{}
	for i, j := range f.jobs {
		if slices.ContainsFunc(j.keys, func(k string) bool { return failed[k] }) {
			f.errs[i] = engine.ErrBehind
		} else {
			f.errs[i] = h.inParts(f.ctx, j.events)
		}
		if f.errs[i] != nil {
			for _, k := range j.keys {
				failed[k] = true
			}
		}
	}
}

// events are those of all its jobs.
func (f *flight) events() []Event {
	if len(f.jobs) == 1 {
		return f.jobs[0].events
	}
	n := 0
	for _, j := range f.jobs {
		n += len(j.events)
	}
	all := make([]Event, 0, n)
	for _, j := range f.jobs {
		all = append(all, j.events...)
	}
	return all
}

// inParts delivers the events of one job, as many at once as may be.
func (h *handler) inParts(ctx context.Context, events []Event) error {
	for part := range slices.Chunk(events, h.Batch) {
		if err := h.Outlet.Deliver(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// settle notes what came of a flight, and lets those go on that were behind. It
// returns an error if the place is away.
func (h *handler) settle(f *flight) (trouble error) {
	h.flights = slices.DeleteFunc(h.flights, func(g *flight) bool { return g == f })
	for i, j := range f.jobs {
		err := f.errs[i]
		if err != nil && f.ctx.Err() != nil || isAway(err) {
			j.state, trouble = waiting, err // it was not tried
			continue
		}
		j.state, j.err, j.at = over, err, time.Now()
		if err != nil {
			continue
		}
		for _, k := range j.next {
			if k.ahead--; k.ahead == 0 && k.state == waiting {
				at, _ := slices.BinarySearchFunc(h.ready, k.place, func(j *job, place int) int { return cmp.Compare(j.place, place) })
				h.ready = slices.Insert(h.ready, at, k)
			}
		}
	}
	return trouble
}

// verdicts says what came of each job. An error that comes after something that
// was not tried is not taken notice of yet, and is kept.
func (h *handler) verdicts(jobs []*job, trouble error) []error {
	errs := make([]error, len(jobs))
	failed := map[string]bool{}
	open := false
	for i, j := range jobs {
		behind := slices.ContainsFunc(j.keys, func(k string) bool { return failed[k] })
		switch {
		case j.state == over:
			if errs[i] = j.err; j.err != nil && !open {
				j.at = time.Time{} // asked for again, it is tried again
			}
		case j.state == inHand:
			errs[i] = engine.Ongoing(errSlow, lookAgain)
		case behind:
			errs[i] = engine.ErrBehind
		case trouble != nil:
			errs[i], open = trouble, true
			continue
		default:
			errs[i], open = engine.ErrNotYet, true
			continue
		}
		if errs[i] != nil {
			for _, k := range j.keys {
				failed[k] = true
			}
		}
	}
	return errs
}

var errSlow = errors.New("it is being delivered, which takes its time")

// save has the latest attempts kept, now and then.
func (h *handler) save(tx *engine.Tx, stream string, errs []error) error {
	failed := slices.ContainsFunc(errs, func(err error) bool { return err != nil })
	if h.Attempts == nil || !failed && time.Since(h.saved) < saveAttempts {
		return nil
	}
	data, err := h.Outlet.unsaved()
	if err != nil || data == nil {
		return err
	}
	h.saved = time.Now()
	coll, key := h.Attempts(stream)
	return tx.Put(coll, key, data)
}

func isAway(err error) bool { return engine.IsAway(err) }
