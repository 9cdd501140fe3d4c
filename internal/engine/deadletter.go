package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/deed-dev/deed/store"
)

// States of a dead letter.
const (
	StateRetrying = "retrying" // is going to be tried again by itself
	StateWaiting  = "waiting"  // waits behind another one of its sequence
	StateDead     = "dead"     // waits for somebody to redrive or discard it

	// Those below are of letters that are none any more, of which a note is kept.
	StateDiscarded = "discarded" // somebody gave it up
	StateHandled   = "handled"   // it was handled as somebody had edited it
)

// KindQueue is the kind of dead letters that are messages of a queue.
const KindQueue = "queue"

// A DeadLetter is a record that a follower could not handle, or one that
// waits behind such a record because it belongs to the same sequence.
type DeadLetter struct {
	ID       string          `json:"id"` // "<follower>.<position>"
	Follower string          `json:"follower"`
	State    string          `json:"state"` // retrying, waiting or dead
	Stream   string          `json:"stream"`
	Version  uint64          `json:"version"`
	Type     string          `json:"type"`
	Position string          `json:"position"`
	Event    store.ID        `json:"event,omitzero"` // the event's id
	Keys     []string        `json:"keys"`           // the sequences it belongs to
	Reason   string          `json:"reason"`
	Stack    string          `json:"stack,omitempty"` // where it panicked
	Attempts int             `json:"attempts"`
	FirstAt  time.Time       `json:"first_at"`         // when it was parked
	LastAt   time.Time       `json:"last_at,omitzero"` // of the last attempt
	NextAt   time.Time       `json:"next_at,omitzero"` // of the next attempt, if retrying
	Data     json.RawMessage `json:"data,omitempty"`   // the event as stored; left out if it is large
	Meta     json.RawMessage `json:"meta,omitempty"`   // its circumstances as stored
	Edits    []LetterEdit    `json:"edits,omitempty"`  // what somebody has put in the place of Data; the last one counts

	// What follows is not stored, but found out for whoever asks.
	Message      string  `json:"message,omitempty"`      // id of the public event, if it is a message of a queue
	Kind         string  `json:"kind,omitempty"`         // of the follower; "queue" for a message of a queue
	Subscription string  `json:"subscription,omitempty"` // topic and name, if it is one's
	Fingerprint  string  `json:"fingerprint,omitempty"`  // the same for what fails for the same reason; "" = it only waits
	Behind       string  `json:"behind,omitempty"`       // id of the letter it waits behind
	Blocks       int     `json:"blocks,omitzero"`        // letters that wait behind it
	Closed       *Closed `json:"closed,omitempty"`       // if it is discarded, or handled as edited
}

// A LetterEdit is what a follower is to see in the place of an event's data. The
// event itself stays as it is.
type LetterEdit struct {
	Data json.RawMessage `json:"data"`
	At   time.Time       `json:"at"`
	By   string          `json:"by,omitempty"`
	Why  string          `json:"why"`
}

// Closed says how a dead letter ended.
type Closed struct {
	At  time.Time `json:"at"`
	By  string    `json:"by,omitempty"`
	Why string    `json:"why,omitempty"`
}

// Bounds of what a dead letter repeats, so that it always fits a document.
const (
	maxReason = 2_000
	maxStack  = 16_000
	maxCopy   = 256 << 10 // of data, and of meta
)

// discarded is what remains of a dead letter that somebody gave up.
type discarded struct {
	DeadLetter
	Discarded time.Time `json:"discarded_at"`
	By        string    `json:"discarded_by,omitempty"`
	Why       string    `json:"discarded_because"`
}

// handled is what remains of a dead letter that was handled as edited.
type handled struct {
	DeadLetter
	Handled time.Time `json:"handled_at"`
}

// letter is a dead letter in the hands of a worker.
type letter struct {
	DeadLetter
	pos    store.Position
	edited bool
}

func deadColl(follower string) string      { return "$dead/" + follower }
func discardedColl(follower string) string { return "$discarded/" + follower }
func editedColl(follower string) string    { return "$edited/" + follower }

// deadKey sorts by generation, then by place in the log.
func deadKey(gen uint64, p store.Position) string {
	return fmt.Sprintf("%s%010d:%019d", deadPrefix(gen), p.Shard, p.Seq)
}

func deadPrefix(gen uint64) string { return fmt.Sprintf("%06d/", gen) }

