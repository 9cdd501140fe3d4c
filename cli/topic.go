package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) topics() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "List topics, show one, or print its public events",
		Example: `  deed topic list
  deed topic show domain-events
  deed topic tail domain-events --follow`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{fmt.Errorf("topic needs one of list, show and tail")}
		},
	}
	cmd.AddCommand(a.listTopics(), a.showTopic(), a.tailTopic())
	return cmd
}

func (a *app) listTopics() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the topics there are", Args: args(cobra.NoArgs), Example: "  deed topic list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.TopicList
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/topics", nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "TOPIC\tTYPES\tWHAT")
					for _, t := range list.Topics {
						fmt.Fprintf(w, "%s\t%d\t%s\n", t.Name, len(t.Types), t.Doc)
					}
					w.Flush()
				})
			})
		},
	}
}

func (a *app) showTopic() *cobra.Command {
	return &cobra.Command{
		Use: "show TOPIC", Short: "Print the types of a topic, and what they are made of", Args: args(cobra.ExactArgs(1)),
		Example: "  deed topic show domain-events",
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var t deed.TopicInfo
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "topics", given[0]), nil, nil, &t); err != nil {
					return err
				}
				return a.show(t, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "TYPE\tMADE OF")
					for _, typ := range t.Types {
						fmt.Fprintf(w, "%s\t%s\n", typ.Type, strings.Join(typ.Events, ", "))
					}
					w.Flush()
				})
			})
		},
	}
}

func (a *app) tailTopic() *cobra.Command {
	var after, types string
	var limit int
	var follow bool
	cmd := &cobra.Command{
		Use: "tail TOPIC", Short: "Print the public events of a topic, or follow it", Args: args(cobra.ExactArgs(1)),
		Example: `  deed topic tail domain-events --limit 20
  deed topic tail domain-events --follow --type order.placed.v1
  deed topic tail domain-events --after 1200 --json`,
		RunE: func(cmd *cobra.Command, given []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, v := range map[string]string{"after": after, "type": types} {
				if v != "" {
					q.Set(name, v)
				}
			}
			return a.with(cmd.Context(), func(c *client.Client) error { return a.tailOf(cmd.Context(), c, given[0], q, follow) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&after, "after", "", "begin after this cursor (default: the beginning)")
	f.StringVar(&types, "type", "", "only events of these types, separated by commas")
	f.IntVar(&limit, "limit", 100, "of at most so many events of the log at once, up to 1000")
	f.BoolVarP(&follow, "follow", "f", false, "go on, and print events as they happen, until Ctrl-C")
	return cmd
}

// tailWait is how long the server lets a tail wait before it answers nothing.
const tailWait = 20 * time.Second

// tailOf prints pages of a topic: one, or for ever.
func (a *app) tailOf(ctx context.Context, c *client.Client, topic string, q url.Values, follow bool) error {
	if follow {
		q.Set("wait", tailWait.String())
	}
	for {
		var events []deed.CloudEvent
		var h http.Header
		ask := func() (err error) {
			h, err = c.Do(ctx, http.MethodGet, client.Path(q, "v1", "topics", topic, "events"), nil, nil, &events)
			return err
		}
		err := ask()
		if err != nil && follow {
			err = client.Persist(ctx, ask)
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := a.show(e, func() { a.printPublic(e) }); err != nil {
				return err
			}
		}
		next := h.Get(httpapi.CursorHeader)
		if !follow {
			if h.Get(httpapi.MoreHeader) == "true" {
				a.say("There is more: --after %s\n", next)
			}
			return nil
		}
		q.Set("after", next)
	}
}

func (a *app) printPublic(e deed.CloudEvent) {
	a.print("%s  %s  %s  %s\n", e.Time.Format(time.RFC3339Nano), e.ID, e.Type, compact(e.Data))
}
