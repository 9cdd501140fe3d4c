package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) queue() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Take messages from a queue by hand, and look after its dead letters",
		Example: `  deed queue messages domain-events work
  deed queue lock domain-events work --wait 20s
  deed queue complete domain-events work TOKEN
  deed queue redrive domain-events work ID`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("queue needs one of messages, lock, renew, complete, abandon, dead-letter, redrive, discard")}
		},
	}
	cmd.AddCommand(a.queueMessages(), a.queueLock(), a.queueRedrive(), a.queueDiscard())
	for verb, short := range map[string]string{
		"renew":       "Have a message locked for longer",
		"complete":    "Say that a message is done",
		"abandon":     "Give a message back",
		"dead-letter": "Give a message up",
	} {
		cmd.AddCommand(a.queueSettle(verb, short))
	}
	return cmd
}

func (a *app) printMessages(list []deed.Message) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tEVENT\tTYPE\tDELIVERIES\tREASON\tTOKEN\tDATA")
	for _, m := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", m.ID, m.Event.ID, m.Event.Type, m.Deliveries, m.Reason, m.Token, compact(m.Event.Data))
	}
	w.Flush()
}

func (a *app) queueMessages() *cobra.Command {
	var dead bool
	var after string
	var limit int
	cmd := &cobra.Command{
		Use: "messages TOPIC NAME", Short: "Print the messages of a queue, without locking them", Args: args(cobra.ExactArgs(2)),
		Example: "  deed queue messages domain-events work --dead",
		RunE: func(cmd *cobra.Command, given []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}, "dead": {strconv.FormatBool(dead)}}
			if after != "" {
				q.Set("after", after)
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.MessageList
				path := client.Path(q, "v1", "topics", given[0], "subscriptions", given[1], "messages")
				if _, err := c.Do(cmd.Context(), http.MethodGet, path, nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printMessages(list.Messages) })
			})
		},
	}
	cmd.Flags().BoolVar(&dead, "dead", false, "its dead letters")
	cmd.Flags().StringVar(&after, "after", "", "go on after this id")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) queueLock() *cobra.Command {
	var body httpapi.Locking
	cmd := &cobra.Command{
		Use: "lock TOPIC NAME", Short: "Lock messages, to work on them", Args: args(cobra.ExactArgs(2)), Example: "  deed queue lock domain-events work --limit 5 --wait 20s",
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.MessageList
				if _, err := c.Do(cmd.Context(), http.MethodPost, subscriptionPath(given[0], given[1])+"/lock", nil, body, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printMessages(list.Messages) })
			})
		},
	}
	cmd.Flags().IntVar(&body.Limit, "limit", 1, "at most so many, up to 100")
	cmd.Flags().StringVar(&body.Lock, "lock", "", "for how long, for example 30s (default: as the queue says)")
	cmd.Flags().StringVar(&body.Wait, "wait", "", "how long to wait for some, up to 30s")
	cmd.Flags().StringVar(&body.Consumer, "consumer", "", "who asks, to tell people")
	return cmd
}

func (a *app) queueSettle(verb, short string) *cobra.Command {
	var body httpapi.Settling
	cmd := &cobra.Command{
		Use: verb + " TOPIC NAME TOKEN", Short: short, Args: args(cobra.ExactArgs(3)), Example: "  deed queue " + verb + " domain-events work MDAwMDAwMDAwMHw",
		RunE: func(cmd *cobra.Command, given []string) error {
			body.Token = given[2]
			return a.with(cmd.Context(), func(c *client.Client) error {
				if _, err := c.Do(cmd.Context(), http.MethodPost, subscriptionPath(given[0], given[1])+"/"+verb, nil, body, nil); err != nil {
					return err
				}
				return a.show(map[string]string{"done": verb}, func() { a.print("done\n") })
			})
		},
	}
	switch verb {
	case "renew":
		cmd.Flags().StringVar(&body.Lock, "lock", "", "for how long from now on (default: as the queue says)")
	case "abandon":
		cmd.Flags().StringVar(&body.After, "after", "", "nobody gets it before that, for example 5m")
		cmd.Flags().StringVar(&body.Reason, "reason", "", "why")
	case "dead-letter":
		cmd.Flags().StringVar(&body.Reason, "reason", "", "why it cannot be done (needed)")
	}
	return cmd
}

func (a *app) queueRedrive() *cobra.Command {
	return &cobra.Command{
		Use: "redrive TOPIC NAME ID", Short: "Make an open message of a dead letter again", Args: args(cobra.ExactArgs(3)), Example: "  deed queue redrive domain-events work ID",
		RunE: func(cmd *cobra.Command, given []string) error { return a.onMessage(cmd, given, "redrive", nil) },
	}
}

func (a *app) queueDiscard() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "discard TOPIC NAME ID", Short: "Remove a dead letter, for a reason", Args: args(cobra.ExactArgs(3)), Example: `  deed queue discard domain-events work ID --reason "test data"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.onMessage(cmd, given, "discard", map[string]string{"reason": reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why the message may be passed over (needed)")
	return cmd
}

// onMessage does something to a dead letter of a queue.
func (a *app) onMessage(cmd *cobra.Command, given []string, verb string, body any) error {
	return a.with(cmd.Context(), func(c *client.Client) error {
		path := client.Path(nil, "v1", "topics", given[0], "subscriptions", given[1], "messages", given[2], verb)
		if _, err := c.Do(cmd.Context(), http.MethodPost, path, nil, body, nil); err != nil {
			return err
		}
		return a.show(map[string]string{"done": verb}, func() { a.print("done\n") })
	})
}
