package deed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/sqlite"
)

// A gallows is a file whose process is killed at a place on the way of messages, the
// third time it comes by: for example "before handle".
type gallows struct {
	*sqlite.Store
	place string
	times int
}

func (s *gallows) reach(place string) {
	if place != s.place {
		return
	}
	if s.times++; s.times == 3 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (s *gallows) Append(ctx context.Context, writes ...store.Write) ([]store.Written, error) {
	what := ""
	for _, w := range writes {
		if strings.HasPrefix(w.Stream, "$message/") {
			what = w.Events[0].Type
		}
	}
	s.reach("before " + what)
	out, err := s.Store.Append(ctx, writes...)
	s.reach("after " + what)
	return out, err
}

func (s *gallows) Write(ctx context.Context, changes ...store.Change) error {
	what := ""
	if slices.ContainsFunc(changes, func(c store.Change) bool { return strings.HasPrefix(c.Key, "payments") }) {
		what = "checkpoint"
	}
	s.reach("before " + what)
	err := s.Store.Write(ctx, changes...)
	s.reach("after " + what)
	return err
}

const crashMessages = 12

// messageProgram has messages accepted, all of them whenever it is started, and ends
// when all bills are paid.
func messageProgram(dir, place string) error {
	f, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		return err
	}
	defer f.Close()
	// One worker that takes one message at a time comes by each place often.
	one := payments(func(r *deed.Reception) { r.Ordered = true })
	rt, err := deed.New(&gallows{Store: f, place: place}, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{billing, one}}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- rt.Run(running) }()
	for i := range crashMessages {
		if _, err := rt.Accept(ctx, "payments", payment(fmt.Sprint("m-", i), 1, "a", "b")); err != nil {
			return err
		}
		for i >= crashMessages/2 && ctx.Err() == nil { // the first half come together, the others one by one
			b, _, err := billing.Load(ctx, rt, "b")
			if err != nil {
				return err
			}
			if b.Paid > i {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	return errors.Join(ctx.Err(), <-ended)
}

// A process is killed between any two steps on the way of messages, again and again:
// each message is stored once, and its commands are executed once.
func TestMessagesSurviveKills(t *testing.T) {
	for _, what := range []string{"received", "handled", "checkpoint"} {
		for _, when := range []string{"before", "after"} {
			place := when + " " + what
			t.Run(place, func(t *testing.T) {
				t.Parallel()
				for range *crashRounds {
					killMessages(t, place)
				}
			})
		}
	}
}

func killMessages(t *testing.T, place string) {
	dir := t.TempDir()
	s, err := sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := deed.New(s, deed.Config{Domains: []deed.Domain{{Name: "d", Parts: []deed.Part{billing}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := billing.Execute(t.Context(), rt, id, billOut{crashMessages}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kills := 0
	for run := 0; ; run++ {
		at := place
		if run == 2 {
			at = "never"
		}
		out, err := asProgram(t, "DEED_MESSAGES", dir, at)
		if err == nil {
			break
		}
		if !wasKilled(err) || at == "never" {
			t.Fatalf("%v\n%s", err, out)
		}
		kills++
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	s, err = sqlite.Open(filepath.Join(dir, "deed.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, id := range []string{"a", "b"} {
		if got := strings.Count(typesOf(t, s, "bill/"+id), "paid"); got != crashMessages {
			t.Errorf("bill %s is paid %d times", id, got)
		}
	}
	counts := map[string]int{}
	for rec, err := range s.ReadAll(t.Context(), store.Start, store.Filter{Categories: []string{"$message"}}) {
		if err != nil {
			t.Fatal(err)
		}
		counts[rec.Type]++
	}
	for d, err := range s.List(t.Context(), "$dead/payments", "", "") {
		t.Errorf("dead letter: %s, %v", d.Data, err)
	}
	if counts["received"] != crashMessages || counts["handled"] != crashMessages {
		t.Errorf("%v", counts)
	}
}
