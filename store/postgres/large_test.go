package postgres_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/postgres"
)

// Large events and documents are read bit by bit: what is read once passes the
// network once.
func TestLargeIsReadOnce(t *testing.T) {
	const n, size = 16, 2 << 20
	s, p := disturbed(t, server.Schema(), postgres.Options{})
	data := append(append([]byte(`"`), bytes.Repeat([]byte("x"), size-2)...), '"')
	for i := range n {
		e := event("")
		e.Data = data
		must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.Exactly(uint64(i)), e)))
		if err := s.Write(t.Context(), store.Change{Coll: "c", Key: fmt.Sprintf("%02d", i), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.EnsureIndexes(t.Context(), "c", []string{"f"}); err != nil {
		t.Fatal(err)
	}
	count := func(got int, err error) error {
		if err == nil && got != n {
			err = fmt.Errorf("%d of them", got)
		}
		return err
	}
	for name, read := range map[string]func() error{
		"read": func() error { r, err := collect(s.Read(t.Context(), "a/1", store.Range{})); return count(len(r), err) },
		"backward": func() error {
			r, err := collect(s.Read(t.Context(), "a/1", store.Range{Backward: true}))
			return count(len(r), err)
		},
		"log": func() error {
			r, err := collect(s.ReadAll(t.Context(), store.Start, store.Filter{}))
			return count(len(r), err)
		},
		"list": func() error { d, err := collect(s.List(t.Context(), "c", "", "")); return count(len(d), err) },
		"find": func() error {
			d, err := collect(s.Find(t.Context(), "c", store.Query{Sort: "f"}))
			return count(len(d), err)
		},
	} {
		p.arm(-1, -1)
		err := read()
		_, down, _ := p.arm(-1, -1)
		if err != nil || down > n*size*5/4 {
			t.Errorf("%s: %d MB for %d MB (%v)", name, down>>20, n*size>>20, err)
		}
	}
}

// Large events and documents arrive over a slow line too: the server has
// patience with a transaction that carries much.
func TestLargeOverASlowLine(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	data := append(append([]byte(`"`), bytes.Repeat([]byte("x"), size-2)...), '"')
	s, p := disturbed(t, server.Schema(), postgres.Options{})
	must[[]store.Written](t)(s.Append(t.Context(), write("a/1", store.None, event(`{}`))))
	p.setPace(size / 3) // a second more than it has with one that carries little
	e := event("")
	e.Data = data
	if _, err := s.Append(t.Context(), write("a/1", store.Exactly(1), e)); err != nil {
		t.Errorf("an event: %v", err)
	}
	if err := s.Write(t.Context(), store.Change{Coll: "c", Key: "k", Data: data}); err != nil {
		t.Errorf("a document: %v", err)
	}
	p.setPace(0)
}
