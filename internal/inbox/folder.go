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
	moved   atomic.Int64 // files, in this reading
	failing atomic.Int64 // files that the store could not serve, in this reading
	warned  atomic.Int64 // when, as Unix nanoseconds, the log was last told so
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
		f.failing.Store(0)
		f.moved.Store(0)
		if err := f.scan(ctx); err != nil && ctx.Err() == nil {
			f.log().Error("inbox: the folder cannot be read; trying again", slog.Any("error", err))
			f.failing.Add(1)
		}
		switch {
		case f.moved.Load() > 0: // there may be more
			backoff = 0
		case f.failing.Load() > 0:
			backoff = min(max(2*backoff, firstBackoff), lastBackoff)
			sleep(ctx, backoff/2+rand.N(backoff/2))
		default:
			backoff = 0
			f.rest(ctx, min(f.in.opts.Poll, f.later.next()))
		}
	}
}

// hopeless reports whether so many files could not be served that it is no use
// to ask for others. One is no proof: the fault may lie with its entity.
func (f *folder) hopeless() bool { return f.failing.Load() >= int64(cap(f.in.slots)) }

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
	for ctx.Err() == nil && !f.hopeless() {
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

// handleAll asks the commands of some files side by side, and moves the files
// after, together: a disk that has renames to write between the syncs of the
// store makes each of those several times as slow.
func (f *folder) handleAll(ctx context.Context, root *os.Root, entries []fs.DirEntry) {
	var mu sync.Mutex
	var settled []verdict
	f.sideBySide(ctx, len(entries), func(i int) {
		if e := entries[i]; !f.hopeless() && f.wanted(e) && f.later.due(e.Name()) {
			if v := f.handle(ctx, root, e.Name()); v != nil {
				mu.Lock()
				defer mu.Unlock()
				settled = append(settled, *v)
			}
		}
	})
	if len(settled) == 0 {
		return
	}
	// What is settled is moved, even if this is the end.
	f.sideBySide(context.WithoutCancel(ctx), len(settled), func(i int) { f.end(root, settled[i]) })
	syncDirs(root)
}

// sideBySide calls do for 0 to n-1, some at the same time, until ctx is done.
func (f *folder) sideBySide(ctx context.Context, n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		select {
		case <-ctx.Done():
		case f.in.slots <- struct{}{}:
			all.Go(func() {
				defer func() { <-f.in.slots }()
				do(i)
			})
		}
		if ctx.Err() != nil {
			break
		}
	}
	all.Wait()
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
