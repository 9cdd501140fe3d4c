package sqlite

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file for this process, as long as it is open. On Linux this
// lock and those that SQLite takes do not know of each other.
func lockFile(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
