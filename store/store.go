// Package store is what a storage backend provides: an append-only [Log] of
// records divided into streams, and [Docs], collections of small JSON
// documents with compare-and-swap. Everything else (views, checkpoints,
// claims, timers, processes) is built on these two, so that a backend stays
// small.
//
// The comments on the interfaces are the contract. Package storetest is the
// same contract in executable form: every sentence that promises something
// has a clause there.
//
// This package depends on nothing but the standard library.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// A Record is an event as it is stored. Its byte slices belong to the
// reader: a store never changes them after handing them out.
type Record struct {
	ID       ID        // unique in the whole log
	Stream   string    // for example "order/o-17"
	Version  uint64    // place in the stream: 1, 2, 3, ... without gaps
	Position Position  // place in the log: increasing, gaps allowed
	Type     string    // for example "item-added"; unique within the stream's category
	Time     time.Time // when it was recorded, in UTC, to the microsecond; never decreases along the log
	Data     []byte    // the event as JSON
	Meta     []byte    // circumstances (actor, correlation, ...) as a JSON object; may be empty
}

// An Event is what a caller asks to be recorded.
type Event struct {
	ID   ID
	Type string
	Data []byte
	Meta []byte
}

// A Write asks for events to be recorded at the end of one stream. A Write
// without events is allowed: it only demands that Expect holds.
type Write struct {
	Stream string
	Expect Expect
	Events []Event
}

// Expect states what a writer believes about a stream: an exact version, or
// one of [None], [Exists] and [Any].
type Expect int64

const (
	None   Expect = 0  // the stream has no records
	Any    Expect = -1 // nothing is expected
	Exists Expect = -2 // the stream has at least one record
)

// Exactly expects the stream to be at the given version; 0 is [None].
func Exactly(version uint64) Expect { return Expect(version) }

// Met reports whether a stream at the given version satisfies e.
func (e Expect) Met(version uint64) bool {
	switch e {
	case Any:
		return true
	case Exists:
		return version > 0
	}
	return e >= 0 && uint64(e) == version
}

func (e Expect) String() string {
	switch e {
	case None:
		return "no stream"
	case Any:
		return "any version"
	case Exists:
		return "an existing stream"
	}
	return fmt.Sprintf("version %d", int64(e))
}

// Written says where the events of a [Write] went.
type Written struct {
	Version  uint64    // of the stream, after the write
	Position Position  // of the stream's last record written; zero if the Write had no events
	Time     time.Time // when they were recorded; zero if the Write had no events
	Repeated bool      // the same events had been recorded by an earlier append
}

// Errors of a store. Backends wrap them with what they know, so compare with
// errors.Is.
var (
	// ErrNotFound reports that there is no such document.
	ErrNotFound = errors.New("store: not found")
	// ErrUnavailable reports that the store cannot do anything at the moment
	// (disk full, database down, closed). Nothing was written; trying again
	// later may succeed.
	ErrUnavailable = errors.New("store: unavailable")
	// ErrUnknown reports that the answer was lost: the write may or may not
	// have happened. Repeating the same append with the same event ids is
	// safe and settles it.
	ErrUnknown = errors.New("store: outcome unknown")
	// ErrCorrupt reports stored data that fails its checksum or cannot be
	// read. The message names the position.
	ErrCorrupt = errors.New("store: corrupt")
	// ErrInvalid reports an argument that no store accepts (see [Check] and
	// [CheckChanges]); nothing was written.
	ErrInvalid = errors.New("store: invalid argument")
)

// A ConflictError reports that a stream or document is not what the writer
// expected. Nothing was written.
type ConflictError struct {
	Stream  string // the stream that conflicted, or "" for a document
	Coll    string // the document's collection and key, or ""
	Key     string
	Expect  Expect // of the stream
	Version uint64 // the stream's version or document's revision now; 0 = does not exist
}

func (e *ConflictError) Error() string {
	if e.Stream == "" {
		return fmt.Sprintf("store: document %s/%s is at revision %d, not the expected one", e.Coll, e.Key, e.Version)
	}
	return fmt.Sprintf("store: stream %s is at version %d, expected %v", e.Stream, e.Version, e.Expect)
}