func letterID(follower string, p store.Position) string { return follower + "." + p.String() }

// parseLetterID takes the id of a dead letter apart.
func parseLetterID(id string) (follower string, p store.Position, err error) {
	i := strings.LastIndexByte(id, '.')
	if i < 0 {
		return "", p, fmt.Errorf("%w: %q", ErrNoDeadLetter, id)
	}
	c, err := store.ParseCursor(id[i+1:])
	if ps := c.Positions(); err == nil && len(ps) == 1 {
		return id[:i], ps[0], nil
	}
	return "", p, fmt.Errorf("%w: %q", ErrNoDeadLetter, id)
}

// newLetter parks a record: behind another one, as long as nothing else is
// said.
func newLetter(follower string, rec store.Record, keys []string, now time.Time) *letter {
	return &letter{pos: rec.Position, DeadLetter: DeadLetter{
		ID: letterID(follower, rec.Position), Follower: follower, State: StateWaiting,
		Stream: rec.Stream, Version: rec.Version, Type: rec.Type, Position: rec.Position.String(), Event: rec.ID,
		Keys: keys, FirstAt: now.UTC(), Reason: "waits behind an earlier event of its sequence",
		Data: copyOf(rec.Data), Meta: copyOf(rec.Meta),
	}}
}

func copyOf(data []byte) json.RawMessage {
	if len(data) > maxCopy || !json.Valid(data) {
		return nil
	}
	return json.RawMessage(data)
}

// failed notes an attempt and decides about the next.
func (l *letter) failed(err error, r Retry, now time.Time) {
	l.Attempts++
	l.LastAt, l.NextAt = now.UTC(), time.Time{}
	l.Reason, l.Stack = reasonOf(err), ""
	if p, ok := errors.AsType[*panicked](err); ok {
		l.Stack = shorten(p.stack, maxStack)
	}
	d, _ := errors.AsType[*delayed](err)
	if IsOngoing(err) && now.Sub(l.FirstAt) < longestOngoing {
		l.Attempts--
		l.State, l.NextAt = StateRetrying, now.Add(d.wait).UTC()
		return
	}
	if IsPermanent(err) || l.Attempts >= r.Limit() {
		l.State = StateDead
		return
	}
	wait := r.Wait(l.Attempts)
	if d != nil {
		wait = max(wait, d.wait)
	}
	l.State, l.NextAt = StateRetrying, now.Add(wait).UTC()
}

func reasonOf(err error) string { return shorten(err.Error(), maxReason) }

func shorten(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// forget drops what only people want to see, and the document keeps.
func (l *letter) forget() { l.Data, l.Meta, l.Edits, l.Stack, l.Reason = nil, nil, nil, "", "" }

// saved is the change that writes the letter, for a generation.
func (l *letter) saved(gen uint64) (store.Change, error) {
	data, err := json.Marshal(l.DeadLetter)
	return store.Change{Coll: deadColl(l.Follower), Key: deadKey(gen, l.pos), Rev: store.AnyRev, Data: data}, err
}

// gone is the change that removes the letter.
func (l *letter) gone(gen uint64) store.Change {
	return store.Change{Coll: deadColl(l.Follower), Key: deadKey(gen, l.pos), Rev: store.AnyRev}
}

func parseLetter(follower string, d store.Doc) (*letter, error) {
	l := &letter{}
	err := json.Unmarshal(d.Data, &l.DeadLetter)
	if err == nil {
		_, l.pos, err = parseLetterID(l.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: dead letter %s of %s: %w", store.ErrCorrupt, d.Key, follower, err)
	}
	l.edited = len(l.Edits) > 0
	return l, nil
}

// getLetter reads one letter, or fails with ErrNoDeadLetter.
func getLetter(ctx context.Context, s store.Reading, follower string, gen uint64, p store.Position) (*letter, error) {
	d, err := s.Get(ctx, deadColl(follower), deadKey(gen, p))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoDeadLetter, letterID(follower, p))
	}
	if err != nil {
		return nil, err
	}
	return parseLetter(follower, d)
}

// letters yields the dead letters of a generation in log order.
func letters(ctx context.Context, s store.Reading, follower string, gen uint64, after string) iter.Seq2[*letter, error] {
	return func(yield func(*letter, error) bool) {
		for d, err := range s.List(ctx, deadColl(follower), deadPrefix(gen), after) {
			var l *letter
			if err == nil {
				l, err = parseLetter(follower, d)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}
