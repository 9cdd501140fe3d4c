// Package storetest is the contract of [store.Store] in executable form. A
// backend's test is one line:
//
//	func TestContract(t *testing.T) { storetest.Run(t, open) }
//
// Every clause has a name and says what breaks above the store when it does
// not hold. For each there is a store, broken on purpose, that proves that
// the clause can fail.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
)

// A Clause is one promise of the contract.
type Clause struct {
	Name string
	Why  string // what breaks in the runtime when the promise does
	// Check returns what a fresh, empty store does wrong. It may leave
	// anything behind, and may close the store.
	Check func(ctx context.Context, s store.Store) error
}

// Clauses returns the whole contract.
func Clauses() []Clause {
	var all []Clause
	for _, part := range [][]Clause{appendClauses, repeatClauses, readClauses, logClauses, docClauses, findClauses, searchClauses, bothClauses, tableClauses, farClauses, importClauses, compactClauses, lifeClauses} {
		all = append(all, part...)
	}
	return all
}

// timeout is how long a clause may take, on a slow machine.
const timeout = time.Minute

// Run checks every clause, each on a store of its own.
func Run(t *testing.T, open func(*testing.T) store.Store) {
	for _, c := range Clauses() {
		t.Run(c.Name, func(t *testing.T) {
			s := open(t)
			defer s.Close() // again, if the clause has closed it
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if err := c.Check(ctx, s); err != nil {
				t.Errorf("%v\nwhy it matters: %s", err, c.Why)
			}
		})
	}
}

// A DurableClause is a promise about what is there after a restart.
type DurableClause struct {
	Name string
	Why  string
	// Check returns what is wrong. It opens the same, at first empty, store
	// twice, one after the other.
	Check func(ctx context.Context, open func() (store.Store, error)) error
}

// DurableClauses returns the promises that need a restart.
func DurableClauses() []DurableClause {
	out := make([]DurableClause, len(durableClauses))
	for i, c := range durableClauses {
		out[i] = DurableClause{c.name, c.why, c.check}
	}
	return out
}

func (c durable) check(ctx context.Context, open func() (store.Store, error)) error {
	for _, part := range []func(context.Context, store.Store) error{c.before, c.after} {
		s, err := open()
		if err != nil {
			return err
		}
		err = part(ctx, s)
		if e := s.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RunDurable checks what must be so after a store was closed and opened
// again. Open opens the store that is kept in a folder.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	for _, c := range DurableClauses() {
		t.Run("durable/"+c.Name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if err := c.Check(ctx, func() (store.Store, error) { return open(t, dir), nil }); err != nil {
				t.Errorf("%v\nwhy it matters: %s", err, c.Why)
			}
		})
	}
}
