package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// A list is a folder with a file for each attendee.
type list string

// An attendee is what the entrance sees of one.
type attendee struct {
	Email  string `json:"email"`
	Active bool   `json:"active"`
	Reason string `json:"reason,omitempty"`
	Known  string `json:"known"` // sequence of the last event that is in this
}

// change takes an event into the file of its attendee, once.
func (l list) change(e event, f func(*attendee)) error {
	path := filepath.Join(string(l), url.PathEscape(e.Data.Attendee)+".json")
	var a attendee
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if a.Known >= e.Sequence {
		return nil
	}
	f(&a)
	a.Known = e.Sequence
	if data, err = json.Marshal(a); err != nil {
		return err
	}
	return replace(path, data)
}

// replace writes a file as a whole, or not at all, and returns when it is on the
// disk.
func replace(path string, data []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
