package jetstream

import (
	"context"
	"errors"
	"fmt"

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
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("jetstream: deleting %s: %w", name, err)
		}
	}
	return nil
}
