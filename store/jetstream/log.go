package jetstream

import (
	"context"
	"iter"
	"slices"

	"github.com/deed-dev/deed/store"
)

// The whole log is read without leaving a sequence out, and what a filter does
// not want is dropped here. Only who is far behind, and wants few categories,
// has JetStream look for them.
const (
	farBehind     = 4 * chunk
	fewCategories = 4
)

// ReadAll implements [store.Log].
func (s *Store) ReadAll(ctx context.Context, after store.Cursor, f store.Filter) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		_, recs, err := s.Tail(ctx, after, f)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		recs(yield)
	}
}

// Tail implements [store.Tailer]: what is likely to be wanted is read while
// the leader is asked where the log ends.
func (s *Store) Tail(ctx context.Context, after store.Cursor, f store.Filter) (store.Cursor, iter.Seq2[store.Record, error], error) {
	at := after.Seq(0)
	first := s.readAhead(ctx, at, f)
	end, err := s.head(ctx)
	if err != nil {
		return store.Start, nil, err
	}
	return store.CursorAt(store.Position{Seq: end}), func(yield func(store.Record, error) bool) {
		if at >= end {
			return
		}
		n, err := 0, error(nil)
		take := func(m *message) error { return s.take(m, f, &n, yield) }
		if k := len(f.Categories); 0 < k && k <= fewCategories && end-at > farBehind {
			err = s.readCategories(ctx, at, end, f, take)
		} else {
			err = s.readDense(ctx, at, end, f, first, take)
		}
		if err != nil && err != errStopped {
			yield(store.Record{}, err)
		}
	}, nil
}

// readAhead begins to read what follows a sequence, if it is known that there
// is something and not too much. Whoever receives nothing reads it himself.
func (s *Store) readAhead(ctx context.Context, at uint64, f store.Filter) <-chan []message {
	if seen := s.seen.Load(); seen <= at || seen-at > farBehind {
		return nil
	}
	first := make(chan []message, 1)
	go func() {
		defer close(first)
		if msgs, err := s.dense(ctx, at, denseChunk(f)); err == nil {
			first <- msgs
		}
	}()
	return first
}

// take yields a message if it is a record that the filter selects.
func (s *Store) take(m *message, f store.Filter, n *int, yield func(store.Record, error) bool) error {
	stream, ok, err := s.subjects.streamOf(m.subject)
	if err != nil || !ok || !selects(f, stream) {
		return err
	}
	p, err := s.decode(stream, m)
	if err != nil || len(f.Types) > 0 && !slices.Contains(f.Types, p.Type) {
		return err
	}
	if !yield(p.Record, nil) {
		return errStopped
	}
	if *n++; *n == f.Limit {
		return errStopped
	}
	return nil
}

func selects(f store.Filter, stream string) bool {
	return (len(f.Categories) == 0 || slices.Contains(f.Categories, store.Category(stream))) &&
		(f.Partitions <= 1 || store.PartitionOf(stream, f.Partitions) == f.Partition)
}

// readDense reads every message after a sequence, up to another. Sequences
// have no gaps: a message that a replica has lost shows.
// The first of them may be on their way already.
func (s *Store) readDense(ctx context.Context, at, end uint64, f store.Filter, first <-chan []message, take func(*message) error) (err error) {
	var msgs []message
	if first != nil {
		msgs = <-first
		msgs = msgs[:firstAfter(msgs, end)]
	}
	for at < end {
		if len(msgs) == 0 {
			if msgs, err = s.dense(ctx, at, min(denseChunk(f), end-at)); err != nil {
				return err
			}
		}
		for i := range msgs {
			if err := take(&msgs[i]); err != nil {
				return err
			}
		}
		at, msgs = msgs[len(msgs)-1].seq, nil
	}
	return nil
}

// denseChunk is how many messages are read at once: not more than are wanted,
// if all are.
func denseChunk(f store.Filter) uint64 {
	if f.Limit > 0 && len(f.Categories)+len(f.Types) == 0 && f.Partitions <= 1 {
		return min(chunk, uint64(f.Limit))
	}
	return chunk
}

// dense reads messages that follow a sequence, at least one.
func (s *Store) dense(ctx context.Context, at, n uint64) (msgs []message, err error) {
	err = s.otherwise(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, s.subjects.log(), getRequest{Seq: at + 1, Batch: int(n), MaxBytes: chunkBytes})
		if err != nil {
			return err
		}
		whole := 0
		for whole < len(b.msgs) && b.msgs[whole].seq == at+uint64(whole)+1 {
			whole++
		}
		msgs = b.msgs[:whole]
		switch {
		case whole > 0:
			return nil
		case len(b.msgs) == 0:
			return errBehind
		}
		return s.corrupt("?", at+1, "is missing")
	})
	return msgs, err
}

// A lane is a category being read. The leader has said how far there is
// something: a replica that ends before that is behind.
type lane struct {
	filter string
	at     uint64 // up to here everything was read
	last   uint64 // the category's last sequence
	msgs   []message
}

// readCategories reads the messages of categories in log order.
func (s *Store) readCategories(ctx context.Context, at, end uint64, f store.Filter, take func(*message) error) error {
	var lanes []*lane
	for _, c := range slices.Compact(slices.Sorted(slices.Values(f.Categories))) {
		l := &lane{filter: s.subjects.category(c), at: at}
		m, err := s.leaderGet(ctx, s.subjects.log(), getRequest{Last: l.filter})
		if err != nil {
			return err
		}
		l.last = min(m.seq, end) // there is none between the end and a last one beyond it that we need
		lanes = append(lanes, l)
	}
	for {
		var next *lane
		for _, l := range lanes {
			if err := s.fill(ctx, l, end); err != nil {
				return err
			}
			if len(l.msgs) > 0 && (next == nil || l.msgs[0].seq < next.msgs[0].seq) {
				next = l
			}
		}
		if next == nil {
			return nil
		}
		if err := take(&next.msgs[0]); err != nil {
			return err
		}
		next.msgs = next.msgs[1:]
	}
}

// fill reads more of a lane that has run empty, if there is more.
func (s *Store) fill(ctx context.Context, l *lane, end uint64) error {
	return s.fillFrom(ctx, s.subjects.log(), l, end)
}

// fillFrom is fill for a lane of any of our streams.
func (s *Store) fillFrom(ctx context.Context, stream string, l *lane, end uint64) error {
	if len(l.msgs) > 0 || l.at >= l.last {
		return nil
	}
	return s.try(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, stream, getRequest{Next: l.filter, Seq: l.at + 1, Batch: chunk, MaxBytes: chunkBytes})
		if err != nil {
			return err
		}
		if len(b.msgs) == 0 {
			return errBehind
		}
		l.at = b.msgs[len(b.msgs)-1].seq
		l.msgs = b.msgs[:firstAfter(b.msgs, end)]
		return nil
	})
}

// firstAfter returns the index of the first message after a sequence.
func firstAfter(msgs []message, seq uint64) int {
	i := slices.IndexFunc(msgs, func(m message) bool { return m.seq > seq })
	if i < 0 {
		return len(msgs)
	}
	return i
}
