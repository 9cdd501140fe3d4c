package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
)

// A declared subscription is one of a file.
type declared struct {
	Topic string `json:"topic"`
	Name  string `json:"name"`
	httpapi.NewSubscription
}

// subscribe makes or changes the subscriptions that a file declares. Those that
// it does not name stay as they are.
func (a *app) subscribe(ctx context.Context, rt *deed.Runtime, path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return usageError{fmt.Errorf("--subscriptions: %w", err)}
	}
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	var list []declared
	if err := dec.Decode(&list); err != nil {
		return usageError{fmt.Errorf("--subscriptions: %s is no list of subscriptions: %w", path, err)}
	}
	ctx = deed.With(ctx, deed.Call{Source: "file"})
	for _, d := range list {
		start := d.Start
		if _, err := rt.Subscriptions().Get(ctx, d.Topic, d.Name); err == nil {
			start = "" // it goes on where it was
		} else if !errors.Is(err, deed.ErrNoSubscription) {
			return err
		}
		_, once, err := rt.Subscriptions().Put(ctx, d.Of(d.Topic, d.Name), start)
		if err != nil {
			return usageError{fmt.Errorf("--subscriptions: %s/%s: %w", d.Topic, d.Name, err)}
		}
		for name, secret := range once {
			a.say("%s of the subscription %s/%s, which is never shown again: %s\n", name, d.Topic, d.Name, secret)
		}
	}
	return nil
}
