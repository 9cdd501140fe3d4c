package inbox

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The folders inside a command's folder.
const (
	doneDir   = "done"
	failedDir = "failed"
)

// chunk is how many names are read from a folder at a time.
const chunk = 1024

// gather is how long a folder waits for more to arrive, once something did.
const gather = 20 * time.Millisecond

// Bounds of the waiting when the store is in trouble.
const (
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 15 * time.Second
)

// A folder is that of one kind of command.
type folder struct {
	in      *Inbox
	command Command
	wake    chan struct{}
	later   queue
	noted   notes
	trouble atomic.Bool // the store cannot serve: it is no use to ask for other files
	moved   atomic.Int64
}

func newFolder(in *Inbox, c Command) *folder {
	return &folder{in: in, command: c, wake: make(chan struct{}, 1), later: queue{files: map[string]*waiting{}}}
}

// poke makes the folder look.
func (f *folder) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *folder) log() *slog.Logger { return f.in.log.With(slog.String("folder", f.command.String())) }

// run reads the folder again and again.
func (f *folder) run(ctx context.Context, h *hints) {
	var backoff time.Duration
	for ctx.Err() == nil {
		h.watch(f.command.String())
		f.trouble.Store(false)
		f.moved.Store(0)
		if err := f.scan(ctx); err != nil && ctx.Err() == nil {
			f.log().Error("inbox: the folder cannot be read; trying again", slog.Any("error", err))
			f.trouble.Store(true)
		}
		switch {
		case f.trouble.Load():
			backoff = min(max(2*backoff, firstBackoff), lastBackoff)
			sleep(ctx, backoff/2+rand.N(backoff/2))
			continue
		case f.moved.Load() == 0:
			f.rest(ctx, min(f.in.opts.Poll, f.later.next()))
		}
		backoff = 0
	}
}

// rest waits for a hint, and for what comes with it.
func (f *folder) rest(ctx context.Context, most time.Duration) {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-f.wake:
		sleep(ctx, gather)
	}
}

// scan reads the folder once, a chunk at a time, and handles what it finds.
func (f *folder) scan(ctx context.Context) error {
	root, err := f.open()
	if root == nil || err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	f.later.begin()
	for ctx.Err() == nil && !f.trouble.Load() {
		entries, err := dir.ReadDir(chunk)
		f.handleAll(ctx, root, entries)
		if errors.Is(err, io.EOF) {
			f.later.end()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens the folder anew: it may have been replaced. It returns nil if
// there is none.
func (f *folder) open() (*os.Root, error) {
	name := f.command.String()
	info, err := f.in.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if f.in.noted.first(name) {
			f.log().Warn("inbox: ignored, because it is a link or a file and not a folder")
		}
		return nil, nil
	}
	return f.in.root.OpenRoot(name)
}

// handleAll handles files side by side, and makes their new places durable.
func (f *folder) handleAll(ctx context.Context, root *os.Root, entries []fs.DirEntry) {
	before := f.moved.Load()
	var all sync.WaitGroup
	for _, e := range entries {
		if !f.wanted(e) || !f.later.due(e.Name()) {
			continue
		}
		select {
		case <-ctx.Done():
		case f.in.slots <- struct{}{}:
			all.Go(func() {
				defer func() { <-f.in.slots }()
				f.handle(ctx, root, e.Name())
			})
		}
		if ctx.Err() != nil || f.trouble.Load() {
			break
		}
	}
	all.Wait()
	if f.moved.Load() > before {
		syncDirs(root)
	}
}

// wanted reports whether a name is that of a command's file, and tells of
// those that look as if they were meant to be.
func (f *folder) wanted(e fs.DirEntry) bool {
	name := e.Name()
	switch {
	case e.IsDir() && (name == doneDir || name == failedDir), hidden(name):
		return false
	case !e.Type().IsRegular():
		f.ignore(name, "only plain files are read, no links, folders or devices")
	case strings.HasSuffix(name, problemSuffix):
		f.ignore(name, "it is the explanation of a refused file, not a command")
	case !strings.HasSuffix(name, suffix):
		f.ignore(name, "the name of a command's file ends in "+suffix)
	default:
		return true
	}
	return false
}

func (f *folder) ignore(name, why string) {
	if f.noted.first(name) {
		f.log().Warn("inbox: ignored: "+why, slog.String("name", name))
	}
}
