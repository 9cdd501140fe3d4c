package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	lib "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Backup copies the database at src to a new file dst while others go on
// using it. The copy is of one moment, compact, and on the disk when Backup
// returns; until then it has another name, so that half a backup is never
// taken for a whole one. Progress, if not nil, is told now and then how many
// bytes are written, out of about how many.
func Backup(ctx context.Context, src, dst string, progress func(done, total int64)) error {
	if _, err := os.Stat(src); err != nil {
		return fmt.Errorf("sqlite: backup: %w", err)
	}
	if _, err := os.Lstat(dst); err == nil {
		return fmt.Errorf("sqlite: backup: %s exists already: choose another name", dst)
	}
	part := dst + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sqlite: backup: %w", err)
	}
	stop := watch(src, part, progress)
	err := copyTo(ctx, src, part)
	stop()
	if err == nil {
		err = syncFile(part)
	}
	if err == nil {
		err = os.Rename(part, dst)
	}
	if err == nil {
		err = syncFile(filepath.Dir(dst))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("sqlite: backup of %s to %s: %w", src, dst, err), os.RemoveAll(part))
	}
	return nil
}

func copyTo(ctx context.Context, src, part string) error {
	c, err := lib.OpenConn(src, lib.OpenReadOnly)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetBusyTimeout(10 * time.Second)
	c.SetInterrupt(ctx.Done())
	return sqlitex.ExecuteTransient(c, "VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{part}})
}

// watch tells progress from the size of the copy.
func watch(src, part string, progress func(done, total int64)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	total := sizeOf(src) + sizeOf(src+"-wal")
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				progress(min(sizeOf(part), total), total)
			case <-quit:
				progress(total, total)
				return
			}
		}
	}()
	return func() { close(quit); <-ended }
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
