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
		end, err := s.head(ctx)
		at := after.Seq(0)
		if err == nil && at < end {
			n := 0
			take := func(m *message) error { return s.take(m, f, &n, yield) }
			if k := len(f.Categories); 0 < k && k <= fewCategories && end-at > farBehind {
				err = s.readCategories(ctx, at, end, f, take)
			} else {
				err = s.readDense(ctx, at, end, f, take)
			}
		}
		if err != nil && err != errStopped {
			yield(store.Record{}, err)
		}
	}
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
func (s *Store) readDense(ctx context.Context, at, end uint64, f store.Filter, take func(*message) error) error {
	size := uint64(chunk)
	if f.Limit > 0 && len(f.Categories)+len(f.Types) == 0 && f.Partitions <= 1 {
		size = min(size, uint64(f.Limit))
	}
	for at < end {
		msgs, err := s.dense(ctx, at, min(size, end-at))
		if err != nil {
			return err
		}
		for i := range msgs {
			if err := take(&msgs[i]); err != nil {
				return err
			}
		}
		at = msgs[len(msgs)-1].seq
	}
	return nil
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
	if len(l.msgs) > 0 || l.at >= l.last {
		return nil
	}
	return s.try(ctx, func(ctx context.Context) error {
		b, err := s.direct(ctx, s.subjects.log(), getRequest{Next: l.filter, Seq: l.at + 1, Batch: chunk, MaxBytes: chunkBytes})
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
