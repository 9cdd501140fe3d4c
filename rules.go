package deed

import (
	"reflect"
	"time"
)

// Rules say who may ask a command, how often, and how it is handled. The zero
// Rules are those of a command without any.
type Rules struct {
	Async  bool          // it is stored first and handled in the background, unless the caller waits
	Roles  []string      // who may ask it, if access is checked; none = administrators
	Quota  Quota         // how often one actor may ask it
	Window time.Duration // how long an equal command of the same actor counts as a repetition; 0 = it never does
	Retry  Retry         // of handling it in the background, when something other than the domain fails
}

// A Quota is how many commands of a kind one actor may have accepted in a
// period. Periods begin at whole multiples of Per since 1970, UTC: with 24
// hours, at midnight.
type Quota struct {
	Limit uint64        // 0 = no limit
	Per   time.Duration // default: 24 hours
}

// Ruled returns a command's prototype together with its rules, as an entry of
// Aggregate.Commands.
func Ruled[S any](cmd Command[S], rules Rules) Command[S] { return ruled[S]{cmd, rules} }

type ruled[S any] struct {
	Command[S]
	rules Rules
}

// plainly returns the command itself and the rules it came with.
func plainly[S any](cmd Command[S]) (Command[S], Rules) {
	if r, ok := cmd.(ruled[S]); ok {
		return r.Command, r.rules
	}
	return cmd, Rules{}
}

// A commandType is a command of an aggregate as it is declared.
type commandType struct {
	name  string // for example "submit"
	typ   reflect.Type
	rules Rules
}
