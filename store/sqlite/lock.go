package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/deed-dev/deed/store"
)

// A lock keeps a second process out: by a file beside the database, and, where
// the system lets it, by a lock on the database file itself, which holds under
// whatever name that is opened.
type lock struct {
	path   string
	beside *flock.Flock
	file   *os.File
	info   os.FileInfo
	looked time.Time
}

// acquire locks the database at a path. The file is created if it may be.
func acquire(path string, mustExist bool) (_ *lock, err error) {
	_, err = os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && mustExist:
		return nil, fmt.Errorf("sqlite: there is no database %s: check the path (%w)", path, err)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	l := &lock{path: path, beside: flock.New(path + ".lock")}
	if err := l.take(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

func (l *lock) take() error {
	ok, err := l.beside.TryLock()
	if err != nil {
		return fmt.Errorf("sqlite: locking %s: %w: its folder must be writable, even for readers", l.path, err)
	}
	if !ok {
		return inUse(l.path)
	}
	// It stays open until the end: closing a file ends all locks that SQLite
	// has on it.
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if l.info, err = l.file.Stat(); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if ok, err = lockFile(l.file); err != nil {
		return fmt.Errorf("sqlite: locking %s: %w", l.path, err)
	}
	if !ok {
		return inUse(l.path)
	}
	return nil
}

func inUse(path string) error {
	return fmt.Errorf("%w: sqlite: %s is in use by another process: stop it, or talk to it over HTTP (--server)", store.ErrUnavailable, path)
}

func (l *lock) release() error {
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	return errors.Join(err, l.beside.Unlock())
}

// checkEvery is how often the writer looks whether its file is still there.
const checkEvery = time.Second

// check reports whether the database file was removed or replaced: what is
// written to it then, nobody will find.
func (l *lock) check(now time.Time) error {
	if now.Sub(l.looked) < checkEvery && !now.Before(l.looked) {
		return nil
	}
	l.looked = now
	info, err := os.Stat(l.path)
	if err != nil || !os.SameFile(info, l.info) {
		return fmt.Errorf("%w: sqlite: %s was removed or replaced while in use: put it back and restart", store.ErrUnavailable, l.path)
	}
	return nil
}
