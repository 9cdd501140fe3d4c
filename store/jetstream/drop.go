package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/store"
)

// Drop deletes an installation: both of its streams and all that is in them.
func Drop(ctx context.Context, url string, opts *Options) error {
	o, err := opts.withDefaults()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url, o.Connect...)
	if err != nil {
		return fmt.Errorf("%w: jetstream: %s: %w", store.ErrUnavailable, url, err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	names := subjects{o.Name}
	for _, name := range []string{names.log(), names.docs()} {
		if err := deleteStream(ctx, js, name, o.Timeout); err != nil {
			return fmt.Errorf("jetstream: deleting %s: %w", name, err)
		}
	}
	return nil
}

// deleteStream asks again if nobody answers: while servers of a cluster agree on
// who leads them, what they are asked is lost.
func deleteStream(ctx context.Context, js jetstream.JetStream, name string, patience time.Duration) error {
	for end := time.Now().Add(patience); ; {
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := js.DeleteStream(asking, name)
		cancel()
		switch {
		case err == nil, errors.Is(err, jetstream.ErrStreamNotFound):
			return nil
		case !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || time.Now().After(end):
			return err
		}
	}
}
