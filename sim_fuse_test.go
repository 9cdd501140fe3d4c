package deed

import (
	"os"
	"sync/atomic"
	"syscall"
)

// A simFuse kills the process when a place is reached for the last of so many
// times.
type simFuse struct {
	place string
	left  atomic.Int64
	calm  func() bool
}

func (f *simFuse) reach(place string) {
	if place == f.place && f.left.Add(-1) == 0 && !f.calm() {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
