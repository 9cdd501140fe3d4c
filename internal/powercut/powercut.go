// Package powercut makes disks whose power can be cut: ext4 file systems in
// files, shut down without flushing, as if the machine had lost power. Killing
// a process shows nothing of the kind: what it wrote is still in the kernel's
// cache.
package powercut

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// A Disk is a file system in a file.
type Disk struct {
	Dir   string // where it is mounted
	image string
}

// NewDisk makes and mounts a disk, until the test ends. Where that cannot be,
// the test fails: a promise nobody has checked is none.
func NewDisk(tb testing.TB, size int64) *Disk {
	tb.Helper()
	base := tb.TempDir()
	d := &Disk{image: filepath.Join(base, "disk.img"), Dir: filepath.Join(base, "mnt")}
	f, err := os.Create(d.image)
	if err != nil {
		tb.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close(), os.Mkdir(d.Dir, 0o755)); err != nil {
		tb.Fatal(err)
	}
	sh(tb, "mkfs.ext4", "-q", "-F", d.image)
	d.Mount(tb)
	tb.Cleanup(func() { exec.Command("umount", d.Dir).Run() })
	return d
}

func sh(tb testing.TB, name string, args ...string) {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("THE POWER CUT TESTS CANNOT RUN HERE: %s %s: %v\n%s\nThey need root, loop mounts and e2fsprogs (apt-get install e2fsprogs mount).",
			name, strings.Join(args, " "), err, out)
	}
}

// Mount mounts the disk again.
func (d *Disk) Mount(tb testing.TB) { tb.Helper(); sh(tb, "mount", "-o", "loop", d.image, d.Dir) }

// Unmount takes the disk away. Whoever uses it must have ended.
func (d *Disk) Unmount(tb testing.TB) { tb.Helper(); sh(tb, "umount", d.Dir) }

// Cut is the power cut: EXT4_IOC_SHUTDOWN without flushing the journal.
// Nothing can be written afterwards; unmount the disk and mount it again.
//
// An fsync that overlaps the cut may return success for a journal entry that
// the cut has just thrown away, which a real power cut would let nobody see.
// So what counts as acknowledged is what was so before Cut was called.
func (d *Disk) Cut(tb testing.TB) {
	tb.Helper()
	const extShutdown, noLogFlush = 0x8004587d, uint32(2)
	f, err := os.Open(d.Dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	flag := noLogFlush
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), extShutdown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		tb.Fatalf("THE POWER CUT TESTS CANNOT RUN HERE: the file system cannot be shut down: %v", errno)
	}
}
