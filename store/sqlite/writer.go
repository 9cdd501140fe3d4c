package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	lib "zombiezen.com/go/sqlite"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// A request is something to be written, and afterwards what became of it.
type request struct {
	groupcommit.Request
	writes  []store.Write
	changes []store.Change // if there are writes, too: all or nothing
	holds   []store.Hold

	statements []store.Statement   // of programs, to be executed with the changes
	wholes     []store.Whole       // streams to be removed
	exec       func(*writer) error // something rarer
	times      []int64             // of imported events

	written []store.Written
	removed []uint64
	refused error // a conflict, for one: the others of the transaction do not mind
}

// Bounds of one transaction. More would make those in it wait longer for
// their sync than sharing it is worth.
const (
	maxBatchRows  = 4096
	cachedStreams = 1 << 16
)

// A writer owns the connection that writes. All its methods are called by one
// goroutine.
type writer struct {
	s       *Store
	conn    *lib.Conn
	pos     uint64 // of the last event
	stream  int64  // highest number of a stream
	time    int64  // of the last event, in microseconds
	streams *simplelru.LRU[string, streamHead]

	searched map[int64][]string // of collections with an index of words: in which fields
	summer   summer
	st       statements
	grew     bool    // this transaction appended something
	times    []int64 // of the events that come, if they are imported
	latest   int64   // time of any of them
	wal      int     // pages the WAL has grown by since it was last moved, about
	broken   error   // the disk failed a sync: nothing may be written any more
}

type streamHead struct {
	id      int64
	version uint64
}

type statements struct {
	begin, commit, rollback                       *lib.Stmt
	head, setHead, newStream, dropStream, version *lib.Stmt
	event, again, kind, coll                      *lib.Stmt
	positions, dropEvents, gone, setGone          *lib.Stmt
	rev, upsert, delete                           *lib.Stmt
}

func (s *Store) newWriter() (*writer, error) {
	c, err := s.connect(true)
	if err != nil {
		return nil, err
	}
	w := &writer{s: s, conn: c}
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return w, nil
}

// begin prepares statements and reads where the log ends.
func (w *writer) begin() error {
	if err := migrate(w.conn, w.s.path); err != nil {
		return err
	}
	if err := w.prepare(); err != nil {
		return fmt.Errorf("sqlite: %s: %w", w.s.path, err)
	}
	return w.reload()
}

func (w *writer) prepare() error {
	for st, query := range map[**lib.Stmt]string{
		&w.st.begin:      "BEGIN IMMEDIATE",
		&w.st.commit:     "COMMIT",
		&w.st.rollback:   "ROLLBACK",
		&w.st.head:       headQuery,
		&w.st.setHead:    "UPDATE head SET pos = ?, stream = ?, time = ?, sum = ?",
		&w.st.newStream:  "INSERT INTO streams (id, name, version, sum) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
		&w.st.dropStream: "DELETE FROM streams WHERE id = ?",
		&w.st.version:    "UPDATE streams SET version = ?, sum = ? WHERE id = ?",
		&w.st.event:      "INSERT INTO events (pos, stream, version, kind, id, time, data, meta, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		&w.st.again:      "SELECT " + columns + " FROM events e WHERE e.stream = +? AND e.version > ? ORDER BY e.version",
		&w.st.positions:  "SELECT " + columns + " FROM events e WHERE e.stream = +? ORDER BY e.version",
		&w.st.dropEvents: "DELETE FROM events WHERE stream = ?",
		&w.st.gone:       "SELECT bits FROM gone WHERE block = ?",
		&w.st.setGone:    "INSERT INTO gone (block, bits) VALUES (?, ?) ON CONFLICT (block) DO UPDATE SET bits = excluded.bits",
		&w.st.kind:       "INSERT INTO kinds (id, category, type) VALUES (?, ?, ?)",
		&w.st.coll:       "INSERT INTO colls (id, name) VALUES (?, ?)",
		&w.st.rev:        "SELECT rev FROM docs WHERE coll = +? AND key = ?",
		&w.st.upsert:     "INSERT INTO docs (coll, key, rev, data, sum) VALUES (?, ?, 1, ?, ? + 1) ON CONFLICT (coll, key) DO UPDATE SET rev = rev + 1, data = excluded.data, sum = excluded.sum + rev",
		&w.st.delete:     "DELETE FROM docs WHERE coll = +? AND key = ?",
	} {
		var err error
		if *st, err = w.conn.Prepare(query); err != nil {
			return err
		}
	}
	return nil
}

