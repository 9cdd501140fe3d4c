package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) subscriptions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "subscription",
		Short: "Look after subscriptions: what is delivered where",
		Example: `  deed subscription list
  deed subscription put domain-events shop --webhook https://shop.example/hook --start beginning
  deed subscription put domain-events work --target '{"kind":"queue","lock":"30s"}'
  deed subscription reset domain-events shop --start time:2026-02-03T00:00:00Z --dry-run`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("subscription needs one of list, show, put, delete, pause, resume, redrive, reset, test, rotate, attempts")}
		},
	}
	cmd.AddCommand(a.listSubscriptions(), a.showSubscription(), a.putSubscription(), a.deleteSubscription(), a.resetSubscription(),
		a.testSubscription(), a.rotateSubscription(), a.listAttempts(), a.redriveSubscription())
	for verb, short := range map[string]string{
		"pause":  "Have nothing more delivered, over restarts too",
		"resume": "Let a subscription go on that is paused or disabled",
	} {
		cmd.AddCommand(a.ofSubscription(verb, short, func(ctx context.Context, c *client.Client, path string) error {
			var s deed.SubscriptionStatus
			if _, err := c.Do(ctx, http.MethodPost, path+"/"+verb, nil, nil, &s); err != nil {
				return err
			}
			return a.show(s, func() { a.printSubscriptions([]deed.SubscriptionStatus{s}) })
		}))
	}
	return cmd
}

// ofSubscription is a command about one subscription.
func (a *app) ofSubscription(verb, short string, do func(context.Context, *client.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " TOPIC NAME", Short: short, Args: args(cobra.ExactArgs(2)), Example: "  deed subscription " + verb + " domain-events shop",
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error { return do(cmd.Context(), c, subscriptionPath(given[0], given[1])) })
		},
	}
}

func subscriptionPath(topic, name string) string {
	return client.Path(nil, "v1", "topics", topic, "subscriptions", name)
}

func (a *app) printSubscriptions(list []deed.SubscriptionStatus) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tNAME\tKIND\tSTATE\tBEHIND\tLAG\tRATE\tRETRYING\tWAITING\tDEAD\tLAST ERROR")
	for _, s := range list {
		var target struct{ Kind string }
		json.Unmarshal(s.Target, &target) // a kind that cannot be read is shown as none
		why := s.LastError
		if s.Reason != "" {
			why = s.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.1fs\t%.0f/s\t%d\t%d\t%d\t%s\n", s.Topic, s.Name, target.Kind, s.State, s.Behind, s.LagSeconds, s.Rate, s.Retrying, s.Waiting, s.Dead, why)
	}
	w.Flush()
}

func (a *app) listSubscriptions() *cobra.Command {
	return &cobra.Command{
		Use: "list [TOPIC]", Short: "List subscriptions and how they are doing", Args: args(cobra.MaximumNArgs(1)), Example: "  deed subscription list domain-events",
		RunE: func(cmd *cobra.Command, given []string) error {
			path := "/v1/subscriptions"
			if len(given) == 1 {
				path = client.Path(nil, "v1", "topics", given[0], "subscriptions")
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.SubscriptionList
				if _, err := c.Do(cmd.Context(), http.MethodGet, path, nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printSubscriptions(list.Subscriptions) })
			})
		},
	}
}

func (a *app) showSubscription() *cobra.Command {
	return a.ofSubscription("show", "Print a subscription and how it is doing, as JSON", func(ctx context.Context, c *client.Client, path string) error {
		var s deed.SubscriptionStatus
		if _, err := c.Do(ctx, http.MethodGet, path, nil, nil, &s); err != nil {
			return err
		}
		return a.show(s, func() { a.printJSON(s) })
	})
}

// printJSON writes something for people that has no better form.
func (a *app) printJSON(v any) {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	enc.Encode(v) // the reader may be gone: then nobody minds
}