// A Log is an append-only sequence of records, divided into streams.
type Log interface {
	// Append records the events of all writes, or of none. When it returns
	// nil, they survive a crash of the process and of the machine (a store
	// that cannot promise this says so, see [Volatile]).
	//
	// It fails with a *[ConflictError] naming the stream if the expectation
	// of any write is not met; a refused append consumes no versions. There
	// is one exception: if every write states an exact version or None, and
	// exactly its events (the same ids in the same order) already follow that
	// version, the append has happened before: it succeeds again with the
	// same result and Repeated set. So a lost answer can be retried.
	//
	// No stream may occur twice. A store that cannot write several streams
	// at once answers more than one write with [errors.ErrUnsupported].
	//
	// Versions of one stream are consecutive from 1. The events of one write
	// keep their order, and a later append gets later positions. If ctx ends
	// first, the append may still happen; the error then is ErrUnknown.
	Append(ctx context.Context, writes ...Write) ([]Written, error)

	// Read yields the records of one stream in version order (descending if
	// r.Backward). A stream that was never written has no records; that is
	// not an error. The sequence may be ranged over more than once; each time
	// reads anew. A loop body may call the store.
	Read(ctx context.Context, stream string, r Range) iter.Seq2[Record, error]

	// ReadAll yields the records of all streams after a cursor that satisfy
	// f, in log order, up to the head as it is during the call; it does not
	// wait for more. Versions of one stream come in order, every committed
	// record is seen, and nothing ever appears at or before a position that
	// was yielded, or a cursor returned by Head: readers may keep either.
	ReadAll(ctx context.Context, after Cursor, f Filter) iter.Seq2[Record, error]

	// Head returns the cursor of the end of the log. Nothing is ever
	// recorded at or before it afterwards. [Start] if the log is empty.
	Head(ctx context.Context) (Cursor, error)
}

// A Range selects records of a stream. The zero Range selects all.
type Range struct {
	From     uint64 // first version wanted (last, if Backward); 0 = from the beginning (end)
	Limit    int    // at most so many records; 0 = no limit
	Backward bool
}

// A Filter selects records of the log. The zero Filter selects all.
type Filter struct {
	Categories []string // only streams of these categories; empty = all
	Types      []string // only these event types; empty = all
	Partition  int      // with Partitions > 1: only streams that PartitionOf puts here
	Partitions int      // 0 or 1 = all streams
	Limit      int      // at most so many records; 0 = no limit
}

// A Doc is a small JSON document.
type Doc struct {
	Key  string
	Rev  uint64 // grows with every change of the document, from 1
	Data []byte
}

// A Change asks for one document to be written or, if Data is nil, deleted.
type Change struct {
	Coll string
	Key  string
	Rev  uint64 // the revision expected now; 0 = no such document; AnyRev = whatever
	Data []byte
}

// AnyRev in a [Change] writes whatever the document's revision is.
const AnyRev = ^uint64(0)

// Docs is a set of named collections of documents. A collection exists as
// soon as it has a document.
type Docs interface {
	// Get returns a document, or ErrNotFound.
	Get(ctx context.Context, coll, key string) (Doc, error)

	// Write applies all changes, or none if any document is not at the
	// expected revision (*[ConflictError]). No document may occur twice.
	// The revision of a written document is one more than it was; a document
	// written anew after deletion may start at 1 again. Durable like Append.
	// Deleting a document that is not there, with Rev 0 or AnyRev, is fine.
	// A store without transactions answers more than one change with
	// [errors.ErrUnsupported].
	Write(ctx context.Context, changes ...Change) error

	// List yields the documents of a collection whose key is greater than
	// after and starts with prefix, in byte order of their keys. A document
	// that changes during the listing is yielded at most once. The sequence may
	// be ranged over more than once; each time reads anew.
	List(ctx context.Context, coll, prefix, after string) iter.Seq2[Doc, error]
}

// A Store is what a backend implements. Its methods may be called by many
// goroutines at once. After Close they fail with ErrUnavailable.
type Store interface {
	Log
	Docs
	Close() error
}
