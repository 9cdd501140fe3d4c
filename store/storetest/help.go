package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/deed-dev/deed/store"
)

func newID() (id store.ID) {
	rand.Read(id[:]) // never fails
	return id
}

// ev is an event of a type whose data tell it from others.
func ev(typ string, data ...string) store.Event {
	e := store.Event{ID: newID(), Type: typ, Data: []byte(`{}`), Meta: []byte(`{"actor":"a"}`)}
	if len(data) > 0 {
		e.Data = []byte(data[0])
	}
	return e
}

func evs(n int) []store.Event {
	out := make([]store.Event, n)
	for i := range out {
		out[i] = ev("x", fmt.Sprintf(`{"n":%d}`, i))
	}
	return out
}

func write(stream string, expect store.Expect, events ...store.Event) store.Write {
	return store.Write{Stream: stream, Expect: expect, Events: events}
}

// must appends, or panics with a failure that run turns into an error.
func must(ctx context.Context, s store.Store, writes ...store.Write) []store.Written {
	w, err := s.Append(ctx, writes...)
	check(err, "append to %s", writes[0].Stream)
	return w
}

// failure is what helpers panic with, so that clauses read straight down.
type failure struct{ error }

func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func check(err error, format string, args ...any) {
	if err != nil {
		fail("%s: %w", fmt.Sprintf(format, args...), err)
	}
}

func equal[T comparable](got, want T, format string, args ...any) {
	if got != want {
		fail("%s: got %v, want %v", fmt.Sprintf(format, args...), got, want)
	}
}

func equalSlices[T comparable](got, want []T, format string, args ...any) {
	if !slices.Equal(got, want) {
		fail("%s: got %v, want %v", fmt.Sprintf(format, args...), got, want)
	}
}

// clause makes a Clause of a function that fails by panicking.
func clause(name, why string, f func(ctx context.Context, s store.Store)) Clause {
	return Clause{name, why, func(ctx context.Context, s store.Store) (err error) {
		defer func() {
			switch v := recover().(type) {
			case nil:
			case failure:
				err = v.error
			default:
				panic(v)
			}
		}()
		f(ctx, s)
		return nil
	}}
}

func collect[T any](seq iter.Seq2[T, error], what string) []T {
	var out []T
	for v, err := range seq {
		check(err, "%s", what)
		out = append(out, v)
	}
	return out
}

func stream(ctx context.Context, s store.Store, name string) []store.Record {
	return collect(s.Read(ctx, name, store.Range{}), "read "+name)
}

func all(ctx context.Context, s store.Store, after store.Cursor, f store.Filter) []store.Record {
	return collect(s.ReadAll(ctx, after, f), "read all")
}

func versions(recs []store.Record) []uint64 {
	out := []uint64{}
	for _, r := range recs {
		out = append(out, r.Version)
	}
	return out
}

func places(recs []store.Record) []string {
	out := []string{}
	for _, r := range recs {
		out = append(out, fmt.Sprintf("%s@%d", r.Stream, r.Version))
	}
	return out
}

// wantConflict demands a conflict that names a stream and its version.
func wantConflict(err error, stream string, version uint64) {
	c, ok := errors.AsType[*store.ConflictError](err)
	if !ok {
		fail("got %v, want a conflict", err)
	}
	if c.Stream != stream || c.Version != version {
		fail("the conflict names %s@%d, want %s@%d", c.Stream, c.Version, stream, version)
	}
}

func wantIs(err, want error, format string, args ...any) {
	if !errors.Is(err, want) {
		fail("%s: got %v, want %v", fmt.Sprintf(format, args...), err, want)
	}
}

func head(ctx context.Context, s store.Store) store.Cursor {
	h, err := s.Head(ctx)
	check(err, "head")
	return h
}

func put(ctx context.Context, s store.Store, coll, key, data string) {
	check(s.Write(ctx, store.Change{Coll: coll, Key: key, Rev: store.AnyRev, Data: []byte(data)}), "write %s/%s", coll, key)
}

// putMany writes n new documents at once, and returns their keys in order.
func putMany(ctx context.Context, s store.Store, coll string, n int, data string) (keys []string) {
	var changes []store.Change
	for i := range n {
		keys = append(keys, fmt.Sprintf("k%05d", i))
		changes = append(changes, store.Change{Coll: coll, Key: keys[i], Data: []byte(data)})
	}
	check(s.Write(ctx, changes...), "write %d documents", n)
	return keys
}

func keys(docs []store.Doc) []string {
	out := []string{}
	for _, d := range docs {
		out = append(out, d.Key)
	}
	return out
}
