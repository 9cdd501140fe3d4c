package deed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
)

// A Part is an [Aggregate], [Projection], [View], [EventHandler], [Publication] ...
type Part interface {
	order() int // what others refer to comes first
	register(*Runtime) error
}

// A Domain is a program: the parts that belong together, in any order.
type Domain struct {
	Name      string
	Doc       string // one sentence for people
	Parts     []Part
	Scenarios []Scenario // what a visitor might do, for demonstrations and load
}

// A Scenario is what a visitor to a domain might do, from beginning to end.
// It is played over the public API, by many visitors at once.
type Scenario struct {
	Name string
	Play func(ctx context.Context, v Visitor) error
}

// A Visitor plays a [Scenario]: it is the scenario's hands and eyes.
type Visitor interface {
	// Ask asks a command; body is made into JSON. The domain saying no is
	// part of life and no error; anything else that goes wrong is.
	Ask(ctx context.Context, aggregate, id, command string, body any) error
	// Begin begins a saga with that state, and waits until it is over. That it
	// was undone is no error; that it is stuck is.
	Begin(ctx context.Context, saga, id string, state any) error
	// Decide decides one of the open tasks with that name. It returns ErrNotFound
	// if there is none.
	Decide(ctx context.Context, question, choice string) error
	// Look reads a document of a view as soon as it shows what was asked
	// before. It returns ErrNotFound if there is none.
	Look(ctx context.Context, view, key string, into any) error
	// Rand is the visitor's own source of chance.
	Rand() *rand.Rand
}

// reserved are the first segments of the HTTP API, which cannot be the names
// of aggregates.
var reserved = []string{
	"commands", "streams", "events", "views", "changes", "blame", "rebuilds", "groups", "queries", "query-runs", "processes", "sagas", "tasks",
	"topics", "subscriptions", "receptions", "senders", "dead-letters", "followers", "nodes", "keys", "map", "compaction", "admin",
}

func checkAggregateName(name string) error {
	if slices.Contains(reserved, name) {
		return fmt.Errorf("an aggregate cannot be named %q: the HTTP API uses that name", name)
	}
	return checkName("aggregate", name)
}

// checkName reports whether name is lower-case words joined by hyphens (or,
// for versions of events, dots): such names are safe in URLs, stream names
// and file names.
func checkName(what, name string) error {
	ok := name != "" && len(name) <= 64 && 'a' <= name[0] && name[0] <= 'z'
	for _, r := range name {
		ok = ok && ('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.')
	}
	if !ok {
		return fmt.Errorf("%s name %q: use lower-case letters, digits and hyphens, at most 64, a letter first", what, name)
	}
	return nil
}
