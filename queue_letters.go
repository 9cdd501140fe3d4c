package deed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// A message that a queue has given up is a dead letter like any other. Its id is
// that of its event's letter, with the number of the public event.

// queueOf returns the queue of a subscription, false if it is none.
func (rt *Runtime) queueOf(doc subscriptionDoc) (Queue, bool) {
	if !rt.isQueue(doc.Target) {
		return Queue{}, false
	}
	settings, err := parseQueue(doc.Target)
	return Queue{rt: rt, doc: doc, queueSettings: settings}, err == nil
}

// queueLetterID is the id of the dead letter that a message is.
func queueLetterID(follower, key string) string {
	shard, rest, _ := strings.Cut(key, ":")
	seq, n, _ := strings.Cut(rest, ":")
	return follower + "." + store.Position{Shard: uint32(number10(shard)), Seq: number10(seq)}.String() + "~" + strconv.FormatUint(number10(n), 10)
}

func number10(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// parseQueueLetterID takes the id of a dead letter that is a message apart; false if
// it is not one.
func parseQueueLetterID(id string) (follower, key string, ok bool) {
	rest, n, ok := strings.Cut(id, "~")
	i := strings.LastIndexByte(rest, '.')
	if !ok || i < 0 {
		return "", "", false
	}
	c, err := store.ParseCursor(rest[i+1:])
	place, numErr := strconv.ParseUint(n, 10, 32)
	if ps := c.Positions(); err == nil && numErr == nil && len(ps) == 1 {
		return rest[:i], messageKey(ps[0], int(place)), true
	}
	return "", "", false
}

// asLetter is a message as a dead letter.
func (q Queue) asLetter(m found) DeadLetter {
	e := m.Event
	l := DeadLetter{
		ID: queueLetterID(q.doc.Follower, m.key), Follower: q.doc.Follower, State: engine.StateDead,
		Stream: e.Subject, Type: e.Type, Message: e.ID, Keys: []string{e.PartitionKey},
		Reason: m.Reason, Attempts: max(m.Deliveries, 1), FirstAt: m.DeadAt, LastAt: m.DeadAt,
		Data: e.Data, Edits: m.Edits, Kind: engine.KindQueue, Subscription: q.doc.key(),
	}
	if len(m.Edits) > 0 {
		l.Data = m.Original
	}
	position, _, _ := strings.Cut(strings.TrimPrefix(l.ID, q.doc.Follower+"."), "~")
	l.Position, l.Version = position, number10(e.Sequence)
	if meta, err := wire.Marshal(e.Attributes()); err == nil {
		l.Meta = meta
	}
	l.Fingerprint = engine.FingerprintOf(l.Reason, "", l.Stream, e.ID)
	return l
}

// letters yields the dead letters of a queue after a key.
func (q Queue) letters(ctx context.Context, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for m, err := range q.read(ctx, q.dead(), after) {
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			if !yield(q.asLetter(m), nil) {
				return
			}
		}
	}
}

// blocked counts the open messages of each partition key that wait behind a dead
// one: those of an ordered queue.
func (q Queue) blocked(ctx context.Context) (map[string]int, error) {
	if !q.ordered {
		return nil, nil
	}
	n := map[string]int{}
	for m, err := range q.read(ctx, q.coll(), "") {
		if err != nil {
			return nil, err
		}
		n[m.Event.PartitionKey]++
	}
	return n, nil
}

// noteKey keeps notes of messages apart from those of events.
const noteKey = "message/"

func notesColl(follower, state string) string {
	if state == engine.StateHandled {
		return "$edited/" + follower
	}
	return "$discarded/" + follower
}

// note is what is kept of a dead letter that is none any more.
func (q Queue) note(m found, state string, closed engine.Closed) (store.Change, error) {
	l := q.asLetter(m)
	l.State, l.Closed = state, &closed
	data, err := wire.Marshal(l)
	return store.Change{Coll: notesColl(q.doc.Follower, state), Key: noteKey + m.key, Rev: store.AnyRev, Data: data}, err
}

// notes yields what is kept of former dead letters, after a key.
func (q Queue) notes(ctx context.Context, state, after string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if after != "" {
			after = noteKey + after
		}
		for d, err := range q.rt.store.List(ctx, notesColl(q.doc.Follower, state), noteKey, after) {
			var l DeadLetter
			if err == nil {
				l, err = parseNote(d)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

func parseNote(d store.Doc) (l DeadLetter, err error) {
	if err := wire.Unmarshal(d.Data, &l); err != nil {
		return l, fmt.Errorf("%w: note %s: %w", store.ErrCorrupt, d.Key, err)
	}
	return l, nil
}

// closed returns what is kept of a former dead letter.
func (q Queue) closed(ctx context.Context, key string) (DeadLetter, error) {
	for _, state := range []string{engine.StateDiscarded, engine.StateHandled} {
		d, err := q.rt.store.Get(ctx, notesColl(q.doc.Follower, state), noteKey+key)
		if err == nil {
			return parseNote(d)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return DeadLetter{}, err
		}
	}
	return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, queueLetterID(q.doc.Follower, key))
}

// edit has consumers get other data than the event's.
func (q Queue) edit(ctx context.Context, m found, edit LetterEdit) error {
	if len(m.Edits) == 0 {
		m.Original = m.Event.Data
	}
	size := len(edit.Data)
	for _, former := range m.Edits {
		size += len(former.Data)
	}
	if size > maxEdits {
		return Invalid{Field: "data", Detail: fmt.Sprintf("is too much: the edits of a dead letter may have %d bytes together", maxEdits)}
	}
	edit.At = q.rt.cfg.Now().UTC()
	m.Event.Data, m.Edits = json.RawMessage(edit.Data), append(m.Edits, edit)
	return q.write(ctx, m)
}

// redriveSome makes open messages of dead letters again. Those that are none any
// more are passed over.
func (q Queue) redriveSome(ctx context.Context, keys []string) (engine.Redriven, error) {
	return q.some(ctx, keys, q.reopen)
}

// discardSome removes dead letters, for a reason, and returns how many.
func (q Queue) discardSome(ctx context.Context, keys []string, reason, actor string) (int, error) {
	out, err := q.some(ctx, keys, func(ctx context.Context, m found) error { return q.giveUp(ctx, m, reason, actor) })
	return out.Handled, cmp.Or(err, out.Failure)
}

func (q Queue) some(ctx context.Context, keys []string, do func(context.Context, found) error) (out engine.Redriven, err error) {
	for _, key := range keys {
		m, err := q.letter(ctx, key)
		if err == nil {
			err = do(ctx, m)
		}
		switch {
		case err == nil:
			out.Handled++
		case errors.Is(err, ErrNoDeadLetter), errors.Is(err, ErrLockLost): // somebody else was faster
		default:
			return out, err
		}
	}
	return out, nil
}
