package deed_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store/mem"
)

// What a handler does outside has the same key at each attempt, after a restart
// too, and another one for each handler, reaction and event. To wait is no
// attempt, for a day.
func TestKeysAndWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mem.New()
		var mu sync.Mutex
		keys := map[string]int{}
		ready := false
		react := func(reaction string) deed.Reaction {
			return deed.Handle(func(ctx context.Context, tx *deed.Tx, _ deed.Recorded[Lit]) error {
				mu.Lock()
				defer mu.Unlock()
				if _, version, err := lamps().Load(ctx, tx, "l"); ctx.Err() != nil {
					return err // the program ends
				} else if err != nil || version != 1 {
					t.Errorf("%d, %v", version, err)
				}
				if keys[reaction+" "+tx.Key()]++; !ready {
					return deed.NotYet(errors.New("the view lags"), 10*time.Minute)
				}
				return nil
			})
		}
		tell := func(name string, on ...deed.Reaction) deed.EventHandler {
			return deed.EventHandler{Name: name, On: on, Retry: deed.Retry{Attempts: 2}}
		}
		d := deed.Domain{Name: "d", Parts: []deed.Part{lamps(), tell("mails", react("a"), react("b")), tell("letters", react("c"))}}
		begin := func() (rt *deed.Runtime, end func()) {
			rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{d}, Poll: time.Minute, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() { rt.Run(ctx) })
			return rt, func() { cancel(); all.Wait() }
		}
		letter := func(rt *deed.Runtime) deed.DeadLetter {
			letters, _, err := rt.Followers().DeadLetters(t.Context(), "mails", "", 10)
			if err != nil || len(letters) != 1 {
				t.Fatalf("%+v, %v", letters, err)
			}
			return letters[0]
		}
		rt, end := begin()
		if _, err := lamps().Execute(t.Context(), rt, "l", Light{Colour: "red"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if l := letter(rt); l.State != "retrying" || l.Attempts != 0 || l.Reason != "the view lags" {
			t.Errorf("%+v", l)
		}
		end()
		rt, end = begin()
		defer end()
		time.Sleep(22 * time.Hour)
		l := letter(rt)
		if l.State != "dead" || l.Attempts != 2 {
			t.Errorf("after a day: %+v", l)
		}
		mu.Lock()
		ready = true
		mu.Unlock()
		if n, err := rt.Followers().Redrive(t.Context(), l.ID); n != 1 || err != nil {
			t.Errorf("%d redriven, %v", n, err)
		}
		tries := map[string]int{}
		seen := map[string]bool{}
		for key, n := range keys {
			reaction, key, _ := strings.Cut(key, " ")
			tries[reaction] += n
			seen[key] = true
		}
		if len(keys) != 3 || len(seen) != 3 || tries["a"] < 100 || tries["b"] != 1 || tries["c"] < 100 {
			t.Errorf("%v", keys)
		}
	})
}
