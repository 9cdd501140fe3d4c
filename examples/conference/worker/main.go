// Command worker is the other side of the conference: a process of its own that
// takes what happens to attendees from a queue. It keeps a list for the entrance,
// a file for each attendee, and mails whoever has to confirm an address. It may
// be away, or killed: what it has not completed is there when it comes back.
//
//	deed subscription put attendee-events worker --target '{"kind":"queue","ordered":true}' --start beginning
//	go run ./examples/conference/worker --dir ./entrance
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/notify"
)

func main() {
	server := flag.String("server", "http://localhost:8080", "where deed is served; DEED_KEY is the key to show")
	name := flag.String("queue", "attendee-events/worker", "topic and name of the subscription")
	lock := flag.Duration("lock", 30*time.Second, "for how long a message is locked")
	dir := flag.String("dir", "entrance", "folder for the list, and for mails that are not sent")
	smtp := flag.String("smtp", "", "mail server, as smtp://HOST:PORT or smtps://HOST:PORT (default: mails are files)")
	plain := flag.Bool("plain", false, "the mail server needs no encryption")
	from := flag.String("from", "Conference <desk@example.org>", "sender of mails")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := &worker{list: list(filepath.Join(*dir, "attendees"))}
	if err := os.MkdirAll(string(w.list), 0o755); err != nil {
		log.Fatal(err)
	}
	if *smtp != "" {
		mails := &notify.SMTP{Server: *smtp, From: *from, Plain: *plain, User: os.Getenv("SMTP_USER"), Password: os.Getenv("SMTP_PASSWORD"), Timeout: *lock / 2}
		if err := mails.Check(); err != nil {
			log.Fatal(err)
		}
		w.mails = mails
	} else {
		mails, err := notify.OpenFolder(filepath.Join(*dir, "mails"))
		if err != nil {
			log.Fatal(err)
		}
		w.mails = mails
	}
	fmt.Printf("working on %s of %s\n", *name, *server)
	w.run(ctx, newQueue(*server, *name, *lock))
}

// A worker works on messages, one after the other.
type worker struct {
	list  list
	mails notify.Sender
}

// pause is how long the worker waits if it cannot reach the queue.
const pause = 500 * time.Millisecond

// run works until ctx is done.
func (w *worker) run(ctx context.Context, q *queue) {
	for ctx.Err() == nil {
		messages, err := q.lock(ctx)
		for _, m := range messages {
			if err = w.work(ctx, q, m); err != nil {
				break // the lock may be lost: then somebody else has the rest, too
			}
		}
		if err != nil && ctx.Err() == nil {
			log.Print(err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// work handles a message, and says what became of it.
func (w *worker) work(ctx context.Context, q *queue, m message) error {
	err := w.handle(ctx, m.Event)
	switch {
	case err == nil:
		return q.settle(ctx, "complete", settling{Token: m.Token})
	case deed.IsPermanent(err):
		log.Printf("%s is given up: %v", m.Event.ID, err)
		return q.settle(ctx, "dead-letter", settling{Token: m.Token, Reason: err.Error()})
	}
	log.Printf("%s is tried again: %v", m.Event.ID, err)
	after := min(time.Second<<min(m.Deliveries-1, 9), 5*time.Minute)
	return q.settle(ctx, "abandon", settling{Token: m.Token, After: after.String(), Reason: err.Error()})
}

// handle does what an event asks for. It may be asked again: a list that knows
// the event stays as it is, and a mail has the key of the event.
func (w *worker) handle(ctx context.Context, e event) error {
	switch e.Type {
	case "attendee.registered.v1", "attendee.email-confirmed.v1":
		return w.list.change(e, func(a *attendee) { a.Email, a.Active = e.Data.Email, true })
	case "attendee.unregistered.v1":
		return w.list.change(e, func(a *attendee) { a.Active, a.Reason = false, e.Data.Reason })
	case "attendee.email-change-requested.v1":
		return w.mails.Send(ctx, notify.Mail{
			Key: e.ID, To: e.Data.Email, Subject: "Please confirm your address", At: e.Time,
			Text: fmt.Sprintf("Confirm with the id %s that this is your address.\n", e.Data.Confirmation),
		})
	}
	return nil // a type that is newer than this program
}
