// Package sinks tells the world outside what becomes of commands: it writes
// files of what went wrong, opens entries in a tracker, and calls back whoever
// asked for it. All of them are event handlers: they follow the log with a
// cursor of their own, so they miss nothing, hold up no command, and can be
// paused; what they cannot deliver becomes a dead letter.
package sinks

import (
	"time"

	"github.com/deed-dev/deed"
)

// wrong are the types of the events that end in an error record.
var wrong = []string{"rejected", "failed", "invalid"}

// right are the types of the events that may resolve one.
var right = []string{"completed", "corrected", "cancelled"}

// Start says where a sink begins when it is run for the first time.
type Start bool

// Where a sink may begin.
const (
	Beginning Start = false
	Now       Start = true
)

// patience is how a delivery that failed is tried again, for about an hour,
// before it becomes a dead letter.
var patience = deed.Retry{Attempts: 14, First: time.Second, Max: 10 * time.Minute}
