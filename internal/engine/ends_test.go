package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
	apart "github.com/deed-dev/deed/store/split"
)

type tallying struct{ n *int }

func (tallying) Keys(r store.Record) []string     { return []string{r.Stream} }
func (tallying) Flush(context.Context, *Tx) error { return nil }
func (tallying) Reset()                           {}
func (c tallying) Handle(_ context.Context, tx *Tx, r store.Record) error {
	*c.n++
	return tx.Put("v", r.Stream, []byte("{}"))
}

// A log that ends before what a follower has read has lost events. The
// follower says so: to wait until it is as long again would be to pass over
// what is recorded meanwhile.
func TestLogThatIsShorterIsSeen(t *testing.T) {
	docs, handled := mem.New(), 0
	f := Follower{Name: "f", Pure: true, New: func(uint64) Handler { return tallying{&handled} }}
	runOn := func(events int) *Engine {
		log := mem.New()
		for i := range events {
			w := store.Write{Stream: "a/1", Expect: store.Any, Events: []store.Event{{ID: store.ID{byte(i + 1)}, Type: "x", Data: []byte("{}")}}}
			if _, err := log.Append(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		e, err := New(Config{Store: apart.New(log, docs), Followers: []Follower{f}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		t.Cleanup(func() { stop(); <-ended })
		return e
	}
	if err := runOn(5).WaitFor(t.Context(), "f", store.Position{Seq: 5}); err != nil {
		t.Fatal(err)
	}
	e := runOn(4)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s := e.Status()[0]; strings.Contains(s.LastError, "has lost events") {
			t.Log(s.LastError)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody notices: %+v", e.Status()[0])
		}
	}
}