func (a *app) putSubscription() *cobra.Command {
	var n httpapi.NewSubscription
	var target, webhook, filters, from string
	cmd := &cobra.Command{
		Use: "put TOPIC NAME", Short: "Make a subscription, or change one", Args: args(cobra.ExactArgs(2)),
		Long: `Make a subscription, or change one, which then goes on where it was. Where it goes
is --webhook, or --target with the settings of any kind as JSON (or @FILE).
Secrets that are made for a webhook are printed once, and never shown again.
What show prints can be changed and given to --from: what is hidden in it stays.`,
		Example: `  deed subscription put domain-events shop --webhook https://shop.example/hook --type order.placed.v1
  deed subscription put domain-events work --target '{"kind":"queue","lock":"30s","ordered":true}' --start beginning
  deed subscription show domain-events shop > shop.json    # edit it
  deed subscription put domain-events shop --from shop.json`,
		RunE: func(cmd *cobra.Command, given []string) error {
			var err error
			if from != "" {
				err = readSubscription(from, &n)
			} else {
				n.Target, err = targetOf(target, webhook)
			}
			if err != nil {
				return err
			}
			if filters != "" {
				if err := json.Unmarshal([]byte(filters), &n.Filters); err != nil {
					return usageError{fmt.Errorf(`--filters is a list like [{"prefix":{"subject":"order/"}}]: %w`, err)}
				}
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var made httpapi.MadeSubscription
				if _, err := c.Do(cmd.Context(), http.MethodPut, subscriptionPath(given[0], given[1]), nil, n, &made); err != nil {
					return err
				}
				return a.show(made, func() {
					a.printSubscriptions([]deed.SubscriptionStatus{made.SubscriptionStatus})
					a.printSecrets(made.Once)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&target, "target", "", "where events go: settings as JSON, or @FILE")
	f.StringVar(&webhook, "webhook", "", "where events go: an address, with the usual settings")
	f.StringVar(&from, "from", "", "a file with what show has printed, instead of all other settings; the name may be another")
	f.StringVar(&n.Start, "start", "", "where a new one begins: now (default), beginning, cursor:... or time:...")
	f.StringSliceVar(&n.Types, "type", nil, "only events of this type; may be repeated")
	f.StringVar(&filters, "filters", "", "only events that match these filters, as JSON")
	f.IntVar(&n.Parallel, "parallel", 0, "so many deliveries at once, up to 64 (default 8)")
	f.IntVar(&n.Batch, "batch", 0, "so many events in one delivery, up to 1000 (default 1)")
	f.IntVar(&n.Partitions, "partitions", 0, "parts that nodes share, up to 16 (default 1)")
	f.BoolVar(&n.Unordered, "unordered", false, "keep no order")
	f.StringSliceVar(&n.Retry, "retry", nil, "how long to wait before each further attempt, for example 5s,5m,30m")
	f.StringSliceVar(&n.Roles, "role", nil, "who may take messages from a queue; may be repeated")
	for _, other := range []string{"target", "webhook", "type", "filters", "parallel", "batch", "partitions", "unordered", "retry", "role"} {
		cmd.MarkFlagsMutuallyExclusive("from", other)
	}
	return cmd
}

// readSubscription reads what show has printed. How the subscription is doing
// and where it began is no matter of who puts it.
func readSubscription(file string, n *httpapi.NewSubscription) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return usageError{fmt.Errorf("--from: %w", err)}
	}
	start := n.Start
	if err := json.Unmarshal(data, n); err != nil || n.Target == nil {
		return usageError{fmt.Errorf("--from: %s is not what deed subscription show prints", file)}
	}
	n.Start = start
	return nil
}

// targetOf is the target that flags describe.
func targetOf(target, webhook string) (json.RawMessage, error) {
	switch {
	case (target == "") == (webhook == ""):
		return nil, usageError{errors.New("give one of --webhook, --target and --from")}
	case webhook != "":
		return json.Marshal(map[string]string{"kind": "webhook", "url": webhook})
	case strings.HasPrefix(target, "@"):
		data, err := os.ReadFile(target[1:])
		if err != nil {
			return nil, usageError{fmt.Errorf("--target: %w", err)}
		}
		target = string(data)
	}
	if !json.Valid([]byte(target)) {
		return nil, usageError{fmt.Errorf("--target is not JSON: %s", target)}
	}
	return json.RawMessage(target), nil
}

// printSecrets shows secrets, once.
func (a *app) printSecrets(once map[string]string) {
	for name, secret := range once {
		a.print("%s: %s\n", name, secret)
	}
	if len(once) > 0 {
		a.say("Keep this: it is never shown again. deed subscription rotate makes another.\n")
	}
}

func (a *app) deleteSubscription() *cobra.Command {
	return a.ofSubscription("delete", "End a subscription, and forget where it was and its dead letters", func(ctx context.Context, c *client.Client, path string) error {
		if _, err := c.Do(ctx, http.MethodDelete, path, nil, nil, nil); err != nil {
			return err
		}
		return a.show(map[string]string{"deleted": path}, func() { a.print("deleted\n") })
	})
}

func (a *app) resetSubscription() *cobra.Command {
	body := struct {
		Start  string `json:"start"`
		DryRun bool   `json:"dry_run"`
	}{}
	cmd := a.ofSubscription("reset", "Let a subscription begin elsewhere: events are delivered again, or passed over", func(ctx context.Context, c *client.Client, path string) error {
		var out deed.Reset
		if _, err := c.Do(ctx, http.MethodPost, path+"/reset", nil, body, &out); err != nil {
			return err
		}
		return a.show(out, func() {
			more := ""
			if out.AtLeast {
				more = "at least "
			}
			a.print("%s%d events from %q on (it stands at %q), %d passed over, %d parked ones forgotten\n", more, out.Events, out.Start, out.From, out.Passed, out.Letters)
			if out.DryRun {
				a.say("Nothing was done: leave --dry-run out to do it.\n")
			}
		})
	})
	cmd.Example = "  deed subscription reset domain-events shop --start beginning --dry-run"
	cmd.Flags().StringVar(&body.Start, "start", "", "beginning, now, cursor:... or time:... (needed)")
	cmd.Flags().BoolVar(&body.DryRun, "dry-run", false, "only say what would come of it")
	return cmd
}

func (a *app) testSubscription() *cobra.Command {
	return a.ofSubscription("test", "Deliver an event of the type deed.test now, and say what came of it", func(ctx context.Context, c *client.Client, path string) error {
		var attempt deed.Attempt
		if _, err := c.Do(ctx, http.MethodPost, path+"/test", nil, nil, &attempt); err != nil {
			return err
		}
		if attempt.Error != "" {
			a.code = exitFailed
		}
		return a.show(attempt, func() { a.printAttempts([]deed.Attempt{attempt}) })
	})
}

func (a *app) rotateSubscription() *cobra.Command {
	return a.ofSubscription("rotate", "Make new secrets; the former ones are good for a while beside them", func(ctx context.Context, c *client.Client, path string) error {
		var secrets httpapi.Secrets
		if _, err := c.Do(ctx, http.MethodPost, path+"/rotate", nil, nil, &secrets); err != nil {
			return err
		}
		return a.show(secrets, func() { a.printSecrets(secrets.Once) })
	})
}

func (a *app) redriveSubscription() *cobra.Command {
	return a.ofSubscription("redrive", "Try all dead letters of a subscription again, each sequence in order", func(ctx context.Context, c *client.Client, path string) error {
		var r httpapi.Redriven
		if _, err := c.Do(ctx, http.MethodPost, path+"/redrive", nil, nil, &r); err != nil {
			return err
		}
		return a.show(r, func() { a.print("%d events delivered\n", r.Handled) })
	})
}

func (a *app) listAttempts() *cobra.Command {
	return a.ofSubscription("attempts", "Print the latest attempts at deliveries, the newest first", func(ctx context.Context, c *client.Client, path string) error {
		var list httpapi.AttemptList
		if _, err := c.Do(ctx, http.MethodGet, path+"/attempts", nil, nil, &list); err != nil {
			return err
		}
		return a.show(list, func() { a.printAttempts(list.Attempts) })
	})
}

func (a *app) printAttempts(list []deed.Attempt) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tEVENT\tEVENTS\tTOOK\tOUTCOME")
	for _, x := range list {
		outcome := x.Error
		if outcome == "" {
			outcome = "delivered"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d ms\t%s\n", x.At.Format("2006-01-02 15:04:05"), x.Event, max(x.Events, 1), x.Millis, outcome)
	}
	w.Flush()
}