// reload reads what the writer knows by heart.
func (w *writer) reload() error {
	w.streams, _ = simplelru.NewLRU[string, streamHead](cachedStreams, nil) // fails only for sizes below 1
	if err := w.s.names.load(w.conn); err != nil {
		return fmt.Errorf("sqlite: %s: %w", w.s.path, err)
	}
	var err error
	if w.searched, err = loadSearched(w.conn); err != nil {
		return fmt.Errorf("sqlite: %s: %w", w.s.path, err)
	}
	st, err := w.conn.Prepare("SELECT pos, stream, time, sum FROM head")
	if err != nil {
		return fmt.Errorf("sqlite: %s: %w", w.s.path, err)
	}
	defer st.Reset()
	if ok, err := st.Step(); err != nil || !ok {
		return fmt.Errorf("%w: sqlite: %s has no head (%w)", store.ErrCorrupt, w.s.path, errors.Join(err))
	}
	w.pos, w.stream, w.time = uint64(st.ColumnInt64(0)), st.ColumnInt64(1), st.ColumnInt64(2)
	if w.summer.head(w.pos, w.stream, w.time) != st.ColumnInt64(3) {
		return w.s.damaged("the end of the log fails its checksum")
	}
	return nil
}

// submit has the writer do what is asked, in this order.
func (s *Store) submit(ctx context.Context, requests ...*request) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	return s.queue.Submit(ctx, requests...)
}

// write is the writer's goroutine: it takes whatever waits, writes it in one
// transaction, and hands out verdicts.
func (s *Store) write(w *writer) {
	defer close(s.done)
	for {
		select {
		case r := <-s.queue.Next():
			rows := 0
			w.serve(s.queue.Gather(r, func(r *request) bool { rows += r.rows(); return rows >= maxBatchRows }))
		case err := <-s.moved:
			w.finish(err)
		case <-s.closing:
			return
		}
	}
}

func (r *request) rows() int {
	n := len(r.changes) + len(r.statements) + 4*len(r.wholes) // streams that go are short
	for _, w := range r.writes {
		n += 1 + len(w.Events)
	}
	return n
}

func (r *request) bytes() int {
	n := 0
	for _, c := range r.changes {
		n += len(c.Key) + len(c.Data)
	}
	for _, w := range r.writes {
		for _, e := range w.Events {
			n += len(e.Data) + len(e.Meta)
		}
	}
	return n
}

// serve writes a batch. If something other than a conflict goes wrong, the
// transaction is taken back and each request tried alone, so that one that
// cannot be written does not take others with it.
func (w *writer) serve(batch []*request) {
	before := w.pos
	err := w.transact(batch)
	if err != nil && len(batch) > 1 && w.broken == nil {
		for _, r := range batch {
			w.serve([]*request{r})
		}
		return
	}
	if w.pos > before {
		w.s.head.Store(w.pos)
		w.s.announce()
	}
	for _, r := range batch {
		r.Answer(cmp.Or(err, r.refused))
	}
}

