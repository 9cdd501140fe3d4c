package bulk

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
)

// CodeInvalid is the code of a line that is no command.
const CodeInvalid = "invalid"

// Ask asks the command of a line under an id. An error ends the run: it is not
// the line's fault, and the line has no result.
type Ask func(ctx context.Context, key string, l Line) (Result, error)

// Options adjust a run.
type Options struct {
	Name     string // of the run, usually the file's: part of the commands' ids
	Command  string // for example "order.submit": part of them too
	Parallel int    // commands asked at the same time; at least 1
	Progress func(line int64)
}

// A Report says how a run went.
type Report struct {
	Lines  int64 `json:"lines"`
	Failed int64 `json:"failed"`
	Known  int64 `json:"known"` // lines whose result an earlier run had written
}

// ahead is how many lines, per command asked at the same time, may be read
// before the first of them has its result.
const ahead = 64

type task struct {
	line Line
	key  string
	res  Result
	err  error
	done chan struct{}
}

// Run asks the commands of a source and writes their results, in the order of
// lines. Those of one entity are asked one after the other, in that order.
func Run(ctx context.Context, src Source, results *Results, ask Ask, o Options) (rep Report, err error) {
	first, err := skipKnown(src, results, o, &rep)
	if err != nil || first == nil {
		return rep, errors.Join(err, results.Close(err == nil))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queues := make([]chan *task, o.Parallel)
	var workers sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan *task, ahead)
		workers.Go(func() {
			for t := range queues[i] {
				t.do(ctx, ask)
			}
		})
	}
	order := make(chan *task, o.Parallel*ahead)
	var readErr error
	workers.Go(func() {
		readErr = read(ctx, first, src, queues, order, o)
		for _, q := range queues {
			close(q)
		}
		close(order)
	})
	err = collect(order, results, o, &rep)
	cancel() // if it was the results that could not be written
	for range order {
	}
	workers.Wait()
	if err == nil {
		err = readErr
	}
	return rep, errors.Join(err, results.Close(err == nil))
}

// skipKnown passes over the lines whose results are known. It returns the
// first that is not, or nil.
func skipKnown(src Source, results *Results, o Options, rep *Report) (*task, error) {
	for {
		l, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		key := Key(o.Name, o.Command, l)
		old, known := results.Known(l.Number, key)
		if !known {
			return &task{line: l, key: key, done: make(chan struct{})}, nil
		}
		rep.Lines++
		rep.Known++
		if old.Code != "" {
			rep.Failed++
		}
		o.Progress(l.Number)
	}
}

// read hands lines to the workers: those of one entity to the same.
func read(ctx context.Context, t *task, src Source, queues []chan *task, order chan<- *task, o Options) error {
	for n := 0; ; n++ {
		select {
		case order <- t:
		case <-ctx.Done():
			return ctx.Err()
		}
		q := n
		if t.line.ID != "" {
			h := fnv.New32a()
			h.Write([]byte(t.line.ID))
			q = int(h.Sum32() >> 1)
		}
		queues[q%len(queues)] <- t // a worker empties it, whatever happens
		l, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		t = &task{line: l, key: Key(o.Name, o.Command, l), done: make(chan struct{})}
	}
}

func (t *task) do(ctx context.Context, ask Ask) {
	defer close(t.done)
	if t.line.Fault != "" {
		t.res = Result{Code: CodeInvalid, Detail: t.line.Fault}
	} else if t.err = ctx.Err(); t.err == nil {
		t.res, t.err = ask(ctx, t.key, t.line)
	}
	t.res.Line, t.res.Command = t.line.Number, t.key
}

// collect writes results in the order of lines, until one has none.
func collect(order <-chan *task, results *Results, o Options, rep *Report) error {
	for t := range order {
		select {
		case <-t.done:
		default: // it takes a while: let what there is be seen
			if err := results.Flush(); err != nil {
				return err
			}
			<-t.done
		}
		if t.err != nil {
			return fmt.Errorf("line %d: %w", t.line.Number, t.err)
		}
		if err := results.Write(t.res); err != nil {
			return err
		}
		if rep.Lines++; t.res.Code != "" {
			rep.Failed++
		}
		o.Progress(t.line.Number)
	}
	return nil
}

// Check reads a source to its end and hands on the lines that are no commands.
func Check(src Source, bad func(Line)) (rep Report, err error) {
	for {
		l, err := src.Next()
		if errors.Is(err, io.EOF) {
			return rep, nil
		}
		if err != nil {
			return rep, err
		}
		if rep.Lines++; l.Fault != "" {
			rep.Failed++
			bad(l)
		}
	}
}
