package engine

import (
	"errors"
	"math"
	"time"

	"github.com/deed-dev/deed/store"
)

// States of a follower.
const (
	StateRunning    = "running"
	StatePaused     = "paused"
	StateRebuilding = "rebuilding" // runs, and builds its documents anew beside
	StateTrouble    = "waiting"    // for the store, after an error; it goes on by itself
	StateStopped    = "stopped"    // Run does not run
	StateBlocked    = "blocked"    // where it delivers to is away; it goes on by itself
	StateStandby    = "standby"    // other nodes hold all of its partitions
	StateElsewhere  = "elsewhere"  // it is left to other processes

	// StateOtherVersion is that of a follower whose documents are of another
	// version than this program's, which therefore leaves them as they are.
	StateOtherVersion = "other-version"
)

// A Status says how a follower is doing.
type Status struct {
	Name       string       `json:"name"`
	Kind       string       `json:"kind"`
	State      string       `json:"state"`
	Generation uint64       `json:"generation,omitzero"` // of the documents that readers see
	Version    int          `json:"version,omitzero"`    // of the definition, in this program
	Partitions int          `json:"partitions"`
	Cursor     store.Cursor `json:"cursor"`
	Head       store.Cursor `json:"head"`
	Behind     uint64       `json:"behind"`                       // at most so many records are still to be read
	LagSeconds float64      `json:"lag_seconds"`                  // age of the oldest record not yet handled; 0 = caught up
	Rate       float64      `json:"rate"`                         // records handled a second, lately
	Handled    uint64       `json:"handled"`                      // records, since the start of the process
	Retrying   int          `json:"retrying"`                     // dead letters that are going to be tried again by themselves
	Waiting    int          `json:"waiting"`                      // dead letters that wait behind another
	Dead       int          `json:"dead"`                         // dead letters that wait for somebody
	OldestDead *time.Time   `json:"oldest_dead_letter,omitempty"` // when the oldest of those that failed was parked
	LastError  string       `json:"last_error,omitempty"`
	ErrorAt    *time.Time   `json:"last_error_at,omitempty"`
	Heartbeat  *time.Time   `json:"heartbeat,omitempty"` // when the slowest partition last showed signs of life
	Rebuild    *Progress    `json:"rebuild,omitempty"`
	Nodes      []string     `json:"nodes,omitempty"` // who holds each of its partitions, if several processes share the store; "" = nobody
}

func (f *follower) status() Status {
	f.mu.Lock()
	s := Status{Name: f.Name, Kind: f.Kind, State: StateStopped, Generation: f.intent.Generation, Version: f.Version, Partitions: f.Partitions}
	work, trouble, seen, i := f.work, f.trouble, f.watched, f.intent
	live := work.live
	switch {
	case f.running:
		s.State = StateRunning
	case f.Elsewhere:
		s.State = StateElsewhere
	}
	if f.intent.Paused {
		s.State = StatePaused
	}
	pace := f.pace
	f.mu.Unlock()
	now := time.Now()
	if live == nil {
		s.Cursor, s.Head, s.Behind = seen.at, seen.head, seen.at.Behind(seen.head)
		s.lags(seen.oldest, now)
		if s.State == StateRunning && i.Last > 0 && !f.runs(i, i.Generation) {
			s.State = StateOtherVersion
		}
	} else {
		s.Cursor = live.cursor()
		elsewhere := 0
		for _, w := range live.workers {
			r := w.reported(now)
			s.merge(r, now)
			if r.state == StateStandby {
				elsewhere++
			}
			if f.members != nil {
				s.Nodes = append(s.Nodes, r.node)
			}
		}
		if elsewhere == len(live.workers) && s.State == StateRunning {
			s.State = StateStandby
		}
		s.Behind = s.Cursor.Behind(s.Head)
	}
	if work.building != nil {
		s.Rebuild = progressOf(i, work.building, pace, s.Head, now)
		if s.Rebuild.trouble != "" {
			s.State, s.LastError = StateTrouble, s.Rebuild.trouble
		}
		if s.State == StateRunning || s.State == StateOtherVersion {
			s.State = StateRebuilding
		}
	}
	if trouble != "" {
		s.State, s.LastError = StateTrouble, trouble
	}
	return s
}

