package deed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed/internal/wire"
)

// A Query is a question with parameters P to which what was recorded gives an
// answer R. The answer must depend on the parameters and on what is read through
// the Reader, and on nothing else: then it is kept, and given again for as long
// as none of what was read has changed.
//
// The parameters may have
//
//	Validate() error  // are they well-formed? see [Invalid]
//
// Return [ErrNotFound] or a [Reason] where there is no answer.
type Query[P, R any] struct {
	Name string
	Doc  string // one sentence for people

	// Answer gives the answer. Either it or Parts is set.
	Answer func(ctx context.Context, r Reader, p P) (R, error)
	Parts  Parts[P, R]

	Parallel int           // so many parts are answered at the same time; default 8
	Roles    []string      // who may ask it, when access is checked; none = readers
	Async    bool          // askings are stored first, and answered in the background
	Record   bool          // askings that are answered at once are recorded too
	Topic    string        // on which answers are published that are asked to be delivered to "topic:" and its name; "" = none
	Keep     time.Duration // what is recorded of an asking is kept at least that long; see [Runtime.Compact]
	Timeout  time.Duration // of one attempt at an answer, or at a part of one; default 1 minute
	Retry    Retry         // of a recorded asking, when something other than the domain fails
}

// Parts is an answer that is put together from others: one for each of some
// keys. Make one with [FanOut].
type Parts[P, R any] struct {
	over    func(context.Context, Reader, P) ([]string, error)
	part    func(context.Context, Reader, P, string) ([]byte, error)
	collate func(P, [][]byte) (R, error)
	check   func() error
}

// FanOut answers a query by answering part for each key that over returns, and
// putting the parts together, in the order of the keys. Several are answered at
// the same time, all as of the same place in the log. Of a recorded asking, each
// is answered once, also if the process is killed in between.
func FanOut[P, X, R any](
	over func(ctx context.Context, r Reader, p P) ([]string, error),
	part func(ctx context.Context, r Reader, p P, key string) (X, error),
	collate func(p P, parts []X) (R, error),
) Parts[P, R] {
	return Parts[P, R]{
		over: over, check: func() error { return survivesJSON(reflect.TypeFor[X]()) },
		part: func(ctx context.Context, r Reader, p P, key string) ([]byte, error) {
			x, err := part(ctx, r, p, key)
			if err != nil {
				return nil, err
			}
			return wire.Marshal(x)
		},
		collate: func(p P, all [][]byte) (r R, err error) {
			parts := make([]X, len(all))
			for i, data := range all {
				if err := wire.Unmarshal(data, &parts[i]); err != nil {
					return r, err
				}
			}
			return collate(p, parts)
		},
	}
}

// Ask asks the query of what r sees, and says where the answer comes from. It
// waits until the views that are read know what was recorded when it is asked.
// Its errors are those of Answer, [Invalid], and [Forbidden].
func (q Query[P, R]) Ask(ctx context.Context, r Reader, p P) (result R, run Run, err error) {
	rt := r.runtime()
	x, ok := rt.questions[q.Name]
	if !ok || x.params != reflect.TypeFor[P]() || x.result != reflect.TypeFor[R]() {
		return result, run, fmt.Errorf("%w: the runtime has no query %q of this type", ErrUnknown, q.Name)
	}
	run, err = rt.askNow(ctx, x, p, r, Asking{})
	if err != nil {
		return result, run, err
	}
	return result, run, wire.Unmarshal(run.Result, &result)
}

func (q Query[P, R]) order() int { return 4 }

func (q Query[P, R]) key() string { return queryCategory + "/" + q.Name }

