package sqlite

import (
	"context"
	"time"

	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
)

// Append implements [store.Log].
func (s *Store) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	if err := store.Check(writes); err != nil {
		return nil, err
	}
	r := &request{writes: writes}
	err := s.submit(ctx, r)
	if err != nil {
		return nil, err
	}
	return r.written, nil
}

// append writes the events of one request. A conflict is found before
// anything is written that would have to be taken back, but for the names of
// new streams: those are inserted to find out whether they are new.
func (w *writer) append(writes []store.Write, now int64) (written []store.Written, conflict, err error) {
	heads := make([]streamHead, len(writes))
	made := 0
	for i, wr := range writes {
		if wr.Expect == store.None && len(wr.Events) > 0 {
			heads[i], err = w.create(wr.Stream, uint64(len(wr.Events)))
			if heads[i].version == 0 {
				made++
			}
		} else {
			heads[i], err = w.find(wr.Stream)
		}
		if err != nil {
			return nil, nil, err
		}
		if conflict == nil && !wr.Expect.Met(heads[i].version) {
			conflict = &store.ConflictError{Stream: wr.Stream, Expect: wr.Expect, Version: heads[i].version}
		}
	}
	if conflict != nil {
		if made > 0 {
			if err := w.uncreate(writes, heads); err != nil {
				return nil, nil, err
			}
		} else if written, err = w.repeated(writes, heads); err != nil || written != nil {
			return written, nil, err
		}
		return nil, conflict, nil
	}
	written = make([]store.Written, len(writes))
	at := time.UnixMicro(now).UTC()
	for i, wr := range writes {
		written[i].Version = heads[i].version
		if len(wr.Events) == 0 {
			continue
		}
		if err := w.record(wr, heads[i], now); err != nil {
			return nil, nil, err
		}
		written[i] = store.Written{Version: heads[i].version + uint64(len(wr.Events)), Position: store.Position{Seq: w.pos}, Time: at}
	}
	return written, nil, nil
}

// find returns the head of a stream; its id is 0 if it does not exist.
func (w *writer) find(name string) (streamHead, error) {
	if h, ok := w.streams.Get(name); ok {
		return h, nil
	}
	w.st.head.BindText(1, name)
	h, err := w.s.streamHead(w.st.head, &w.summer, name)
	if h.id > 0 && err == nil {
		w.streams.Add(name, h)
	}
	if e := w.st.head.Reset(); err == nil {
		err = e
	}
	return h, err
}

// create makes a stream that is going to have so many events, if it does not
// exist yet. It returns version 0 if it made it, else the head there is. New
// streams are not cached: most of them (those of commands) are written once.
func (w *writer) create(name string, version uint64) (streamHead, error) {
	if h, ok := w.streams.Get(name); ok {
		return h, nil
	}
	w.st.newStream.BindInt64(1, w.stream+1)
	w.st.newStream.BindText(2, name)
	w.st.newStream.BindInt64(3, int64(version))
	w.st.newStream.BindInt64(4, w.summer.stream(name, w.stream+1, version))
	if err := run(w.st.newStream); err != nil {
		return streamHead{}, err
	}
	if w.conn.Changes() == 0 {
		return w.find(name)
	}
	w.stream++
	return streamHead{id: w.stream}, nil
}

// uncreate takes back the names that create has inserted.
func (w *writer) uncreate(writes []store.Write, heads []streamHead) error {
	for i, wr := range writes {
		if wr.Expect != store.None || len(wr.Events) == 0 || heads[i].version > 0 {
			continue
		}
		w.st.dropStream.BindInt64(1, heads[i].id)
		if err := run(w.st.dropStream); err != nil {
			return err
		}
	}
	return nil
}

