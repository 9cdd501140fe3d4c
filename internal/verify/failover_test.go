package verify

import (
	"context"
	"iter"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A forgetful store loses the end of its log when its leader changes.
type forgetful struct {
	store.Docs
	log atomic.Pointer[mem.Store]
}

func newForgetful() *forgetful {
	f := &forgetful{Docs: mem.New()}
	f.log.Store(mem.New())
	return f
}

func (f *forgetful) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	return f.log.Load().Append(ctx, writes...)
}

func (f *forgetful) Read(ctx context.Context, stream string, r store.Range) iter.Seq2[store.Record, error] {
	return f.log.Load().Read(ctx, stream, r)
}

func (f *forgetful) ReadAll(ctx context.Context, after store.Cursor, filter store.Filter) iter.Seq2[store.Record, error] {
	return f.log.Load().ReadAll(ctx, after, filter)
}

func (f *forgetful) Head(ctx context.Context) (store.Cursor, error) { return f.log.Load().Head(ctx) }

// forget makes a new leader of what the old one has, but for the last records.
func (f *forgetful) forget(ctx context.Context, last int) error {
	next := mem.New()
	var recs []store.Record
	for r, err := range f.ReadAll(ctx, store.Start, store.Filter{}) {
		if err != nil {
			return err
		}
		recs = append(recs, r)
	}
	if err := store.Import(ctx, next, recs[:len(recs)-last]); err != nil {
		return err
	}
	f.log.Store(next)
	return nil
}

func (f *forgetful) Close() error                                    { return nil }
func (f *forgetful) Fresh(context.Context) (Installation, error)     { return f, nil }
func (f *forgetful) Open(context.Context, *Net) (store.Store, error) { return f, nil }
func (f *forgetful) Shared() bool                                    { return false }
func (f *forgetful) Drop(context.Context) error                      { return nil }

// The check fails if a leader forgets what was acknowledged, and says that it
// does not apply where it can show nothing.
func TestFailoverIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		disturb Disturbance
		failed  int
		says    string
	}{
		"sound": {func(context.Context, Installation, int) (func(context.Context) error, error) { return nil, nil }, 0, ""},
		"forgets": {func(ctx context.Context, in Installation, _ int) (func(context.Context) error, error) {
			return nil, in.(*forgetful).forget(ctx, 3)
		}, 1, "append "},
		"alone": {func(context.Context, Installation, int) (func(context.Context) error, error) {
			return nil, DoesNotApply("nobody takes over")
		}, 0, ""},
	} {
		r, err := Run(t.Context(), name, newForgetful(), Options{Only: regexp.MustCompile("^failover"), Extra: []Check{Failover("failover/test", "a test", 2, c.disturb)}})
		if err != nil || r.Failed != c.failed || len(r.Results) != 1 || !strings.Contains(r.Results[0].Error, c.says) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if notHere := name == "alone"; (r.NotHere == 1) != notHere || (r.Passed == 1) != (name == "sound") {
			t.Errorf("%s: %+v", name, r)
		}
		t.Logf("%s: %+v", name, r.Results)
	}
}
