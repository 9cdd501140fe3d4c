package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/deed-dev/deed/store"
)

// A Report is what [Store.Check] found.
type Report struct {
	Events, Streams, Docs uint64
	Head                  uint64   // the last position
	Problems              []string // none = all is sound
	Omitted               int      // further problems
}

// maxProblems is how many problems a report tells.
const maxProblems = 1000

// Check reads everything there is, in use or not, and reports what is missing
// or damaged, also the last events of a stream, which who reads the stream may
// not miss. What it cannot find is that the end of the whole log is missing:
// compare its head with positions that were handed out.
func (s *Store) Check(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	c := &checking{s: s, progress: progress, heads: map[string]head{}}
	if err := c.log(ctx); err != nil {
		return c.report, err
	}
	if err := c.docs(ctx); err != nil {
		return c.report, err
	}
	c.report.Streams = uint64(len(c.heads))
	return c.report, nil
}

type checking struct {
	s        *Store
	progress func(done, total uint64)
	heads    map[string]head
	report   Report
}

func (c *checking) problem(err error) {
	if len(c.report.Problems) == maxProblems {
		c.report.Omitted++
		return
	}
	c.report.Problems = append(c.report.Problems, quote(err))
}

// log reads every sequence.
func (c *checking) log(ctx context.Context) error {
	end, err := c.s.head(ctx)
	if err != nil {
		return err
	}
	c.report.Head = end
	for at := uint64(0); at < end; {
		c.progress(at, end)
		msgs, err := c.s.dense(ctx, at, min(chunk, end-at))
		if errors.Is(err, store.ErrCorrupt) {
			c.problem(err)
			at++
			continue
		}
		if err != nil {
			return err
		}
		for i := range msgs {
			c.record(&msgs[i])
		}
		at = msgs[len(msgs)-1].seq
	}
	return nil
}

// record checks a record, and that it follows the one before it in its stream.
func (c *checking) record(m *message) {
	stream, ok, err := c.s.subjects.streamOf(m.subject)
	if err != nil || !ok {
		if err != nil {
			c.problem(err)
		}
		return
	}
	p, err := c.s.decode(stream, m)
	if err != nil {
		c.problem(err)
		return
	}
	c.report.Events++
	if before := c.heads[stream]; p.Version != before.version+1 || p.prev != before.seq {
		c.problem(c.s.corrupt(fmt.Sprintf("%s@%d", stream, p.Version), m.seq,
			fmt.Sprintf("follows version %d at %d, which is missing or was replaced", p.Version-1, p.prev)))
	}
	c.heads[stream] = head{p.Version, m.seq}
}

// docs reads every document.
func (c *checking) docs(ctx context.Context) error {
	last, err := c.s.leaderGet(ctx, c.s.subjects.docs(), getRequest{Last: everything})
	if err != nil {
		return err
	}
	l := &lane{filter: c.s.subjects.inDocs(everything), last: last.seq}
	for {
		if err := c.s.fillFrom(ctx, c.s.subjects.docs(), l, last.seq); err != nil {
			return err
		}
		if len(l.msgs) == 0 {
			return nil
		}
		for i := range l.msgs {
			c.doc(&l.msgs[i])
		}
		l.msgs = nil
	}
}

func (c *checking) doc(m *message) {
	first, _, _ := strings.Cut(strings.TrimPrefix(m.subject, c.s.subjects.inDocs("")), ".")
	coll, err := part(first)
	if err == nil {
		var key string
		if key, err = c.s.subjects.keyOf(m.subject); err == nil {
			var d store.Doc
			if d, err = c.s.decodeDoc(coll, key, m); d.Rev > 0 {
				c.report.Docs++
			}
		}
	}
	if err != nil {
		c.problem(err)
	}
}
