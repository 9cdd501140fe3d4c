package deed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/deed-dev/deed/internal/wire"
)

// Work is a step of a [Stepwise] command while it is being done.
//
// A step that is interrupted is done again from its beginning. Commands that it
// asks by way of Work are then answered as before instead of being done again.
// Whatever else it does outside it should do under the name of Key, so that the
// other side recognises the repetition.
type Work struct {
	ID      string // of what the command is about
	Command string // the command's id
	Actor   string // who asked; "" = nobody said
	Why     Reason // in UndoDo of a saga: what made it turn back

	// Unclear says in Undo that nobody knows what Do did: it was interrupted or
	// failed, or was refused after it had asked several things, and may have done
	// all, a part or nothing. A Do that has done a part outside and is then
	// refused sets it, so that Undo is called at all.
	Unclear bool

	host stepHost
	step string
	undo bool

	mu      sync.Mutex
	touched []string
	sent    map[string]int // how often each command was asked of each entity
	asked   int            // commands and groups of commands, so far
	output  json.RawMessage
}

// A stepHost is what a step is part of.
type stepHost interface {
	runtime() *Runtime
	name() string  // of the command or saga, for example "league.create"
	about() string // stream of what it is about
	circumstances() Call
	kept(step string) (json.RawMessage, bool) // what a step that is done has put
	keeps() bool                              // whether it keeps what steps put
	rounds() int                              // how often somebody has asked for it to be tried again
	progressed(ctx context.Context, e stepProgressed) error
}

// fanOut is how many commands a step asks at the same time.
const fanOut = 200

// progressEvery is after how many entities a step that asks commands of many
// says how far it has come.
const progressEvery = 1000

// Key is the same whenever the step is done, and different for every other step
// of any command: 36 characters. Give it to services outside as the key by
// which they recognise a repetition. In Undo it is another one than in Do, but
// the same whenever the step is undone: what Undo asks is a request of its own.
// To name what Do has made, use Command.
func (w *Work) Key() string { return w.derive("") }

// Reader reads everything recorded so far.
func (w *Work) Reader() Reader { return w.host.runtime() }

// Put keeps what the step found out, as JSON, for the steps after it. It is
// recorded when the step is done. A saga has its state for that, and Put is an
// error.
func (w *Work) Put(v any) error {
	if !w.host.keeps() {
		return Permanent(errors.New("deed: a step of a saga keeps what it finds out in the saga's state, not with Put"))
	}
	data, err := wire.Marshal(v)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.output = data
	return err
}

// Get reads what an earlier step has kept. It returns [ErrNotFound] if that has
// kept nothing, or is not done.
func (w *Work) Get(step string, into any) error {
	data, ok := w.host.kept(step)
	if !ok || len(data) == 0 {
		return ErrNotFound
	}
	return wire.Unmarshal(data, into)
}

// Ask asks commands, each of them once however often the step is done, up to
// 200 at the same time. It returns the first error after it has stopped asking.
// One that was rejected before is asked again if somebody wants the step tried
// again. The commands, and their order if the same is asked of an entity twice, must
// depend on nothing but the command and what earlier steps have kept.
func (w *Work) Ask(ctx context.Context, commands ...Sending) error {
	whats := make([]string, len(commands))
	for i, s := range commands {
		whats[i] = w.count(s)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all errgroup.Group
	all.SetLimit(fanOut)
	for i, s := range commands {
		if ctx.Err() != nil {
			break
		}
		all.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var r Receipt
			err := w.inRounds(whats[i], func(id string) (err error) {
				r, err = s.ask(w.with(ctx, id), w.host.runtime())
				return err
			})
			if err == nil && r.Pending { // an earlier program has stored it
				err = ErrInProgress
			}
			if err != nil {
				stop()
				return err
			}
			return w.note(ctx, r.Stream)
		})
	}
	err := all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// AskTogether asks commands of one or several entities, of one or several
// kinds, up to 500 of them: either all are accepted, in one append, or none.
func (w *Work) AskTogether(ctx context.Context, commands ...Sending) error {
	if len(commands) == 0 {
		return nil
	}
	w.mu.Lock()
	w.asked++
	w.mu.Unlock()
	return w.inRounds("together "+commands[0].stream, func(id string) error {
		rt := w.host.runtime()
		a, err := rt.ask(w.with(ctx, id), w.host.name()+"."+w.step, Rules{}, w.host.about(), struct{}{})
		if err != nil {
			return err
		}
		a.journal = true
		if a.hash, err = hashOfAll(commands); err != nil {
			return err
		}
		streams, err := rt.together(ctx, a, commands)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.touched = append(w.touched, streams...)
		w.mu.Unlock()
		return nil
	})
}

// inRounds asks something under its id. If the answer is that it was rejected
// before, and somebody has wanted it tried again since, it is asked anew under
// another id.
func (w *Work) inRounds(what string, ask func(id string) error) error {
	err := ask(w.derive(what))
	for round := 1; round <= w.host.rounds(); round++ {
		if no, ok := errors.AsType[Rejected](err); !ok || !no.Replay {
			break
		}
		err = ask(w.derive(fmt.Sprintf("%s round %d", what, round)))
	}
	return err
}

// with are the circumstances of a command that the step asks.
func (w *Work) with(ctx context.Context, id string) context.Context {
	call := w.host.circumstances()
	call.ID, call.direct = id, true
	return With(ctx, call)
}

// count tells a command that the step asks from all others that it asks.
func (w *Work) count(s Sending) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	what := s.name + " " + s.stream
	w.sent[what]++
	w.asked++
	return fmt.Sprintf("%s %d", what, w.sent[what])
}

// stepSpace makes ids out of steps.
var stepSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/deed-dev/deed/step"))

func (w *Work) derive(what string) string {
	kind := "do"
	if w.undo {
		kind = "undo"
	}
	return uuid.NewSHA1(stepSpace, []byte(w.Command+"\x00"+w.step+"\x00"+kind+"\x00"+what)).String()
}

// nothingDone reports whether a step that the domain refused has done nothing
// before: then it asked one thing at most, and that was refused.
func (w *Work) nothingDone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.Unclear && w.asked <= 1 && len(w.touched) == 0
}

// note remembers an entity that was dealt with, and says so from time to time.
func (w *Work) note(ctx context.Context, stream string) error {
	w.mu.Lock()
	w.touched = append(w.touched, stream)
	var report []string
	if len(w.touched) >= progressEvery {
		report, w.touched = w.touched, nil
	}
	w.mu.Unlock()
	if report == nil {
		return nil
	}
	return w.host.progressed(ctx, stepProgressed{w.step, report})
}

// saysNo returns why the domain refuses what a step tried, if that is what its
// error means.
func saysNo(err error) (Reason, bool) {
	if rejected, ok := errors.AsType[Rejected](err); ok {
		reason := rejected.Reason()
		if !strings.Contains(reason.Text, rejected.Stream) { // of many, which one
			reason.Text = rejected.Stream + ": " + reason.Text
		}
		return reason, true
	}
	if reason, ok := errors.AsType[Reason](err); ok {
		return Reason{reason.Code, err.Error()}, true
	}
	if inv, ok := errors.AsType[Invalid](err); ok {
		return Reason{typeInvalid, inv.Error()}, true
	}
	for code, no := range map[string]error{codeNotFound: ErrNotFound, codeExists: ErrExists} {
		if errors.Is(err, no) {
			bare := strings.TrimPrefix(no.Error(), "deed: ")
			return Reason{code, strings.Replace(err.Error(), no.Error(), bare, 1)}, true
		}
	}
	return Reason{}, false
}