// record inserts events at the end of a stream.
func (w *writer) record(wr store.Write, h streamHead, now int64) error {
	category := store.Category(wr.Stream)
	version := h.version
	switch {
	case h.id == 0: // expected Any, and it is new
		if _, err := w.create(wr.Stream, uint64(len(wr.Events))); err != nil {
			return err
		}
		h.id = w.stream
	case h.version > 0:
		h.version += uint64(len(wr.Events))
		w.st.version.BindInt64(1, int64(h.version))
		w.st.version.BindInt64(2, w.summer.stream(wr.Stream, h.id, h.version))
		w.st.version.BindInt64(3, h.id)
		if err := run(w.st.version); err != nil {
			return err
		}
		w.streams.Add(wr.Stream, h)
	}
	rec := store.Record{Stream: wr.Stream, Time: time.UnixMicro(now)}
	for i := range wr.Events {
		e := &wr.Events[i]
		kind, err := w.kind(kindName{category, e.Type})
		if err != nil {
			return err
		}
		version++
		w.pos++
		micros := now
		if len(w.times) > 0 {
			micros, w.times = w.times[0], w.times[1:]
			w.latest, rec.Time = max(w.latest, micros), time.UnixMicro(micros)
		}
		st := w.st.event
		st.BindInt64(1, int64(w.pos))
		st.BindInt64(2, h.id)
		st.BindInt64(3, int64(version))
		st.BindInt64(4, kind)
		st.BindBytes(5, e.ID[:])
		st.BindInt64(6, micros)
		bindBlob(st, 7, e.Data)
		bindBlob(st, 8, e.Meta)
		rec.Version, rec.Position.Seq, rec.ID, rec.Type, rec.Data, rec.Meta = version, w.pos, e.ID, e.Type, e.Data, e.Meta
		st.BindInt64(9, int64(w.summer.Sum(&rec)))
		if err := run(st); err != nil {
			return err
		}
	}
	w.grew = true
	return nil
}

// bindBlob binds bytes; no bytes are an empty blob, not NULL.
func bindBlob(st *lib.Stmt, param int, b []byte) {
	if len(b) == 0 {
		st.BindZeroBlob(param, 0)
		return
	}
	st.BindBytes(param, b)
}

func (w *writer) kind(k kindName) (int64, error) {
	if id, ok := w.s.names.kindID(k); ok {
		return id, nil
	}
	id := w.s.names.addKind(k)
	w.st.kind.BindInt64(1, id)
	w.st.kind.BindText(2, k.category)
	w.st.kind.BindText(3, k.typ)
	return id, run(w.st.kind)
}

// repeated returns what an earlier append of exactly these writes returned,
// or nil if there was none.
func (w *writer) repeated(writes []store.Write, heads []streamHead) ([]store.Written, error) {
	written, events := make([]store.Written, len(writes)), 0
	for i, wr := range writes {
		if wr.Expect < 0 || heads[i].version < uint64(wr.Expect)+uint64(len(wr.Events)) ||
			len(wr.Events) == 0 && heads[i].version != uint64(wr.Expect) {
			return nil, nil
		}
		written[i] = store.Written{Version: uint64(wr.Expect), Repeated: true}
		same, err := w.same(wr, heads[i].id, &written[i])
		if !same || err != nil {
			return nil, err
		}
		events += len(wr.Events)
	}
	if events == 0 {
		return nil, nil
	}
	return written, nil
}

// same reports whether exactly these events follow the expected version, and
// notes where they are.
func (w *writer) same(wr store.Write, stream int64, at *store.Written) (bool, error) {
	if len(wr.Events) == 0 {
		return true, nil
	}
	st := w.st.again
	st.BindInt64(1, stream)
	st.BindInt64(2, int64(wr.Expect))
	defer st.Reset()
	var r reader
	for _, e := range wr.Events {
		at.Version++
		rec, err := w.s.next(&r, st, wr.Stream, at.Version)
		if err != nil || rec.ID != e.ID {
			return false, err
		}
		at.Position, at.Time = rec.Position, rec.Time
	}
	return true, nil
}
