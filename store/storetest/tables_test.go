package storetest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// tabled is a broken store with tables of numbers, and a few words of SQL.
type tabled struct {
	*broken
	how string // it is broken

	mu     sync.Mutex
	tables map[string][]int64
}

func withTables(how string) func() store.Store {
	return func() store.Store {
		return &tabled{broken: &broken{Store: mem.New()}, how: how, tables: map[string][]int64{}}
	}
}

func (s *tabled) Dialect() string { return "none" }

func (s *tabled) WriteTables(ctx context.Context, changes []store.Change, statements []store.Statement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := maps.Clone(s.tables)
	for _, x := range statements {
		if err := s.execute(x); err != nil {
			if s.how == "halves" {
				return err
			}
			if s.how != "neighbours" || len(changes) == 0 {
				s.tables = before
			}
			return err
		}
	}
	if err := s.Write(ctx, changes...); err != nil {
		s.tables = before
		return err
	}
	return nil
}

func (s *tabled) execute(x store.Statement) error {
	if err := store.CheckStatements(x); err != nil {
		return err
	}
	words := strings.Fields(x.SQL)
	_, there := s.tables[words[2]]
	switch {
	case strings.Contains(x.SQL, ";"), words[0] == "INSERT" && !there:
		if s.how == "neighbours" { // whatever comes next is refused, too
			s.tables = map[string][]int64{}
		}
		return &store.StatementError{SQL: x.SQL, Detail: "no such table"}
	case words[0] == "CREATE":
		s.tables[words[2]] = []int64{}
	default:
		n := int64(1)
		if len(x.Args) > 0 {
			fmt.Sscan(fmt.Sprint(x.Args[0]), &n)
		}
		s.tables[words[2]] = append(slices.Clone(s.tables[words[2]]), n)
	}
	return nil
}

func (s *tabled) ReadTables(_ context.Context, x store.Statement) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		s.mu.Lock()
		rows, there := s.tables["own_t"], strings.Contains(x.SQL, "own_t") && !strings.Contains(x.SQL, "DELETE")
		s.mu.Unlock()
		if !there {
			yield(nil, &store.StatementError{SQL: x.SQL, Detail: "no such table"})
			return
		}
		for _, n := range slices.Sorted(slices.Values(rows)) {
			if !yield([]any{n}, nil) {
				return
			}
		}
	}
}

func (s *tabled) DropTables(_ context.Context, prefix string) error {
	if !strings.HasPrefix(prefix, store.OwnPrefix) {
		return store.ErrInvalid
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.how == "drop" {
		prefix = strings.TrimSuffix(prefix, "_")
	}
	maps.DeleteFunc(s.tables, func(name string, _ []int64) bool { return strings.HasPrefix(name, prefix) })
	return nil
}
