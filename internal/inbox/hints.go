package inbox

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// hints wake a folder up when something arrives in it. They may be lost, or
// not exist at all (on network file systems): folders are read now and then
// anyway, so all that is lost is time.
type hints struct {
	dir     string
	watcher *fsnotify.Watcher // nil = there are none
}

func (in *Inbox) hints() *hints {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		in.log.Warn("inbox: the system does not tell of new files, so they are noticed a little later", slog.Any("error", err))
	}
	return &hints{in.root.Name(), w}
}

// watch asks for hints about a folder. Asking again costs little, and helps
// after the folder was replaced.
func (h *hints) watch(name string) {
	if h.watcher != nil {
		h.watcher.Add(filepath.Join(h.dir, name)) // if not, there is the next reading
	}
}

func (h *hints) run(ctx context.Context, folders map[string]*folder) {
	if h.watcher == nil {
		return
	}
	defer h.watcher.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.watcher.Errors: // hints were lost
			for _, f := range folders {
				f.poke()
			}
		case e := <-h.watcher.Events:
			if f := folders[filepath.Base(filepath.Dir(e.Name))]; f != nil && e.Has(fsnotify.Create|fsnotify.Write) {
				f.poke()
			}
		}
	}
}
