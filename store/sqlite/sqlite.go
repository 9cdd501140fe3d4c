// Package sqlite keeps everything in one SQLite file. It is what deed runs on
// until one machine is not enough.
//
// An append returns when it is on the disk: the file is in WAL mode with
// synchronous=FULL. One goroutine owns the only connection that writes, and
// puts everything that waits to be written into one transaction, so that
// many writers share one sync (group commit). Each of them gets its own
// verdict: a conflict of one does not touch the others.
package sqlite

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// Options adjust a Store. The zero Options are fine.
type Options struct {
	Now     func() time.Time // the clock; default: time.Now
	Readers int              // connections that read; default 4

	// MustExist refuses to create a database: a reader that does has mistyped
	// its name.
	MustExist bool

	// Relaxed does not wait for the disk: a power cut loses the last moments
	// of acknowledged events. It is there to measure, and to prove that the
	// tests of durability can fail.
	Relaxed bool
}

// A Store is a [store.Store] in a file.
type Store struct {
	path     string
	opts     Options
	lock     *lock
	queue    *groupcommit.Queue[*request]
	closing  chan struct{} // closed by Close
	done     chan struct{} // closed when the writer has ended
	full     chan struct{} // asks for the WAL to be moved
	moved    chan error    // says that it is, but for the rest
	settled  chan struct{} // closed when nobody moves the WAL any more
	readers  chan *reader
	names    names
	head     atomic.Uint64
	counted  span
	commits  atomic.Uint64
	writer   *writer   // belongs to its goroutine until done is closed
	mover    *lib.Conn // belongs to its goroutine until settled is closed
	once     sync.Once
	closeErr error

	mu    sync.Mutex
	grown chan struct{} // closed and replaced when the head moves
}

// Open opens the database file at path, creating and migrating it if needed.
// Only one process can have it open; a second one gets an error that says so.
func Open(path string, opts *Options) (_ *Store, err error) {
	s := &Store{
		path: path, closing: make(chan struct{}), done: make(chan struct{}),
		full: make(chan struct{}), moved: make(chan error), settled: make(chan struct{}), grown: make(chan struct{}),
	}
	s.queue = groupcommit.New[*request](s.done, errClosed)
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.Readers <= 0 {
		s.opts.Readers = 4
	}
	if s.lock, err = acquire(path, s.opts.MustExist); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.release())
		}
	}()
	w, err := s.newWriter()
	if err != nil {
		return nil, err
	}
	if err := s.openReaders(); err != nil {
		return nil, errors.Join(err, w.conn.Close())
	}
	if s.mover, err = s.connect(true); err != nil {
		return nil, errors.Join(err, s.closeReaders(s.opts.Readers), w.conn.Close())
	}
	s.head.Store(w.pos)
	s.writer = w
	go s.write(w)
	go s.checkpoint(s.mover)
	return s, nil
}

// connect opens a connection. Only the writer may change anything.
func (s *Store) connect(write bool) (*lib.Conn, error) {
	flags := []lib.OpenFlags{lib.OpenReadOnly}
	if write {
		flags = []lib.OpenFlags{lib.OpenReadWrite, lib.OpenCreate}
	}
	c, err := lib.OpenConn(s.path, flags...)
	if err != nil {
		return nil, fmt.Errorf("sqlite: opening %s: %w", s.path, err)
	}
	c.SetBusyTimeout(10 * time.Second)
	script := "PRAGMA cache_size = -16000; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;"
	if write {
		script = "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = " +
			s.synchronous() + ";" + script
	}
	for _, p := range splitScript(script) {
		if err := sqlitex.ExecuteTransient(c, p, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("sqlite: opening %s: %s: %w", s.path, p, err), c.Close())
		}
	}
	return c, nil
}

func (s *Store) synchronous() string {
	if s.opts.Relaxed {
		return "NORMAL"
	}
	return "FULL"
}

// Volatile says what a relaxed store may lose.
func (s *Store) Volatile() string {
	if s.opts.Relaxed {
		return "SQLite with synchronous=NORMAL: a power cut loses the last acknowledged events"
	}
	return ""
}

// Path is where the database file is.
func (s *Store) Path() string { return s.path }

// Close waits for what is being written, and gives the file free.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.done
		<-s.settled
		// The writer goes last: who goes last moves the WAL into the file.
		s.closeErr = errors.Join(s.closeReaders(s.opts.Readers), s.mover.Close(), s.writer.close(), s.lock.release())
		s.announce()
	})
	return s.closeErr
}

func (s *Store) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// announce wakes everybody who waits for the head to move.
func (s *Store) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.grown)
	s.grown = make(chan struct{})
}

// Commits is how many transactions have been written since Open. Each of them
// waited for the disk once, unless the store is relaxed.
func (s *Store) Commits() uint64 { return s.commits.Load() }
