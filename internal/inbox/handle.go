package inbox

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/textfile"
)

// An arrival is a file as it was read.
type arrival struct {
	name string
	info fs.FileInfo
	data []byte // nil = it was too large to be read
	sum  [sha256.Size]byte
}

// A verdict says what is to become of a file: refused with a problem, or nil.
type verdict struct {
	arrival
	problem *httpapi.Problem
}

// id returns the id of the command that the file asks.
func (a arrival) id() string { return strings.TrimSuffix(a.name, suffix) }

// handle asks the command of a file. It returns nil if the file has to stay
// where it is.
func (f *folder) handle(ctx context.Context, root *os.Root, name string) *verdict {
	a, err := f.read(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process was faster
		return nil
	case errors.Is(err, errSpecial):
		f.ignore(name, err.Error())
		return nil
	case err != nil:
		f.postpone(name, err)
		return nil
	}
	if !json.Valid(a.data) && !f.later.settled(name, a.info, f.in.opts.Settle) {
		return nil // somebody is still writing it, perhaps
	}
	if a.data == nil {
		return &verdict{a, tooLarge(f.in.opts.MaxBytes)}
	}
	v := f.ask(ctx, a)
	if v != nil {
		v.data = nil // many wait to be moved
	}
	return v
}

var errSpecial = errors.New("only plain files are read, no links, folders or devices")

// read reads a file, of which anything may have become since it was listed.
func (f *folder) read(root *os.Root, name string) (a arrival, err error) {
	// A pipe must not make us wait for somebody to write into it.
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return a, err
	}
	defer file.Close()
	a.name = name
	if a.info, err = file.Stat(); err != nil {
		return a, err
	}
	there, err := root.Lstat(name)
	if err != nil {
		return a, err
	}
	if !there.Mode().IsRegular() || !a.info.Mode().IsRegular() {
		return a, errSpecial
	}
	if a.info.Size() > f.in.opts.MaxBytes {
		return a, nil
	}
	data, err := io.ReadAll(io.LimitReader(file, f.in.opts.MaxBytes+1))
	if err == nil && int64(len(data)) <= f.in.opts.MaxBytes {
		a.sum = sha256.Sum256(data)
		mark, _ := textfile.Mark(data) // what it is instead, decode says
		a.data = data[mark:]
	}
	return a, err
}

// ask asks the command of a file, and returns nil if that settled nothing.
func (f *folder) ask(ctx context.Context, a arrival) *verdict {
	err := f.put(ctx, a)
	if err == nil {
		return &verdict{a, nil}
	}
	p := problemOf(err)
	switch {
	case p.Code == httpapi.CodeUnavailable, p.Code == httpapi.CodeOutcomeUnknown:
		f.wait(ctx, a.name, err)
		return nil
	case p.Code == httpapi.CodeInProgress, overtaken(err):
		f.later.put(a.name)
		return nil
	case p.Status >= http.StatusInternalServerError:
		f.log().Error("inbox: command failed", slog.String("name", a.name), slog.Any("error", err))
	}
	return &verdict{a, &p}
}

// put puts the command that a file contains to the asker. A defect in a
// program's code that makes it panic must not end everything, and again and
// again whenever the program is started: it is a refusal.
func (f *folder) put(ctx context.Context, a arrival) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v panicked: %v\n%s", f.command, p, debug.Stack())
		}
	}()
	c, err := decode(a.data)
	if err != nil {
		return err
	}
	call := deed.Call{ID: a.id(), Actor: c.Actor, Correlation: c.Correlation, Source: "inbox"}
	return f.in.asker.Ask(ctx, call, f.command.Aggregate, c.id(), f.command.Name, c.Body)
}

// overtaken reports whether other commands got in between too often. Nothing
// was decided, so it is asked again.
func overtaken(err error) bool {
	_, ok := errors.AsType[deed.Conflict](err)
	return ok
}

// quiet is how long the log is not told again that the store cannot serve.
const quiet = 5 * time.Second

// wait leaves a file for later that the store could not serve.
func (f *folder) wait(ctx context.Context, name string, err error) {
	f.later.put(name) // others come first
	f.failing.Add(1)
	last, now := f.warned.Load(), time.Now().UnixNano()
	if ctx.Err() == nil && now-last > int64(quiet) && f.warned.CompareAndSwap(last, now) {
		f.log().Warn("inbox: waiting, because the store cannot serve", slog.Any("error", err))
	}
}

// postpone leaves a file for later that could not be read or moved.
func (f *folder) postpone(name string, err error) {
	f.later.put(name)
	if f.noted.first(name + "\x00postponed") {
		f.log().Error("inbox: file left for later", slog.String("name", name), slog.Any("error", err))
	}
}

// problemOf is the problem of HTTP, in words that fit a file.
func problemOf(err error) httpapi.Problem {
	p := httpapi.ProblemOf(err)
	if p.Code == httpapi.CodeIdempotencyMismatch {
		p.Detail = "a command with this id, which is the file's name, was asked before with other contents: use a new name"
	}
	return p
}

func tooLarge(limit int64) *httpapi.Problem {
	return &httpapi.Problem{
		Type: "about:blank", Title: http.StatusText(http.StatusRequestEntityTooLarge), Status: http.StatusRequestEntityTooLarge,
		Code: httpapi.CodeTooLarge, Detail: fmt.Sprintf("the file is larger than %d bytes", limit),
	}
}
