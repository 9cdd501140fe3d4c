package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/deed-dev/deed/store"
)

type docName struct{ coll, key string }

// batchesOfDocs is how many writes of documents may be under way; a server
// takes 50 batches of a stream at once.
const batchesOfDocs = 16

// Get implements [store.Docs].
func (s *Store) Get(ctx context.Context, coll, key string) (store.Doc, error) {
	d, _, err := s.doc(ctx, coll, key)
	if err == nil && d.Rev == 0 {
		d, err = store.Doc{Key: key}, fmt.Errorf("%w: %s/%s", store.ErrNotFound, coll, key)
	}
	return d, err
}

// doc returns a document as the leader has it, and its message; revision 0 if
// there is none.
func (s *Store) doc(ctx context.Context, coll, key string) (store.Doc, message, error) {
	m, err := s.leaderGet(ctx, s.subjects.docs(), getRequest{Last: s.subjects.doc(coll, key)})
	if err != nil || m.seq == 0 {
		return store.Doc{Key: key}, m, err
	}
	saw(&s.seenDocs, m.seq)
	d, err := s.decodeDoc(coll, key, &m)
	if err == nil {
		s.learn(docName{coll, key}, revision{d.Rev, m.seq})
	}
	return d, m, err
}

// learn remembers where a document is, unless something newer is known. It
// need not be so any more when it is used: JetStream is told.
func (s *Store) learn(name docName, r revision) {
	if old, known := s.revs.Peek(name); !known || old.seq < r.seq {
		s.revs.Add(name, r)
	}
}

// Write implements [store.Docs].
func (s *Store) Write(ctx context.Context, changes ...store.Change) error {
	if err := store.CheckChanges(changes); err != nil {
		return err
	}
	if err := s.usable(ctx); err != nil || len(changes) == 0 {
		return err
	}
	if err := s.fewAndSmall(changes); err != nil {
		return err
	}
	select {
	case s.open <- struct{}{}:
		defer func() { <-s.open }()
	case <-ctx.Done():
		return ctx.Err()
	}
	within, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	c := &change{s: s, changes: changes, attempt: nuid.Next()}
	for {
		err := c.write(within)
		if err == nil || !errors.Is(err, errTransient) {
			return c.verdict(ctx, err)
		}
		select {
		case <-time.After(rand.N(5 * time.Millisecond)):
		case <-within.Done():
			return c.verdict(ctx, err)
		}
	}
}

// fewAndSmall reports whether the servers take so much at once.
func (s *Store) fewAndSmall(changes []store.Change) error {
	if len(changes) > s.limits.batch {
		return fmt.Errorf("%w: jetstream: %d documents at once: the servers take %d", errors.ErrUnsupported, len(changes), s.limits.batch)
	}
	for _, c := range changes {
		if len(c.Data) > s.limits.payload-headerRoom {
			return fmt.Errorf("%w: jetstream: a document of %d bytes: the servers take %d", errors.ErrUnsupported, len(c.Data), s.limits.payload-headerRoom)
		}
	}
	return nil
}

// A change is a transaction of documents being tried.
type change struct {
	s       *Store
	changes []store.Change
	revs    []revision // what the documents are believed to be
	attempt string
	fresh   bool // the leader was asked for all of them
	lost    bool // an answer was lost: it may have been written
}

// verdict is what the caller is told in the end.
func (c *change) verdict(ctx context.Context, err error) error {
	_, conflict := errors.AsType[*store.ConflictError](err)
	switch {
	case err == nil, conflict:
		return err
	case c.lost:
		return fmt.Errorf("%w: jetstream: %s", store.ErrUnknown, quote(err))
	case ctx.Err() != nil:
		return ctx.Err()
	case c.s.closed():
		return errClosed
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrUnavailable), errors.Is(err, errors.ErrUnsupported):
		return err
	}
	return fmt.Errorf("%w: jetstream: %s", store.ErrUnavailable, quote(err))
}

