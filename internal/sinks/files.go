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
	"github.com/deed-dev/deed/internal/durable"
)

// Files returns the event handler "error-files". For each command that goes
// wrong it writes the error record to a file of the folder, named after the
// command. If the command goes wrong again, or the error is resolved, the file
// is replaced; but a file that somebody has taken away does not come back for
// good news.
func Files(dir string, start Start) (deed.EventHandler, error) {
	f := folder(dir)
	if err := durable.Folder(dir, time.Now()); err != nil {
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

func (f folder) path(id string) string { return filepath.Join(string(f), durable.Name(id)) }

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
	return durable.Replace(path, data.Bytes())
}
