// Package inbox takes commands in from a folder: a folder per kind of command,
// in which one JSON file is one command and the file's name is the command's id.
//
//	DIR/order.submit/7f1c.json          {"id": "o-17", "body": {}, "actor": "ann"}
//	DIR/order.submit/done/7f1c.json     handled
//	DIR/order.submit/failed/7f1c.json   refused, and beside it 7f1c.problem.json
//
// A command is asked first and its file is moved after, so a crash in between
// asks it again, under the same id, which gives the first answer. That is also
// why several processes may look after the same folder.
package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed"
)

// A Command is a kind of command that is taken in.
type Command struct {
	Aggregate string
	Name      string // for example "submit"
}

// String returns the name of the command's folder, for example "order.submit".
func (c Command) String() string { return c.Aggregate + "." + c.Name }

// Commands lists the kinds of commands that a runtime has.
func Commands(info deed.Info) []Command {
	var all []Command
	for _, a := range info.Aggregates {
		for _, name := range a.Commands {
			all = append(all, Command{a.Name, name})
		}
	}
	for _, s := range info.Stepwise {
		noun, verb, _ := strings.Cut(s.Name, ".")
		all = append(all, Command{noun, verb})
	}
	return all
}

// Options adjust an Inbox. The zero Options are fine.
type Options struct {
	Logger   *slog.Logger  // default: slog.Default()
	Parallel int           // commands asked at the same time; default 32
	MaxBytes int64         // of a file; default 1 MiB
	Settle   time.Duration // how long a file that is no JSON may still be in the making; default 3 s
	Poll     time.Duration // how often folders are read, should a hint be lost; default 2 s
	Report   time.Duration // how often, at most, the log tells how many were handled; default 10 s
}

// An Inbox looks after one folder.
type Inbox struct {
	root    *os.Root
	asker   Asker
	opts    Options
	log     *slog.Logger
	folders map[string]*folder
	slots   chan struct{} // bounds what is asked at the same time
	count   counter
	noted   notes
}

// Check reports whether a folder can be an inbox: it is there, and this process
// can write into it. A folder that is missing is not made: its name may be
// mistyped, or its disk not be there, and then nobody would ever look into it.
func Check(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s: make it first", dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is a file: name a folder", dir)
	}
	probe, err := os.CreateTemp(dir, ".deed-*.tmp")
	if err != nil {
		return fmt.Errorf("nothing can be written into %s, where handled files are to be moved: %w", dir, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// New opens a folder that [Check] is content with, and makes a folder in it for
// each command. Close or Run closes it.
func New(dir string, commands []Command, asker Asker, opts Options) (*Inbox, error) {
	opts.Parallel = cmp.Or(opts.Parallel, 32)
	opts.MaxBytes = cmp.Or(opts.MaxBytes, 1<<20)
	opts.Settle = cmp.Or(opts.Settle, 3*time.Second)
	opts.Poll = cmp.Or(opts.Poll, 2*time.Second)
	opts.Report = cmp.Or(opts.Report, 10*time.Second)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	in := &Inbox{
		root: root, asker: asker, opts: opts, log: cmp.Or(opts.Logger, slog.Default()),
		folders: map[string]*folder{}, slots: make(chan struct{}, opts.Parallel),
	}
	for _, c := range commands {
		if err := in.add(c); err != nil {
			return nil, errors.Join(fmt.Errorf("inbox: %w", err), root.Close())
		}
	}
	return in, nil
}

func (in *Inbox) add(c Command) error {
	name := c.String()
	if other, dup := in.folders[name]; dup {
		return fmt.Errorf("the folder %s would be for two commands: %s of %s, and %s of %s", name, c.Name, c.Aggregate, other.command.Name, other.command.Aggregate)
	}
	if err := in.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	in.folders[name] = newFolder(in, c)
	return nil
}

// Close closes an inbox that does not run.
func (in *Inbox) Close() error { return in.root.Close() }

// Run handles what is in the folder and what arrives, until ctx is done and
// what has begun is over. Trouble is logged and waited out: it ends nothing.
func (in *Inbox) Run(ctx context.Context) error {
	var all sync.WaitGroup
	hints := in.hints()
	for _, f := range in.folders {
		all.Go(func() { f.run(ctx, hints) })
	}
	all.Go(func() { hints.run(ctx, in.folders) })
	all.Go(func() { in.report(ctx) })
	all.Go(func() { in.lookAround(ctx) })
	all.Wait()
	in.count.log(in.log)
	return in.root.Close()
}

// lookAround tells of what lies in the inbox and is of no command.
func (in *Inbox) lookAround(ctx context.Context) {
	for {
		in.strangers()
		if !sleep(ctx, max(in.opts.Poll, 30*time.Second)) {
			return
		}
	}
}

func (in *Inbox) strangers() {
	dir, err := in.root.Open(".")
	if err != nil {
		return // the folders say so themselves
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(chunk)
		for _, e := range entries {
			if _, ok := in.folders[e.Name()]; ok || hidden(e.Name()) || !in.noted.first(e.Name()) {
				continue
			}
			in.log.Warn("inbox: ignored, because it is no folder of a command (they are named <aggregate>.<command>)", slog.String("name", e.Name()))
		}
		if err != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
