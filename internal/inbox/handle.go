package inbox

import (
	"context"
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

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
)

// An arrival is a file as it was read.
type arrival struct {
	name string
	info fs.FileInfo
	data []byte // nil = it was too large to be read
}

// id returns the id of the command that the file asks.
func (a arrival) id() string { return strings.TrimSuffix(a.name, suffix) }

// handle does with a file what is to be done with it.
func (f *folder) handle(ctx context.Context, root *os.Root, name string) {
	a, err := f.read(root, name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process was faster
		return
	case errors.Is(err, errSpecial):
		f.ignore(name, err.Error())
		return
	case err != nil:
		f.postpone(name, err)
		return
	}
	if !json.Valid(a.data) && !f.later.settled(name, a.info, f.in.opts.Settle) {
		return // somebody is still writing it, perhaps
	}
	if a.data == nil {
		f.end(root, a, tooLarge(f.in.opts.MaxBytes))
		return
	}
	f.ask(ctx, root, a)
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
		a.data = data
	}
	return a, err
}

// ask asks the command of a file, and moves the file if that is settled.
func (f *folder) ask(ctx context.Context, root *os.Root, a arrival) {
	err := f.put(ctx, a)
	if err == nil {
		f.end(root, a, nil)
		return
	}
	p := problemOf(err)
	switch {
	case p.Code == httpapi.CodeUnavailable, p.Code == httpapi.CodeOutcomeUnknown:
		f.wait(ctx, err)
		return
	case p.Code == httpapi.CodeInProgress, overtaken(err):
		f.later.put(a.name)
		return
	case p.Status >= http.StatusInternalServerError:
		f.log().Error("inbox: command failed", slog.String("name", a.name), slog.Any("error", err))
	}
	f.end(root, a, &p)
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

// wait makes the folder wait: what hinders this file hinders all.
func (f *folder) wait(ctx context.Context, err error) {
	if f.trouble.Swap(true) || ctx.Err() != nil {
		return
	}
	f.log().Warn("inbox: waiting, because the store cannot serve", slog.Any("error", err))
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