// write tries once. A transient error means that it may be tried again.
func (c *change) write(ctx context.Context) error {
	if c.revs == nil {
		if err := c.look(ctx); err != nil {
			return err
		}
	}
	if i := c.conflict(); i >= 0 && c.fresh {
		d := c.changes[i]
		return &store.ConflictError{Coll: d.Coll, Key: d.Key, Version: c.revs[i].rev}
	} else if i >= 0 {
		return c.doubt("it may have changed")
	}
	last, err := c.s.publish(ctx, c.messages())
	switch {
	case err == nil:
		c.remember(last)
	case errors.Is(err, errLost):
		c.lost = true
		return c.happened(ctx)
	case errors.Is(err, errMoved) && c.lost:
		return c.happened(ctx)
	case errors.Is(err, errMoved):
		return c.doubt("somebody else has written")
	}
	return err
}

// doubt has the leader asked for everything before the next try.
func (c *change) doubt(why string) error {
	c.revs, c.fresh = nil, true
	return fmt.Errorf("%w: %s", errTransient, why)
}

// look finds out what the documents are: by heart at first, then from the
// leader. That a document is new is believed at first.
func (c *change) look(ctx context.Context) error {
	revs, err := inParallel(c.changes, func(ch store.Change) (revision, error) {
		if !c.fresh {
			r, known := c.s.revs.Get(docName{ch.Coll, ch.Key})
			if known || ch.Rev == 0 {
				return r, nil
			}
		}
		d, m, err := c.s.doc(ctx, ch.Coll, ch.Key)
		return revision{d.Rev, m.seq}, err
	})
	if err == nil {
		c.revs = revs
	}
	return err
}

// conflict returns the index of the first document that is not at the
// expected revision, or -1.
func (c *change) conflict() int {
	for i, ch := range c.changes {
		if ch.Rev != store.AnyRev && ch.Rev != c.revs[i].rev {
			return i
		}
	}
	return -1
}

// messages makes what is published: each document states where it must be.
func (c *change) messages() []*nats.Msg {
	msgs := make([]*nats.Msg, len(c.changes))
	for i, ch := range c.changes {
		m := c.s.encodeDoc(ch, c.revs[i].rev+1)
		m.Header[headSubjectLast] = []string{strconv.FormatUint(c.revs[i].seq, 10)}
		m.Header[headBatch] = []string{c.attempt}
		msgs[i] = m
	}
	return msgs
}

// remember notes where the documents are now: those of a batch follow each
// other.
func (c *change) remember(last uint64) {
	for i, ch := range c.changes {
		r := revision{rev: c.revs[i].rev + 1, seq: last - uint64(len(c.changes)-1-i)}
		if ch.Data == nil {
			r.rev = 0
		}
		c.s.revs.Add(docName{ch.Coll, ch.Key}, r)
	}
	saw(&c.s.seenDocs, last)
	if ch := c.changes[len(c.changes)-1]; ch.Data != nil {
		anchor := c.s.subjects.doc(ch.Coll, ch.Key)
		c.s.anchor.Store(&anchor)
	}
}

// happened finds out what became of a write whose answer was lost. If any
// document bears its mark, it was written. If not, and any document is still
// where it was, it was not; if another has moved meanwhile, it never will be.
func (c *change) happened(ctx context.Context) error {
	now, err := inParallel(c.changes, func(ch store.Change) (message, error) {
		_, m, err := c.s.doc(ctx, ch.Coll, ch.Key)
		return m, err
	})
	if err != nil {
		return fmt.Errorf("%w: %s", errTransient, quote(err))
	}
	still := 0
	for i, m := range now {
		if m.header.Get(headBatch) == c.attempt {
			return nil
		}
		if m.seq == c.revs[i].seq {
			still++
		}
	}
	switch still {
	case len(now): // it may be sent again
		return fmt.Errorf("%w: the answer was lost", errTransient)
	case 0:
		return fmt.Errorf("%w: all documents have moved on since", store.ErrUnknown)
	}
	c.lost, c.attempt = false, nuid.Next()
	return c.doubt("somebody else has written")
}
