package broker

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
)

// A Message is one that a broker has given out. It is given out again, unless it
// is acknowledged.
type Message struct {
	// Header is what the message has beside its body. Attributes of CloudEvents are
	// those that HTTP has; Message-Id is its id, or where it is, if that tells it
	// from every other one.
	Header http.Header
	Body   []byte
	Place  string // where the broker has it, or what is the same whenever it is given out
}

// A Take takes messages in, and returns what came of each: nil if it is stored,
// [ErrRefused], or why it has to be given out again.
type Take func(ctx context.Context, messages []Message) []error

// ErrRefused reports that a message is never going to be taken: the broker is told
// to give it up.
var ErrRefused = errors.New("broker: it is never going to be taken")

// A Source is a place at a broker that messages come from.
type Source interface {
	// Run gives messages to take until ctx ends or the connection does. It
	// acknowledges them when they are taken: not before.
	Run(ctx context.Context, take Take) error
}

// Bounds of how many messages are taken at once.
const (
	usualAtOnce = 100
	maxAtOnce   = 1000
)

// AtOnce is how many messages are given out before the first of them is
// acknowledged.
type AtOnce int

// Check reports what is wrong with it.
func (n AtOnce) Check() error {
	if n < 0 || n > maxAtOnce {
		return errors.New("at_once is from 1 to 1000")
	}
	return nil
}

// N is the number.
func (n AtOnce) N() int {
	if n == 0 {
		return usualAtOnce
	}
	return int(n)
}

// pauses is how long to wait before messages are tried again that could not be
// stored: longer each time.
var pauses = engine.Retry{First: 100 * time.Millisecond, Max: 10 * time.Second}

// Pause waits after so many failures in a row, and returns for how long it meant to.
func Pause(ctx context.Context, failures int) time.Duration {
	d := pauses.Wait(failures)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return d
}

// TakeAll takes messages in, and tries again those that cannot be stored now: so
// the broker gives out no more meanwhile. It returns which were refused, or an
// error if ctx has ended.
func TakeAll(ctx context.Context, take Take, messages []Message) (refused []bool, err error) {
	refused = make([]bool, len(messages))
	left := make([]int, len(messages))
	for i := range left {
		left[i] = i
	}
	for failures := 1; ; failures++ {
		batch := make([]Message, len(left))
		for i, at := range left {
			batch[i] = messages[at]
		}
		var again []int
		for i, err := range take(ctx, batch) {
			if refused[left[i]] = errors.Is(err, ErrRefused); err != nil && !refused[left[i]] {
				again = append(again, left[i])
			}
		}
		if left = again; len(left) == 0 {
			return refused, nil
		}
		if Pause(ctx, failures); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// Gather returns what a channel gives: the first when there is one, and those that
// are there with it, up to n. ok is false if the channel is closed, or ctx has ended.
func Gather[T any](ctx context.Context, from <-chan T, n int) (all []T, ok bool) {
	select {
	case one, open := <-from:
		if !open {
			return nil, false
		}
		all = append(all, one)
	case <-ctx.Done():
		return nil, false
	}
	for len(all) < n {
		select {
		case one, open := <-from:
			if !open {
				return all, true
			}
			all = append(all, one)
		default:
			return all, true
		}
	}
	return all, true
}

// SetAttribute sets an attribute of a CloudEvent that stands in a header of a
// protocol, as plain text. That of its data's type is the content type.
func SetAttribute(h http.Header, name, value string) {
	if name = strings.ToLower(name); name == "datacontenttype" {
		h.Set("Content-Type", value)
		return
	}
	h.Set("Ce-"+name, delivery.Escaped(value))
}

// Presume completes headers: a message that says nothing about itself is a
// CloudEvent as JSON, and one without an id has that of its place, if it tells it
// from every other one.
func Presume(h http.Header, place string) {
	if h.Get("Content-Type") == "" && h.Get("Ce-Specversion") == "" {
		h.Set("Content-Type", ContentType)
	}
	if h.Get("Message-Id") == "" && place != "" {
		h.Set("Message-Id", place)
	}
}
