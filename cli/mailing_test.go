package cli_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/deed-dev/deed"
)

// A parcel is written, and mailed by an event handler: not before the office is
// open, and not without an address.
type (
	parcel  struct{}
	written struct {
		To string `json:"to"`
	}
	opened struct{}
	write  struct {
		To string `json:"to"`
	}
	open struct{}
)

func (written) Apply(*parcel) {}
func (opened) Apply(*parcel)  {}
func (c write) Decide(parcel) ([]deed.Event[parcel], error) {
	return []deed.Event[parcel]{written(c)}, nil
}
func (open) Decide(parcel) ([]deed.Event[parcel], error) {
	return []deed.Event[parcel]{opened{}}, nil
}

func mailing() deed.Domain {
	var isOpen atomic.Bool
	return deed.Domain{Name: "mailing", Parts: []deed.Part{
		deed.Aggregate[parcel]{
			Name: "parcel", Events: map[string]deed.Event[parcel]{"written": written{}, "opened": opened{}}, Commands: map[string]deed.Command[parcel]{"write": write{}, "open": open{}},
		},
		deed.EventHandler{Name: "mailer", On: []deed.Reaction{
			deed.Handle(func(context.Context, *deed.Tx, opened) error { isOpen.Store(true); return nil }),
			deed.Handle(func(_ context.Context, _ *deed.Tx, e deed.Recorded[written]) error {
				switch {
				case e.Event.To == "":
					return deed.Permanent(fmt.Errorf("parcel %s has no address", e.ID))
				case !isOpen.Load():
					return deed.Permanent(fmt.Errorf("the office is closed, and %q waits", e.ID))
				}
				return nil
			}),
		}},
		deed.Publication{Topic: "mail", Events: []deed.Publishing{deed.Publish("parcel.written.v1", func(e written) written { return e })}},
	}}
}