// report is what a worker tells others, under its mutex.
type report struct {
	at        store.Cursor // the same as the worker's cursor
	head      store.Cursor
	state     string
	handled   uint64
	retrying  int
	dead      int
	waiting   int
	lastError string
	errorAt   time.Time
	heartbeat time.Time
	parkedAt  time.Time // when the oldest dead letter was parked that failed
	oldest    time.Time // when the oldest record not yet handled was recorded; zero = caught up
	rate      float64
	rateAt    time.Time
	rateFrom  uint64
	alive     bool
	node      string // the holder, if several may be
}

// The methods below update what a worker reports.

func (w *worker) beat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heartbeat = time.Now()
	w.state = StateRunning
	if m := w.f.members; m != nil {
		w.node = m.self.Node
	}
	w.told()
}

// told copies what changed in the worker's own hands; the caller holds mu.
func (w *worker) told() {
	w.at = w.cursor
	w.retrying, w.waiting, w.dead, w.parkedAt = w.parked.counts()
}

// tell reports what has changed, and wakes those who wait for it.
func (w *worker) tell() {
	w.mu.Lock()
	w.told()
	w.mu.Unlock()
	w.f.notify()
}

// seen notes what reading a batch says about the lag.
func (w *worker) seen(b batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = w.head.Join(b.head)
	w.oldest = time.Time{}
	if len(b.recs) > 0 {
		w.oldest = b.recs[0].Time
	}
}

// count notes that so many records were dealt with, and wakes those who wait
// for them.
func (w *worker) count(n int, caughtUp bool) {
	now := time.Now()
	w.mu.Lock()
	w.handled += uint64(n)
	if caughtUp {
		w.oldest = time.Time{}
	}
	w.measure(now)
	w.told()
	w.mu.Unlock()
	w.f.notify()
}

// rateWindow is the time over which the rate is smoothed.
const rateWindow = 5 * time.Second

// measure brings the rate up to date; the caller holds mu.
func (w *worker) measure(now time.Time) {
	d := now.Sub(w.rateAt)
	if d < time.Second {
		return
	}
	lately := float64(w.handled-w.rateFrom) / d.Seconds()
	if w.rate == 0 {
		w.rate = lately
	} else {
		w.rate += (lately - w.rate) * -math.Expm1(-float64(d)/float64(rateWindow))
	}
	if w.rate < 0.1 {
		w.rate = 0
	}
	w.rateAt, w.rateFrom = now, w.handled
}

func (w *worker) fails(err error) {
	if errors.Is(err, errFenced) {
		w.log.Info("follower overtaken: nothing of its last batch was recorded")
	} else {
		w.log.Error("follower waits", "error", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.state, w.lastError, w.errorAt, w.heartbeat = StateTrouble, reasonOf(err), now, now
}

// reported returns a copy of what a worker reports.
func (w *worker) reported(now time.Time) report {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.measure(now)
	return w.report
}

// lags takes into account when the oldest record not yet handled was recorded.
func (s *Status) lags(oldest, now time.Time) {
	if !oldest.IsZero() {
		s.LagSeconds = max(s.LagSeconds, now.Sub(oldest).Seconds())
	}
}

// merge adds the report of one partition to the status of its follower.
func (s *Status) merge(r report, now time.Time) {
	s.Head = s.Head.Join(r.head)
	s.Rate += r.rate
	s.Handled += r.handled
	s.Retrying += r.retrying
	s.Waiting += r.waiting
	s.Dead += r.dead
	if !r.parkedAt.IsZero() && (s.OldestDead == nil || r.parkedAt.Before(*s.OldestDead)) {
		at := r.parkedAt.UTC()
		s.OldestDead = &at
	}
	if r.state == StateTrouble || (r.state == StateStopped || r.state == StateBlocked) && s.State == StateRunning {
		s.State = r.state
	}
	s.lags(r.oldest, now)
	if r.lastError != "" && (s.ErrorAt == nil || r.errorAt.After(*s.ErrorAt)) {
		at := r.errorAt.UTC()
		s.LastError, s.ErrorAt = r.lastError, &at
	}
	if s.Heartbeat == nil || r.heartbeat.Before(*s.Heartbeat) {
		at := r.heartbeat.UTC()
		s.Heartbeat = &at
	}
}
