package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
)

// A single server that has lost the last message of a stream says that the
// stream is empty. That is noticed when the stream is read, and by a check.
func TestCheck(t *testing.T) {
	c := startCluster(t, t.TempDir(), 1)
	s, ctx := c.open(t, "bits"), bounded(t)
	for i := range uint64(700) {
		stream, n := "a/1", i
		if i >= 4 {
			stream, n = "b/1", i-4
		}
		e := store.Event{ID: idOf(0, i), Type: "x", Data: fmt.Appendf(nil, "event number %d of %s", n+1, stream)}
		if _, err := s.Append(ctx, store.Write{Stream: stream, Expect: store.Exactly(n), Events: []store.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		if err := s.Write(ctx, store.Change{Coll: "v", Key: fmt.Sprint(i), Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write(ctx, store.Change{Coll: "v", Key: "3", Rev: 1}); err != nil {
		t.Fatal(err)
	}
	check := func() jetstream.Report {
		r, err := s.Check(ctx, func(uint64, uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := check(); r.Events != 700 || r.Streams != 2 || r.Docs != 9 || r.Head != 700 || len(r.Problems) > 0 {
		t.Errorf("before: %+v", r)
	}
	c.StopNode(0)
	flip(t, c.Folder(0), "event number 4 of a/1")
	c.StartNode(t, 0)
	// The server says now that there is nothing of the stream.
	if recs, err := gather(s.Read(ctx, "a/1", store.Range{})); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("reading the stream: %d events, %v", len(recs), err)
	}
	if out, err := s.Append(ctx, store.Write{Stream: "a/1", Expect: store.Exactly(4), Events: []store.Event{{ID: idOf(1, 0), Type: "x"}}}); err == nil {
		t.Errorf("an append behind what is missing: %v", out)
	}
	if r := check(); r.Events != 699 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "position 4 is missing") {
		t.Errorf("after: %+v", r)
	}
}
