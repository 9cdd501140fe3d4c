package notify

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/durable"
)

// Lines is a file that takes notifications as lines, at its end. Each has a
// key, and there is one line of each, whatever crashes: what is there is read
// once when the file is opened. Several processes may write to it.
type Lines struct {
	path string
	lock *flock.Flock

	mu   sync.Mutex
	size int64 // of what was read
	have map[[16]byte]bool
}

// A Line is one of a file: its key is the member "key" of the JSON object.
type Line struct {
	Key  string          `json:"key"`
	Data json.RawMessage `json:"data"`
}

// OpenLines returns a file of lines, whose folder it makes.
func OpenLines(path string) (*Lines, error) {
	l := &Lines{path: path, lock: flock.New(path + ".lock"), have: map[[16]byte]bool{}}
	return l, os.MkdirAll(filepath.Dir(path), 0o755)
}

func digest(key string) (d [16]byte) {
	sum := sha256.Sum256([]byte(key))
	copy(d[:], sum[:])
	return d
}

// Append adds lines whose keys are not there, and returns when they are on the
// disk.
func (l *Lines) Append(lines ...Line) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.lock.Unlock()) }()
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	made := l.size == 0
	if err := l.read(f); err != nil {
		return err
	}
	var more bytes.Buffer
	enc := json.NewEncoder(&more)
	enc.SetEscapeHTML(false)
	fresh := map[[16]byte]bool{}
	for _, line := range lines {
		d := digest(line.Key)
		if l.have[d] || fresh[d] {
			continue
		}
		if err := enc.Encode(line); err != nil {
			return deed.Permanent(fmt.Errorf("%s is no JSON: %w", line.Key, err))
		}
		fresh[d] = true
	}
	if _, err := f.WriteAt(more.Bytes(), l.size); err != nil {
		return err
	}
	// Also of what was there: whoever wrote it may not have come to that.
	if err := f.Sync(); err != nil {
		return err
	}
	if made {
		if err := durable.SyncFolder(filepath.Dir(l.path)); err != nil {
			return err
		}
	}
	l.size += int64(more.Len())
	for d := range fresh {
		l.have[d] = true
	}
	return nil
}

// read takes in what others have written, and cuts off the beginning of a line
// that a crash has left.
func (l *Lines) read(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < l.size { // somebody has emptied it, or put another in its place
		l.size, l.have = 0, map[[16]byte]bool{}
	}
	if info.Size() == l.size {
		return nil
	}
	if _, err := f.Seek(l.size, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return f.Truncate(l.size)
		}
		if err != nil {
			return err
		}
		l.size += int64(len(text))
		var line Line
		if json.Unmarshal(text, &line) == nil { // else it is somebody else's
			l.have[digest(line.Key)] = true
		}
	}
}