// transact writes requests in one transaction. An error means that nothing
// of it is written, unless it is ErrUnknown.
func (w *writer) transact(batch []*request) (err error) {
	if w.broken != nil {
		return w.broken
	}
	if w.broken = w.s.lock.check(w.s.opts.Now()); w.broken != nil {
		return w.broken
	}
	if w.conn == nil {
		if err := w.reopen(); err != nil {
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
	if err := run(w.st.begin); err != nil {
		return w.giveUp(err, false)
	}
	w.grew = false
	rows, bytes := 0, 0
	now := max(w.s.opts.Now().UnixMicro(), w.time)
	for _, r := range batch {
		r.written, r.refused = nil, nil
		rows, bytes = rows+r.rows(), bytes+r.bytes()
		switch {
		case r.exec != nil:
			err = r.exec(w)
		case r.writes != nil && len(r.changes)+len(r.holds) > 0:
			r.written, r.refused, err = w.appendWith(r, now)
		case len(r.statements) > 0:
			if r.refused, err = w.change(r.changes); r.refused == nil && err == nil {
				err = w.execute(r.statements)
			}
		case r.changes != nil:
			r.refused, err = w.change(r.changes)
		case r.wholes != nil:
			r.removed, r.refused, err = w.compact(r.wholes)
		default:
			w.times = r.times
			r.written, r.refused, err = w.append(r.writes, now)
		}
		if err != nil {
			return w.giveUp(err, false)
		}
	}
	if w.grew {
		w.time = max(now, w.latest)
		w.st.setHead.BindInt64(1, int64(w.pos))
		w.st.setHead.BindInt64(2, w.stream)
		w.st.setHead.BindInt64(3, w.time)
		w.st.setHead.BindInt64(4, w.summer.head(w.pos, w.stream, w.time))
		if err := run(w.st.setHead); err != nil {
			return w.giveUp(err, false)
		}
	}
	if err := run(w.st.commit); err != nil {
		return w.giveUp(err, true)
	}
	w.s.commits.Add(1)
	w.count(rows, bytes)
	return nil
}

// giveUp takes a transaction back and forgets what the writer knew by heart:
// it is read from the file again before anything else is written.
//
// A sync that failed is never tried again, and nothing more is written after
// it: the kernel may have dropped what it could not write and report success
// the next time.
func (w *writer) giveUp(err error, committing bool) error {
	code := lib.ErrCode(err)
	problem := fmt.Errorf("%w: sqlite: %s: %w", store.ErrUnavailable, w.s.path, err)
	switch {
	case diskFailed(err):
		w.fail(err)
		problem = w.broken
		if committing {
			problem = fmt.Errorf("%w: %w", store.ErrUnknown, err)
		}
	case errors.Is(err, store.ErrCorrupt), isStatement(err):
		problem = err
	case code.ToPrimary() == lib.ResultCorrupt || code.ToPrimary() == lib.ResultNotADB:
		problem = fmt.Errorf("%w: sqlite: %s: %w", store.ErrCorrupt, w.s.path, err)
	case committing && code.ToPrimary() != lib.ResultFull && code.ToPrimary() != lib.ResultBusy:
		problem = fmt.Errorf("%w: sqlite: %s: %w", store.ErrUnknown, w.s.path, err)
	}
	if !w.conn.AutocommitEnabled() {
		err = run(w.st.rollback)
	} else {
		err = nil
	}
	if err == nil {
		err = w.reload()
	}
	if err != nil { // not even that: begin with a new connection
		w.conn.Close()
		w.conn = nil
	}
	return problem
}

func isStatement(err error) bool {
	_, refused := errors.AsType[*store.StatementError](err)
	return refused
}

// diskFailed reports whether an error says that nobody knows what is on the
// disk.
func diskFailed(err error) bool {
	code := lib.ErrCode(err)
	return code == lib.ResultIOErrFsync || code == lib.ResultIOErrDirFsync || code == lib.ResultIOErrWrite
}

// fail ends all writing.
func (w *writer) fail(err error) {
	w.broken = fmt.Errorf("%w: sqlite: the disk under %s failed to write: check it, then restart (%w)", store.ErrUnavailable, w.s.path, err)
}

func (w *writer) reopen() error {
	fresh, err := w.s.newWriter()
	if err != nil {
		return err
	}
	*w = *fresh
	return nil
}

// close closes the connection. If the disk failed, it stays open: closing it
// would try again to move the WAL, and might believe that this time it went
// well.
func (w *writer) close() error {
	if w.conn == nil || w.broken != nil {
		return nil
	}
	return w.conn.Close()
}

// run executes a statement that returns no rows.
func run(st *lib.Stmt) error {
	_, err := st.Step()
	if e := st.Reset(); err == nil {
		err = e
	}
	return err
}

func splitScript(script string) []string {
	return strings.FieldsFunc(script, func(r rune) bool { return r == ';' })
}
