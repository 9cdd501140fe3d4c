package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/deed-dev/deed/internal/engine"
)

// Bounds of how a place is treated that fails.
const (
	// inARow is how many deliveries in a row fail before there is a pause.
	inARow = 5
	// longestBusy is the longest pause that a place can ask for.
	longestBusy = time.Hour
	// askedPause is the pause for a place that is busy and does not say for how long.
	askedPause = 5 * time.Second
	// keptAttempts is how many of the latest attempts are kept.
	keptAttempts = 50
)

// pauses is how long a place is left alone when it fails: longer each time.
var pauses = engine.Retry{First: time.Second, Max: 5 * time.Minute}

// An Outlet is how a node delivers to one place: not while that is away. After
// a few failures in a row there is a pause, and then one delivery is tried: if
// that fails too, a longer pause.
type Outlet struct {
	target  Target
	gone    func(why string)
	breaker *gobreaker.TwoStepCircuitBreaker[any]

	mu       sync.Mutex
	until    time.Time // nothing is delivered before
	why      error     // what made it so
	pauses   int       // in a row
	attempts []Attempt // the latest
	noted    bool      // there are attempts that are not saved
}

// NewOutlet returns an outlet. It calls gone if the place wants nothing more.
func NewOutlet(t Target, gone func(why string)) *Outlet {
	o := &Outlet{target: t, gone: gone}
	o.breaker = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Timeout:       time.Nanosecond, // how long a pause is, is said below
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= inARow },
		OnStateChange: o.changed,
		IsExcluded:    func(err error) bool { return errors.Is(err, errCalledOff) },
	})
	return o
}

// errCalledOff says that nobody knows what would have come of a delivery.
var errCalledOff = errors.New("delivery: called off")

// changed sets the length of a pause that begins.
func (o *Outlet) changed(_ string, _, to gobreaker.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch to {
	case gobreaker.StateOpen:
		o.pauses++
		o.pause(pauses.Wait(o.pauses))
	case gobreaker.StateClosed:
		o.pauses = 0
	}
}

// pause has nothing delivered for some time; the caller holds mu.
func (o *Outlet) pause(d time.Duration) {
	if until := time.Now().Add(d); until.After(o.until) {
		o.until = until
	}
}

// away returns why nothing is delivered now, or nil.
func (o *Outlet) away() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if left := time.Until(o.until); left > 0 {
		return engine.Away(fmt.Errorf("nothing is delivered until %s: %w", o.until.UTC().Format(time.RFC3339), o.why), left)
	}
	return nil
}

// A permit allows one delivery, which must then be tried.
type permit func(err error)

// permit allows a delivery, unless the place is away.
func (o *Outlet) permit() (permit, error) {
	if err := o.away(); err != nil {
		return nil, err
	}
	done, err := o.breaker.Allow()
	if err != nil { // somebody else finds out whether it is back
		return nil, engine.Away(errors.New("one delivery is tried before others"), 50*time.Millisecond)
	}
	return done, nil
}

// Deliver brings events to the place, unless that is away.
func (o *Outlet) Deliver(ctx context.Context, events []Event) error {
	done, err := o.permit()
	if err != nil {
		return err
	}
	return o.permitted(ctx, done, events)
}

// permitted brings events to the place.
func (o *Outlet) permitted(ctx context.Context, done permit, events []Event) error {
	start := time.Now()
	err := o.deliver(ctx, events)
	if ctx.Err() != nil {
		done(errCalledOff)
		return ctx.Err()
	}
	o.note(start, events, err)
	var busy Busy
	switch {
	case isGone(err):
		done(nil)
		o.gone(err.Error())
		return engine.Away(err, time.Minute)
	case errors.As(err, &busy):
		after := min(busy.After, longestBusy)
		if after <= 0 {
			after = askedPause
		}
		o.mu.Lock()
		o.pause(after)
		o.mu.Unlock()
		done(err)
		return engine.AtLeast(err, after)
	case engine.IsPermanent(err): // it is there, and does not want this one
		done(nil)
	default:
		done(err)
	}
	return err
}

// deliver calls the target, of which a panic is a failure like any other.
func (o *Outlet) deliver(ctx context.Context, events []Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return o.target.Deliver(ctx, events)
}

func (o *Outlet) note(start time.Time, events []Event, err error) {
	a := Attempt{At: start.UTC().Truncate(time.Millisecond), Event: events[0].ID, Millis: time.Since(start).Milliseconds()}
	if len(events) > 1 {
		a.Events = len(events)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		a.Error = strings.ToValidUTF8(err.Error(), "?")
		if len(a.Error) > maxText {
			a.Error = strings.ToValidUTF8(a.Error[:maxText], "") + "..."
		}
		o.why = errors.New(a.Error)
	}
	if len(o.attempts) == keptAttempts {
		o.attempts = append(o.attempts[:0:0], o.attempts[1:]...)
	}
	o.attempts, o.noted = append(o.attempts, a), true
}

// unsaved returns the latest attempts as JSON, if any of them was not returned yet.
func (o *Outlet) unsaved() ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.noted {
		return nil, nil
	}
	o.noted = false
	return json.Marshal(o.attempts)
}

// unkept says that what unsaved returned has not been kept.
func (o *Outlet) unkept() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noted = len(o.attempts) > 0
}
