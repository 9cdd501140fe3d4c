package sqlite

import (
	"errors"

	lib "zombiezen.com/go/sqlite"
)

// The WAL is moved into the database file by a goroutine and a connection of
// its own, so that nobody who appends waits for that. What was appended in the
// meantime is little; the writer moves it itself, and the WAL begins anew. That
// matters: writing over a file costs half of what making it grow does.

// walPages is about how many pages the WAL has when it is moved.
const walPages = 2000

// count notes that a transaction of so many rows and bytes was written, and
// has the WAL moved when enough has come together.
func (w *writer) count(rows, bytes int) {
	const inner, perPage, pageSize = 4, 8, 4096 // a guess: nobody tells
	w.wal += inner + rows/perPage + bytes/pageSize
	if w.wal < walPages {
		return
	}
	select {
	case w.s.full <- struct{}{}:
		w.wal = 0
	default: // it is being moved
	}
}

// checkpoint is the goroutine that moves the WAL, in two parts.
func (s *Store) checkpoint(c *lib.Conn) {
	defer close(s.settled)
	for {
		select {
		case <-s.full:
		case <-s.closing:
			return
		}
		select {
		case s.moved <- move(c):
		case <-s.closing:
			return
		}
	}
}

// finish moves what the other goroutine left, if that went well.
func (w *writer) finish(err error) {
	if err == nil && w.conn != nil {
		err = move(w.conn)
	}
	if diskFailed(err) {
		w.fail(err)
	}
}

// move moves what no reader needs any more. That it moved nothing because
// others were in the way is no error.
func move(c *lib.Conn) error {
	st, err := c.Prepare("PRAGMA wal_checkpoint(PASSIVE)")
	if err != nil {
		return err
	}
	_, err = st.Step()
	return errors.Join(err, st.Reset())
}
