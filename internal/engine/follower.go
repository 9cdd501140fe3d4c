// Package engine runs followers: whatever reads the log with its own cursor.
//
// The effects of a follower are changes of documents. They are committed
// together with the follower's cursor, in one write of the store, so that
// each event takes effect exactly once, whatever crashes when. An event that
// a follower cannot handle is parked together with the later events of its
// sequence, while everything else goes on.
package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Follower is anything that reads the log with its own cursor.
type Follower struct {
	Name       string
	Kind       string        // "projection", "handler", "runner" or "subscription", to tell people
	Filter     store.Filter  // the categories and types it handles
	Partitions int           // so many workers share the streams; 0 = 1
	Pure       bool          // its only effects are documents: a batch may be handled again, and it can be rebuilt
	Fixed      bool          // though Pure, it cannot be rebuilt
	Retry      Retry         // of records it failed to handle
	FromNow    bool          // when it runs for the first time, it begins at the end of the log
	From       store.Cursor  // where it begins when it runs for the first time, if not FromNow
	Timeout    time.Duration // of handling one record, if not Pure; default 30 s; a BatchHandler keeps the time itself
	Outward    bool          // it delivers to somewhere else: nobody waits for all events to be there
	Editable   bool          // what it does with an event is nothing that others could derive from the log: a dead letter may be edited
	Elsewhere  bool          // it is left to other processes, and never run by this one
	Awaited    bool          // other nodes wait for it all the time, and see how far it has come by its checkpoint
	Version    int           // of its definition: documents of another one are built anew
	Inline     bool          // its documents are updated with the events, too, so that they may be ahead of its checkpoint
	AskSwitch  bool          // documents that are built anew for a version wait to be asked before they are shown
	Gather     time.Duration // for so long it lets records gather, unless somebody waits for it

	// New makes the handler of one partition, which writes the documents of
	// the given generation.
	New func(generation uint64) Handler
	// Prepare, if not nil, is called before a generation's first batch.
	Prepare func(ctx context.Context, generation uint64) error
	// Colls names the collections that belong to a generation alone. They
	// are dropped when another generation has taken its place.
	Colls func(generation uint64) []string
	// Aside names further ones, which are not compared when two generations are.
	Aside func(generation uint64) []string
	// Drop, if not nil, removes what else belongs to a generation alone.
	Drop func(ctx context.Context, generation uint64) error
}

// A Handler handles the records of one partition, one at a time. It is used
// by one goroutine.
type Handler interface {
	// Keys returns the sequences a record belongs to: order matters only
	// among records that share a key. It is called only when it matters.
	Keys(rec store.Record) []string
	// Handle takes in a record. Changes of documents go through tx, or are
	// kept until Flush. If the store is to blame for an error, the worker
	// waits for the store; otherwise the record is parked: for good if the
	// error is [Permanent] or a panic, or to be tried again as Retry says.
	Handle(ctx context.Context, tx *Tx, rec store.Record) error
	// Flush gives tx the changes that Handle kept.
	Flush(ctx context.Context, tx *Tx) error
	// Reset forgets everything not committed, and everything remembered.
	Reset()
}

// A Retry says when a record that could not be handled is tried again.
type Retry struct {
	Attempts int           // in all; default 8
	First    time.Duration // wait before the second attempt, doubled each time; default 100 ms
	Max      time.Duration // longest wait; default 1 minute

	// Schedule, if not empty, is how long to wait before each further attempt,
	// instead of the above; Attempts is one more than its length.
	Schedule []time.Duration
}

// Limit is how many attempts there are in all.
func (r Retry) Limit() int {
	if len(r.Schedule) > 0 {
		return len(r.Schedule) + 1
	}
	if r.Attempts > 0 {
		return r.Attempts
	}
	return 8
}

// Wait is how long to wait after so many attempts, give or take a fifth: those
// that failed together should not come back together. The clock decides, so that
// in simulated time the same happens again.
func (r Retry) Wait(attempts int) time.Duration {
	first, longest := r.First, r.Max
	if first <= 0 {
		first = 100 * time.Millisecond
	}
	if longest <= 0 {
		longest = time.Minute
	}
	d := longest
	if n := attempts - 1; len(r.Schedule) > 0 {
		d = r.Schedule[min(n, len(r.Schedule)-1)]
	} else if n < 30 && first<<n < longest {
		d = first << n
	}
	jitter := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(attempts)))
	return d - d/5 + time.Duration(jitter.Int64N(int64(2*d/5+1)))
}

// Permanent marks an error that would come again: the record is not retried.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ error }

func (p *permanent) Unwrap() error { return p.error }

// IsPermanent reports whether an error is marked by [Permanent].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanent](err)
	return ok
}

// isInfrastructure reports whether err says more about the store than about
// the record.
func isInfrastructure(err error) bool {
	return errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown)
}
