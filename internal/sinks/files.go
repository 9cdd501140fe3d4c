package sinks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/deed-dev/deed"
)

// Files returns the event handler "error-files". For each command that goes
// wrong it writes the error record to a file of the folder, named after the
// command. If the command goes wrong again, or the error is resolved, the file
// is replaced; but a file that somebody has taken away does not come back for
// good news.
func Files(dir string, start Start) (deed.EventHandler, error) {
	f := folder(dir)
	if err := f.prepare(time.Now()); err != nil {
		return deed.EventHandler{}, err
	}
	return deed.EventHandler{
		Name: "error-files", Doc: "Writes what goes wrong with commands to files.",
		On:    []deed.Reaction{deed.HandleCommand(f.write, wrong...), deed.HandleCommand(f.update, right...)},
		Retry: patience, FromNow: bool(start),
	}, nil
}

// A folder is where error records are written.
type folder string

// Names of files that are being written, and how old one must be for nobody to
// be writing it any more.
const (
	unfinished = ".deed-*.tmp"
	abandoned  = 10 * time.Minute
)

// prepare makes the folder, and removes what a crash has left half written.
func (f folder) prepare(now time.Time) error {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(string(f), unfinished))
	if err != nil {
		return err
	}
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && now.Sub(info.ModTime()) > abandoned {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (f folder) path(id string) string { return filepath.Join(string(f), fileName(id)) }

// write writes the record of a command that has gone wrong.
func (f folder) write(ctx context.Context, _ *deed.Tx, e deed.CommandEvent) error {
	life, err := e.Life(ctx)
	if err != nil {
		return err
	}
	return f.save(*life.Error)
}

// update replaces the record, if it is there.
func (f folder) update(ctx context.Context, tx *deed.Tx, e deed.CommandEvent) error {
	if _, err := os.Stat(f.path(e.ID)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	life, err := e.Life(ctx)
	if err != nil || life.Error == nil {
		return err
	}
	return f.save(*life.Error)
}

// save writes a record, unless the file has it already, or a later one: an
// event may be handled again after a crash.
func (f folder) save(r deed.CommandError) error {
	path := f.path(r.ID)
	if old, err := os.ReadFile(path); err == nil {
		var there deed.CommandError
		if json.Unmarshal(old, &there) == nil && there.ID == r.ID && there.Version >= r.Version {
			return nil
		}
	}
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return deed.Permanent(err)
	}
	return replace(path, data.Bytes())
}

// replace puts a file in the place of another, all of it or not at all, and
// returns when that is on the disk.
func replace(path string, data []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path)) // else the name may be gone after a power cut
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
