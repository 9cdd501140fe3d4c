package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/durable"
)

// A Folder takes notifications as files, one for each key: whatever crashes, a
// file is there once and whole, or not there.
type Folder string

// OpenFolder returns a folder, which it makes.
func OpenFolder(dir string) (Folder, error) {
	return Folder(dir), durable.Folder(dir, time.Now())
}

// Path is where what has a key is.
func (f Folder) Path(key string) string { return filepath.Join(string(f), durable.Name(key)) }

// Put writes a file, and returns when it is on the disk. What is there already
// stays.
func (f Folder) Put(key string, data []byte) error {
	path := f.Path(key)
	switch _, err := os.Stat(path); {
	case err == nil:
		return durable.SyncFolder(string(f)) // whoever wrote it may not have come to that
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return durable.Replace(path, data)
}

// Send implements [Sender]: a mail is a file, as JSON.
func (f Folder) Send(_ context.Context, m Mail) error {
	if err := m.Check(); err != nil {
		return err
	}
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return deed.Permanent(fmt.Errorf("the mail is no JSON: %w", err))
	}
	return f.Put(m.Key, data.Bytes())
}
