package jetstream

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/deed-dev/deed/store"
)

// docChunk is how many documents are read at once.
const docChunk = 256

// List implements [store.Docs]. The names of a collection's documents are read
// first, all of them: JetStream has no order of subjects to begin within.
func (s *Store) List(ctx context.Context, coll, prefix, after string) iter.Seq2[store.Doc, error] {
	return func(yield func(store.Doc, error) bool) {
		keys, upTo, err := s.keys(ctx, coll, prefix, after)
		if err != nil {
			yield(store.Doc{}, err)
			return
		}
		for some := range slices.Chunk(keys, docChunk) {
			docs, err := s.docsOf(ctx, coll, some, upTo)
			if err != nil {
				yield(store.Doc{}, err)
				return
			}
			for _, k := range some {
				if d, ok := docs[k]; ok && !yield(d, nil) {
					return
				}
			}
		}
	}
}

// keys returns the keys of a collection that a listing asks for, in order,
// and the last sequence of the documents at that moment.
func (s *Store) keys(ctx context.Context, coll, prefix, after string) (keys []string, upTo uint64, err error) {
	err = s.try(ctx, func(ctx context.Context) (err error) {
		keys, upTo, err = s.allKeys(ctx, coll)
		return err
	})
	keys = slices.DeleteFunc(keys, func(k string) bool { return k <= after || !strings.HasPrefix(k, prefix) })
	slices.Sort(keys)
	return keys, upTo, err
}

// allKeys reads the subjects of a collection. The leader gives them out in
// pages of its own order; pages overlap by one, so that it shows when they
// have shifted meanwhile.
func (s *Store) allKeys(ctx context.Context, coll string) (keys []string, upTo uint64, err error) {
	seen := s.seenDocs.Load()
	last, end := "", 0
	for {
		page, err := s.subjectPage(ctx, coll, max(0, end-1))
		if err != nil {
			return nil, 0, err
		}
		if end == 0 {
			if upTo = page.State.Last; upTo < seen {
				return nil, 0, errBehind
			}
			saw(&s.seenDocs, upTo)
		}
		names := slices.Sorted(maps.Keys(page.State.Subjects))
		if end > 0 {
			if len(names) == 0 || names[0] != last {
				return nil, 0, fmt.Errorf("%w: the collection has changed", errTransient)
			}
			names = names[1:]
		}
		for _, n := range names {
			k, err := s.subjects.keyOf(n)
			if err != nil {
				return nil, 0, err
			}
			keys, last = append(keys, k), n
		}
		end += len(names)
		if end >= page.Total || len(names) == 0 {
			return keys, upTo, nil
		}
	}
}

// A subjectPage is the part of what the leader says of a stream that we need.
type subjectPage struct {
	Total int `json:"total"`
	State struct {
		Last     uint64            `json:"last_seq"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
}

func (s *Store) subjectPage(ctx context.Context, coll string, offset int) (page subjectPage, err error) {
	err = s.call(ctx, "STREAM.INFO."+s.subjects.docs(), map[string]any{"subjects_filter": s.subjects.coll(coll), "offset": offset}, &page)
	return page, unexpected(err)
}

// docsOf reads documents by their keys, from any replica that is far enough.
// Those that were deleted are not among them.
func (s *Store) docsOf(ctx context.Context, coll string, keys []string, upTo uint64) (map[string]store.Doc, error) {
	docs := map[string]store.Doc{}
	wanted, missing := make([]string, len(keys)), make(map[string]bool, len(keys))
	for i, k := range keys {
		wanted[i] = s.subjects.doc(coll, k)
		missing[wanted[i]] = true
	}
	ask := s.anchored(wanted)
	for more := true; more && len(wanted) > 0; {
		var b batch
		err := s.try(ctx, func(ctx context.Context) (err error) {
			b, err = s.direct(ctx, s.subjects.docs(), getRequest{MultiLast: ask, MaxBytes: chunkBytes})
			if err == nil && b.upTo < upTo {
				// It may also have none of them, and does not say how far it is then.
				if len(b.msgs) > 0 || b.upTo > 0 {
					return errBehind
				}
				return s.gone(ctx, wanted)
			}
			b.msgs = slices.DeleteFunc(b.msgs, func(m message) bool { return !missing[m.subject] })
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := s.collect(coll, b.msgs, docs); err != nil {
			return nil, err
		}
		for _, m := range b.msgs {
			saw(&s.seenDocs, m.seq)
			delete(missing, m.subject)
		}
		wanted = slices.DeleteFunc(wanted, func(w string) bool { return !missing[w] })
		more = b.more
		if ask = wanted; len(b.msgs) > 0 { // else the anchor alone was too much
			ask = s.anchored(wanted)
		}
	}
	return docs, nil
}

// anchored adds a document that is there to those that are wanted: a replica
// that has none of what it is asked for does not say how far it is.
func (s *Store) anchored(wanted []string) []string {
	if a := s.anchor.Load(); a != nil && !slices.Contains(wanted, *a) {
		return append(slices.Clip(wanted), *a)
	}
	return wanted
}

// gone asks the leader whether there is really none of some documents.
func (s *Store) gone(ctx context.Context, wanted []string) error {
	_, err := inParallel(wanted, func(w string) (struct{}, error) {
		m, err := s.leaderGet(ctx, s.subjects.docs(), getRequest{Last: w})
		if err == nil && m.seq > 0 {
			err = errBehind
		}
		return struct{}{}, err
	})
	return err
}

// GetMany implements [store.Getter]: documents from any replica that has all
// that this store has seen.
func (s *Store) GetMany(ctx context.Context, coll string, keys []string) (map[string]store.Doc, error) {
	all := make(map[string]store.Doc, len(keys))
	for some := range slices.Chunk(keys, docChunk) {
		docs, err := s.docsOf(ctx, coll, some, s.seenDocs.Load())
		if err != nil {
			return nil, err
		}
		maps.Copy(all, docs)
	}
	return all, nil
}

// collect adds the documents in messages to docs.
func (s *Store) collect(coll string, msgs []message, docs map[string]store.Doc) error {
	for i := range msgs {
		k, err := s.subjects.keyOf(msgs[i].subject)
		if err != nil {
			return err
		}
		d, err := s.decodeDoc(coll, k, &msgs[i])
		if err != nil {
			return err
		}
		s.learn(docName{coll, k}, revision{d.Rev, msgs[i].seq})
		if d.Rev > 0 {
			docs[k] = d
		}
	}
	return nil
}

// DropColl implements [store.Dropper].
func (s *Store) DropColl(ctx context.Context, coll string) error {
	return s.try(ctx, func(ctx context.Context) error {
		var a struct{}
		return unexpected(s.call(ctx, "STREAM.PURGE."+s.subjects.docs(), map[string]string{"filter": s.subjects.coll(coll)}, &a))
	})
}
