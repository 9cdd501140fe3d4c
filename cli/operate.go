package cli

import (
	"fmt"
	"net/http"
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
