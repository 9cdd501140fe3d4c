package notices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/notify"
)

// Files is the kind of targets that are files of a folder.
type Files struct {
	dir string // "" = none

	mu    sync.Mutex
	lines map[string]*notify.Lines // by path: what is in them is read once
}

// NewFiles returns the kind of targets that are within a folder; if that is "",
// there are none.
func NewFiles(dir string) *Files { return &Files{dir: dir, lines: map[string]*notify.Lines{}} }

// fileSettings are what is stored of a target of files.
type fileSettings struct {
	Kind  string `json:"kind"`
	Path  string `json:"path"`           // within the folder
	Lines bool   `json:"lines,omitzero"` // it is a file of lines, and not a folder with a file for each event
}

// Prepare implements [deed.TargetKind].
func (k *Files) Prepare(_ context.Context, _ string, asked, _ json.RawMessage) (json.RawMessage, map[string]string, error) {
	var s fileSettings
	if err := parse(asked, &s); err != nil {
		return nil, nil, err
	}
	if err := k.check(s); err != nil {
		return nil, nil, err
	}
	stored, err := json.Marshal(s)
	return stored, nil, err
}

func (k *Files) check(s fileSettings) error {
	if k.dir == "" {
		return errors.New("is a file, and this server writes none: whoever runs it names a folder with --file-dir")
	}
	if !filepath.IsLocal(s.Path) || s.Path != filepath.Clean(s.Path) || s.Path == "." || strings.ContainsAny(s.Path, "\\\x00") {
		return fmt.Errorf("path %q is no path within the folder of the server, for example orders or orders/all.jsonl", s.Path)
	}
	return nil
}

// Shown implements [deed.TargetKind].
func (k *Files) Shown(stored json.RawMessage) json.RawMessage { return stored }

// Open implements [deed.TargetKind].
func (k *Files) Open(_ string, stored json.RawMessage) (deed.Target, error) {
	var s fileSettings
	if err := parse(stored, &s); err != nil {
		return nil, err
	}
	if err := k.check(s); err != nil {
		return nil, err
	}
	path := filepath.Join(k.dir, s.Path)
	if !s.Lines {
		f, err := notify.OpenFolder(path)
		return folder(f), err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.lines[path]; l != nil {
		return list{l}, nil
	}
	l, err := notify.OpenLines(path)
	if err == nil {
		k.lines[path] = l
	}
	return list{l}, err
}

// folder has a file for each event.
type folder notify.Folder

// Deliver implements [deed.Target].
func (f folder) Deliver(_ context.Context, events []deed.CloudEvent) error {
	for i := range events {
		data, err := json.Marshal(events[i])
		if err != nil {
			return deed.Permanent(err)
		}
		if err := notify.Folder(f).Put(events[i].ID, append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// list has a line for each event.
type list struct{ *notify.Lines }

// Deliver implements [deed.Target].
func (l list) Deliver(_ context.Context, events []deed.CloudEvent) error {
	lines := make([]notify.Line, len(events))
	for i := range events {
		data, err := json.Marshal(events[i])
		if err != nil {
			return deed.Permanent(err)
		}
		lines[i] = notify.Line{Key: events[i].ID, Data: data}
	}
	return l.Append(lines...)
}