func (q Query[P, R]) register(rt *Runtime) error {
	if err := checkName("query", q.Name); err != nil {
		return err
	}
	if _, dup := rt.questions[q.Name]; dup {
		return fmt.Errorf("two queries are named %q", q.Name)
	}
	if (q.Answer == nil) == (q.Parts.over == nil) {
		return fmt.Errorf("query %s needs one of Answer and Parts", q.Name)
	}
	if q.Keep < 0 || q.Timeout < 0 || q.Parallel < 0 {
		return fmt.Errorf("query %s: Keep, Timeout and Parallel cannot be below zero", q.Name)
	}
	x := &question{
		name: q.Name, topic: q.Topic, doc: q.Doc, roles: q.Roles, async: q.Async, record: q.Record, keep: q.Keep, timeout: q.Timeout, retry: q.Retry,
		params: reflect.TypeFor[P](), result: reflect.TypeFor[R](), answer: q.whole,
	}
	if x.timeout == 0 {
		x.timeout = time.Minute
	}
	err := survivesJSON(reflect.TypeFor[R]())
	if q.Parts.over != nil {
		x.fan, err = q.fan(), errors.Join(err, q.Parts.check())
		x.answer = x.fan.answer
	}
	if err != nil {
		return fmt.Errorf("query %s: its answer cannot be kept: %w", q.Name, err)
	}
	rt.questions[q.Name] = x
	return rt.publishesAnswers(x)
}

// whole gives an answer that does not consist of parts.
func (q Query[P, R]) whole(ctx context.Context, r Reader, p any) ([]byte, error) {
	result, err := q.Answer(ctx, r, p.(P))
	if err != nil {
		return nil, err
	}
	return wire.Marshal(result)
}

func (q Query[P, R]) fan() *fan {
	f := &fan{
		parallel: q.Parallel,
		over:     func(ctx context.Context, r Reader, p any) ([]string, error) { return q.Parts.over(ctx, r, p.(P)) },
		part: func(ctx context.Context, r Reader, p any, key string) ([]byte, error) {
			return q.Parts.part(ctx, r, p.(P), key)
		},
		collate: func(p any, parts [][]byte) ([]byte, error) {
			result, err := q.Parts.collate(p.(P), parts)
			if err != nil {
				return nil, err
			}
			return wire.Marshal(result)
		},
	}
	if f.parallel == 0 {
		f.parallel = 8
	}
	return f
}

// A question is a Query at work in a runtime.
type question struct {
	name, doc      string
	topic          string // "" = its answers are published nowhere
	params, result reflect.Type
	roles          []string
	async, record  bool
	keep, timeout  time.Duration
	retry          Retry
	answer         func(ctx context.Context, r Reader, p any) ([]byte, error)
	fan            *fan // nil: the answer does not consist of parts
}

// A fan is the Parts of a query whose types are not known.
type fan struct {
	parallel int
	over     func(ctx context.Context, r Reader, p any) ([]string, error)
	part     func(ctx context.Context, r Reader, p any, key string) ([]byte, error)
	collate  func(p any, parts [][]byte) ([]byte, error)
}

// answer gives all parts and puts them together.
func (f *fan) answer(ctx context.Context, r Reader, p any) ([]byte, error) {
	keys, err := f.keys(ctx, r, p)
	if err != nil {
		return nil, err
	}
	parts := make([][]byte, len(keys))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(f.parallel)
	for i, key := range keys {
		all.Go(func() (err error) {
			defer func() { err = recovered(recover(), err) }()
			if err := ctx.Err(); err != nil {
				return err
			}
			parts[i], err = f.part(ctx, r, p, key)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	return f.collate(p, parts)
}

// keys returns the keys of the parts.
func (f *fan) keys(ctx context.Context, r Reader, p any) ([]string, error) {
	keys, err := f.over(ctx, r, p)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			return nil, Permanent(fmt.Errorf("there are two parts with the key %q", key))
		}
		seen[key] = true
	}
	return keys, nil
}

// recovered makes a panic an error.
func recovered(p any, err error) error {
	if p != nil {
		return Permanent(fmt.Errorf("it panicked: %v", p))
	}
	return err
}

// decode makes parameters of JSON, strictly.
func (x *question) decode(body []byte) (any, error) {
	v := reflect.New(x.params)
	if err := decodeInto(body, v); err != nil {
		return nil, err
	}
	return v.Elem().Interface(), nil
}

// check returns the parameters as JSON, if they are well-formed.
func (x *question) check(p any) ([]byte, error) {
	data, err := wire.Marshal(p)
	if err != nil {
		return nil, err
	}
	if v, ok := p.(validator); ok {
		if err := v.Validate(); err != nil {
			return data, asInvalid(err)
		}
	}
	return data, nil
}
