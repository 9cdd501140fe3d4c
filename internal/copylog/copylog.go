// Package copylog moves a log from one store to another: the same events, with
// their ids, streams, versions, order, times and circumstances.
//
// Documents are not moved: views, checkpoints and snapshots follow from the
// log, and are built anew where it goes.
package copylog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"iter"
	"time"

	"github.com/deed-dev/deed/store"
)

// Options shape a copy. The zero Options are fine.
type Options struct {
	// Progress, if not nil, is told now and then how many records are done,
	// and how many there are, about.
	Progress   func(doing string, done, total uint64)
	VerifyOnly bool // copy nothing
}

// A Report says what was done.
type Report struct {
	Records  uint64  `json:"records"` // in both logs
	Found    uint64  `json:"found"`   // of these, those that were there already
	Checksum string  `json:"checksum"`
	Seconds  float64 `json:"seconds"`
}

// ErrDiffers reports that the target's log is not the beginning of the
// source's.
var ErrDiffers = errors.New("the target has a log of its own")

// ErrGivenUp reports that a part of the source was given up while it was read.
var ErrGivenUp = errors.New("records of the source were given up meanwhile (deed compact): stop what does that, and copy to an empty store")

// Bounds of what is written together.
const (
	batchRecords = 1000
	batchBytes   = 4 << 20
)

// Run copies what the source had when it began, and then reads the target to
// compare checksums. If it is interrupted, running it again goes on where it
// was. Nobody may append to the target meanwhile.
func Run(ctx context.Context, from, to store.Store, o Options) (Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	start := time.Now()
	head, err := from.Head(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("the source: %w", err)
	}
	c := &copying{ctx: ctx, from: from, to: to, o: o, sum: newSum(), total: total(head)}
	if err := c.copy(); err != nil {
		return c.report, err
	}
	if err := errors.Join(c.unchanged(), c.verify()); err != nil {
		return c.report, err
	}
	c.report.Checksum = c.sum.String()
	c.report.Seconds = time.Since(start).Seconds()
	return c.report, nil
}

func total(head store.Cursor) (n uint64) {
	for _, p := range head.Positions() {
		n += p.Seq
	}
	return n
}

type copying struct {
	ctx      context.Context
	from, to store.Store
	o        Options
	sum      *sum
	total    uint64
	last     store.Position // of what was read
	report   Report
}

// copy passes over what the target has, making sure that it is the same, and
// writes the rest.
func (c *copying) copy() error {
	have, stop := iter.Pull2(c.to.ReadAll(c.ctx, store.Start, store.Filter{}))
	defer stop()
	var batch []store.Record
	size, more := 0, true
	for rec, err := range c.from.ReadAll(c.ctx, store.Start, store.Filter{}) {
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		if more {
			var there store.Record
			if there, err, more = have(); more {
				if err != nil {
					return fmt.Errorf("the target: %w", err)
				}
				if err := same(rec, there); err != nil {
					return err
				}
				c.report.Found++
			}
		}
		c.sum.add(&rec)
		c.last = rec.Position
		if c.report.Records++; c.report.Records%batchRecords == 0 {
			c.o.Progress("copying", c.report.Records, c.total)
		}
		if more {
			continue
		}
		if c.o.VerifyOnly {
			return fmt.Errorf("%w: it ends before %s@%d", ErrDiffers, rec.Stream, rec.Version)
		}
		batch = append(batch, rec)
		if size += len(rec.Data) + len(rec.Meta); len(batch) == batchRecords || size >= batchBytes {
			if err := c.write(batch); err != nil {
				return err
			}
			batch, size = batch[:0], 0
		}
	}
	if more {
		if there, err, ok := have(); err != nil {
			return fmt.Errorf("the target: %w", err)
		} else if ok {
			return fmt.Errorf("%w: %s@%d comes after all that the source has", ErrDiffers, there.Stream, there.Version)
		}
	}
	return c.write(batch)
}

func (c *copying) write(batch []store.Record) error {
	if len(batch) == 0 {
		return nil
	}
	if err := store.Import(c.ctx, c.to, batch); err != nil {
		return fmt.Errorf("the target: %w; run the same command again to go on", err)
	}
	return nil
}

// same reports whether two records differ in more than their positions.
func same(a, b store.Record) error {
	if a.ID == b.ID && a.Stream == b.Stream && a.Version == b.Version && a.Type == b.Type && a.Time.Equal(b.Time) &&
		string(a.Data) == string(b.Data) && string(a.Meta) == string(b.Meta) {
		return nil
	}
	return fmt.Errorf("%w: at %v it has %s@%d where the source has %s@%d: copy to an empty store", ErrDiffers, b.Position, b.Stream, b.Version, a.Stream, a.Version)
}

// unchanged makes sure that nobody has given up streams of the source while it
// was read: of these, the target may have the first records and not the last,
// and would do again what the last ones say is done.
func (c *copying) unchanged() error {
	if _, err := store.Compact(c.ctx, c.from); errors.Is(err, errors.ErrUnsupported) || !store.IsShared(c.from) {
		return nil
	}
	again, n := newSum(), uint64(0)
	for rec, err := range c.from.ReadAll(c.ctx, store.Start, store.Filter{}) {
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		if rec.Position.Seq > c.last.Seq {
			break
		}
		again.add(&rec)
		if n++; n%batchRecords == 0 {
			c.o.Progress("reading the source again", n, c.report.Records)
		}
	}
	if n != c.report.Records || again.String() != c.sum.String() {
		return ErrGivenUp
	}
	return nil
}

// verify reads the target and compares checksums.
func (c *copying) verify() error {
	there, n := newSum(), uint64(0)
	for rec, err := range c.to.ReadAll(c.ctx, store.Start, store.Filter{}) {
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
		there.add(&rec)
		if n++; n%batchRecords == 0 {
			c.o.Progress("verifying", n, c.report.Records)
		}
	}
	if n != c.report.Records || there.String() != c.sum.String() {
		return fmt.Errorf("%w: %d records with checksum %s, the source has %d with %s", ErrDiffers, n, there, c.report.Records, c.sum)
	}
	return nil
}

// A sum is the SHA-256 of a log: of each record its stream, version, type, id,
// time in microseconds, data and meta, each text with its length before it (8
// bytes, big-endian, as all numbers). Positions are not part of it.
type sum struct {
	h   hash.Hash
	buf []byte
}

func newSum() *sum { return &sum{h: sha256.New()} }

func (s *sum) add(r *store.Record) {
	b := s.buf[:0]
	text := func(t []byte) { b = append(binary.BigEndian.AppendUint64(b, uint64(len(t))), t...) }
	text([]byte(r.Stream))
	b = binary.BigEndian.AppendUint64(b, r.Version)
	text([]byte(r.Type))
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMicro()))
	text(r.Data)
	text(r.Meta)
	s.buf = b
	s.h.Write(b) // never fails
}

func (s *sum) String() string { return hex.EncodeToString(s.h.Sum(nil)) }
