package deed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A shared is a store that other processes may have open.
type shared struct{ *mem.Store }

func (shared) Shared() bool { return true }

// A diary notes what a process does outside.
type diary struct {
	mu  sync.Mutex
	did []string
}

func (d *diary) note(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.did = append(d.did, what)
	return nil
}

// read is what was noted, in the order of the alphabet.
func (d *diary) read() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(d.did)), ", ")
}

// parts are those of a program that does something when a coin is paid, and in
// a step.
func (d *diary) parts() []deed.Part {
	return []deed.Part{
		vaults,
		deed.Projection[count]{Name: "payments", On: []deed.Handler[count]{deed.On(func(c *count, _ paid) { c.N++ })}},
		deed.EventHandler{Name: "mails", On: []deed.Reaction{deed.Handle(func(context.Context, *deed.Tx, paid) error { return d.note("mail") })}},
		deed.Process[jar]{Name: "interest", On: []deed.ProcessReaction[jar]{
			deed.Start(func(*jar, paid) []deed.Action { d.note("interest"); return nil }),
		}},
		deed.Stepwise[move]{Name: "transfer.make", Steps: []deed.Step[move]{{
			Name: "call", Do: func(_ context.Context, w *deed.Work, _ move) error { return d.note("call " + w.Command) },
		}}},
	}
}

// visit runs the program as a process until f returns, and returns what it did
// outside.
func visit(t *testing.T, s store.Store, guest bool, f func(ctx context.Context, rt *deed.Runtime)) string {
	t.Helper()
	d := &diary{}
	rt, err := deed.New(s, deed.Config{Guest: guest, Domains: []deed.Domain{{Name: "d", Parts: d.parts()}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	f(ctx, rt)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return d.read()
}

// A guest does what is waited for: it moves the projection of a view, and
// handles a command if nobody else can have the store open. Event handlers, and
// commands that nobody waits for, it leaves to the program that serves.
func TestGuest(t *testing.T) {
	for _, c := range []struct {
		name          string
		store         store.Store
		state         deed.CommandState // of a command that the guest has waited for
		guest, server string            // what they do
	}{
		{"alone", mem.New(), deed.CommandCompleted, "call waited", "call left, interest, mail"},
		{"shared", shared{mem.New()}, deed.CommandReceived, "", "call left, call waited, interest, mail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				did := visit(t, c.store, true, func(ctx context.Context, rt *deed.Runtime) {
					paid, err := vaults.Execute(ctx, rt, "v", drop{1})
					if err != nil {
						t.Fatal(err)
					}
					for _, id := range []string{"waited", "left"} {
						if _, err := rt.Dispatch(deed.With(ctx, deed.Call{ID: id}), "transfer", "", "make", nil); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Hour)
					if at, err := rt.ViewPosition("payments"); at != "" || err != nil {
						t.Errorf("nobody waits for the view, which has read up to %q, %v", at, err)
					}
					if err := rt.WaitForView(ctx, "payments", store.Cursor(paid.Position)); err != nil {
						t.Error(err)
					}
					for _, f := range rt.Followers().List() {
						if f.Kind != "projection" && f.State != "elsewhere" {
							t.Errorf("%s is %s", f.Name, f.State)
						}
					}
					waiting, done := context.WithTimeout(ctx, time.Minute)
					defer done()
					if s, _ := rt.Commands().Wait(waiting, "waited"); s.State != c.state {
						t.Errorf("a command that is waited for is %s, want %s", s.State, c.state)
					}
				})
				if did != c.guest {
					t.Errorf("the guest did %q, want %q", did, c.guest)
				}
				did = visit(t, c.store, false, func(ctx context.Context, rt *deed.Runtime) {
					for _, id := range []string{"waited", "left"} {
						if s, err := rt.Commands().Wait(ctx, id); err != nil || s.State != deed.CommandCompleted {
							t.Errorf("%s: %s, %v", id, s.State, err)
						}
					}
					time.Sleep(time.Minute)
				})
				if did != c.server {
					t.Errorf("the server did %q, want %q", did, c.server)
				}
			})
		})
	}
}

// A command that a guest is at when it leaves goes on where a program serves,
// and has used up no attempt.
func TestGuestLeavesInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, open := mem.New(), make(chan struct{})
		def := deed.Stepwise[move]{Name: "long.walk", Steps: []deed.Step[move]{{
			Name: "walk", Timeout: time.Hour,
			Do: func(ctx context.Context, _ *deed.Work, _ move) error {
				select {
				case <-open:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		}}}
		domain := deed.Domain{Name: "d", Parts: []deed.Part{vaults, def}}
		rt, err := deed.New(s, deed.Config{Guest: true, Domains: []deed.Domain{domain}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- rt.Run(ctx) }()
		if _, err := def.Submit(deed.With(ctx, deed.Call{ID: "k"}), rt, "l", move{}); err != nil {
			t.Fatal(err)
		}
		waiting, done := context.WithTimeout(ctx, time.Minute)
		defer done()
		if st, err := rt.Commands().Wait(waiting, "k"); err == nil || st.State != deed.CommandRunning {
			t.Errorf("%s, %v", st.State, err)
		}
		leave()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(open)
		served, stop := runOn(t, s, domain)
		defer stop()
		st, err := served.Commands().Wait(t.Context(), "k")
		if got := fmt.Sprint(st.State, " ", st.Steps, err); err != nil || st.State != deed.CommandCompleted || st.Steps[0].Attempts != 1 {
			t.Error(got)
		}
	})
}
