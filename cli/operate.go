package cli

import (
	"errors"
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

func (a *app) followers() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "followers",
		Short: "Print how the followers are doing; pause, resume, rebuild or forget one",
		Example: `  deed followers
  deed followers pause order-summaries
  deed followers rebuild order-summaries`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.FollowerList
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/followers", nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printFollowers(list.Followers) })
			})
		},
	}
	for verb, short := range map[string]string{
		"pause":   "Make a follower stop, over restarts too",
		"resume":  "Let a paused follower go on",
		"rebuild": "Fold a projection's documents again, from the first event",
	} {
		cmd.AddCommand(&cobra.Command{
			Use: verb + " NAME", Short: short, Args: args(cobra.ExactArgs(1)), Example: "  deed followers " + verb + " order-summaries",
			RunE: func(cmd *cobra.Command, given []string) error {
				return a.with(cmd.Context(), func(c *client.Client) error {
					var s deed.FollowerStatus
					if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "followers", given[0], verb), nil, nil, &s); err != nil {
						return err
					}
					return a.show(s, func() { a.printFollowers([]deed.FollowerStatus{s}) })
				})
			},
		})
	}
	cmd.AddCommand(a.forget())
	return cmd
}

func (a *app) nodes() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "Print the processes that share a store, and what each of them holds",
		Long: `Print the processes that share a store, and what each of them holds: the
partitions of followers, with how often each has changed hands (epoch). A
SQLite file has a single process, and so no nodes.`,
		Example: "  deed nodes --server http://localhost:8080",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var list httpapi.NodeList
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/nodes", nil, nil, &list); err != nil {
					return err
				}
				return a.show(list, func() { a.printNodes(list.Nodes) })
			})
		},
	}
}

func (a *app) printNodes(list []deed.Node) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tHOST\tPID\tALIVE\tSINCE\tHOLDS")
	for _, n := range list {
		holds := make([]string, len(n.Holds))
		for i, h := range n.Holds {
			holds[i] = fmt.Sprintf("%s %d/%d (epoch %d)", h.Follower, h.Partition+1, h.Partitions, h.Epoch)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%s\t%s\n", n.Name, n.Host, n.PID, n.Alive, n.Started.Format(time.DateTime), strings.Join(holds, ", "))
	}
	w.Flush()
}

func (a *app) printFollowers(list []deed.FollowerStatus) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tSTATE\tCURSOR\tBEHIND\tLAG\tRATE\tPARKED\tLAST ERROR")
	for _, f := range list {
		state := f.State
		if f.Rebuild != nil {
			state += fmt.Sprintf(" (%d to go)", f.Rebuild.Behind)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.1fs\t%.0f/s\t%d\t%s\n", f.Name, f.Kind, state, f.Cursor, f.Behind, f.LagSeconds, f.Rate,
			f.Retrying+f.Waiting+f.Dead, f.LastError)
	}
	w.Flush()
}

func (a *app) deadLetters() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letters",
		Short: "List, redrive or discard events that followers could not handle",
		Example: `  deed dead-letters list
  deed dead-letters redrive order-summaries.1207
  deed dead-letters discard order-summaries.1207 --reason "test data"`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("dead-letters needs one of list, redrive and discard")}
		},
	}
	cmd.AddCommand(a.listDeadLetters(), a.redrive(), a.discard())
	return cmd
}

func (a *app) listDeadLetters() *cobra.Command {
	var follower, after string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List events that followers could not handle", Args: args(cobra.NoArgs),
		Example: "  deed dead-letters list --follower order-summaries",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, v := range map[string]string{"follower": follower, "after": after} {
				if v != "" {
					q.Set(name, v)
				}
			}
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var page httpapi.DeadLetterPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "dead-letters"), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "ID\tSTATE\tEVENT\tTYPE\tATTEMPTS\tREASON")
					for _, l := range page.DeadLetters {
						fmt.Fprintf(w, "%s\t%s\t%s@%d\t%s\t%d\t%s\n", l.ID, l.State, l.Stream, l.Version, l.Type, l.Attempts, l.Reason)
					}
					w.Flush()
					a.more(page.Next)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&follower, "follower", "", "only those of this follower")
	f.StringVar(&after, "after", "", "go on after this id")
	f.IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) redrive() *cobra.Command {
	return &cobra.Command{
		Use: "redrive ID", Short: "Try an event again, and those that wait behind it", Args: args(cobra.ExactArgs(1)),
		Example: "  deed dead-letters redrive order-summaries.1207",
		RunE: func(cmd *cobra.Command, given []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var r httpapi.Redriven
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "dead-letters", given[0], "redrive"), nil, nil, &r); err != nil {
					return err
				}
				return a.show(r, func() { a.print("%d events handled\n", r.Handled) })
			})
		},
	}
}

func (a *app) discard() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "discard ID --reason TEXT", Short: "Give an event up and let those behind it go on", Args: args(cobra.ExactArgs(1)),
		Example: `  deed dead-letters discard order-summaries.1207 --reason "test data"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				_, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "dead-letters", given[0], "discard"), nil, map[string]string{"reason": reason}, nil)
				if err != nil {
					return err
				}
				return a.show(map[string]string{"discarded": given[0]}, func() { a.print("%s is discarded\n", given[0]) })
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why the event may be passed over (needed)")
	return cmd
}
