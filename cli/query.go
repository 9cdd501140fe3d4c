package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
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

func (a *app) query() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Queries: list, ask one, look at what became of one that was recorded, or cancel it",
		Example: `  deed query list
  deed query ask league-summary '{"league_name":"Blackrock"}'
  deed query show league-summary 7f1c
  deed query cancel league-summary 7f1c`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("query needs one of list, ask, show and cancel")}
		},
	}
	cmd.AddCommand(a.listQueries(), a.askQuery(), a.showRun(), a.cancelRun())
	return cmd
}

func (a *app) listQueries() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Print the queries there are",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var all httpapi.QueryList
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "queries"), nil, nil, &all); err != nil {
					return err
				}
				return a.show(all, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "QUERY\tDOMAIN\t")
					for _, q := range all.Queries {
						fmt.Fprintf(w, "%s\t%s\t%s\n", q.Name, q.Domain, q.Doc)
					}
					w.Flush()
				})
			})
		},
	}
}

func (a *app) askQuery() *cobra.Command {
	var at, id string
	var wait, age time.Duration
	var async bool
	var deliver []string
	cmd := &cobra.Command{
		Use:   "ask NAME [PARAMETERS]",
		Short: "Ask a query, with parameters in JSON",
		Example: `  deed query ask all-leagues
  deed query ask league-summary '{"league_name":"Blackrock"}' --at 2026-02-03T04:05:06Z
  deed query ask all-leagues --async --deliver https://host/path --deliver file:leagues`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			body := "{}"
			if len(given) == 2 {
				body = given[1]
			}
			if !json.Valid([]byte(body)) {
				return usageError{fmt.Errorf("the parameters are not JSON: %s", body)}
			}
			q := url.Values{}
			if at != "" {
				q.Set("at", at)
			}
			if age > 0 {
				q.Set("max-age", age.String())
			}
			headers := map[string]string{"Prefer": "wait=" + strconv.Itoa(int(wait/time.Second))}
			if async {
				headers["Prefer"] = "respond-async"
			}
			if id != "" {
				headers["Idempotency-Key"] = id
			}
			if len(deliver) > 0 {
				headers["Deed-Deliver"] = "<" + strings.Join(deliver, ">, <") + ">"
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var run deed.Run
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(q, "v1", "queries", given[0]), headers, json.RawMessage(body), &run); err != nil {
					return err
				}
				return a.show(run, func() { a.printRun(run) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "as it was at this time (RFC 3339)")
	f.StringVar(&id, "id", "", "record the asking under this id; asking again with it gives the same answer")
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the answer, up to 60s; after that it is asked in the background")
	f.DurationVar(&age, "max-age", 0, "as old may the answer be")
	f.BoolVar(&async, "async", false, "ask in the background")
	f.StringArrayVar(&deliver, "deliver", nil, "where the answer goes, as https://host/path, file:name or topic:name, if the server and the query allow that; may be repeated")
	return cmd
}

// printRun prints an answer for people, and on the other stream where it comes
// from.
func (a *app) printRun(run deed.Run) {
	if len(run.Result) > 0 {
		var b bytes.Buffer
		if json.Indent(&b, run.Result, "", "  ") != nil {
			b.Write(run.Result)
		}
		a.print("%s\n", b.String())
	}
	switch {
	case !run.State.Over():
		a.say("%s of %s is %s: %d of %d parts are answered. Look with: deed query show %s %s\n", run.ID, run.Query, run.State, run.Answered, run.Parts, run.Query, run.ID)
	case run.State != deed.RunCompleted:
		a.print("%s is %s: %s (%s)\n", cmp.Or(run.ID, run.Query), run.State, run.Reason, run.Code)
	case run.Cached:
		a.say("As of position %s, from the cache.\n", run.Position)
	default:
		a.say("As of position %s.\n", run.Position)
	}
	for _, d := range run.Deliveries {
		switch {
		case !d.Done.IsZero():
			a.say("Delivered to %s at %s.\n", d.To, d.Done.Format(time.RFC3339))
		case d.Reason != "":
			a.say("Cannot be delivered to %s: %s\n", d.To, d.Reason)
		}
	}
}

func (a *app) showRun() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "show NAME ID",
		Short: "Print what became of a query that was recorded, with its answer as it was then",
		Example: `  deed query show league-summary 7f1c
  deed query show league-summary 7f1c --follow`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				if follow {
					return c.TailRun(cmd.Context(), given[0], given[1], func(_ string, e httpapi.Event) error {
						return a.show(e, func() { a.print("%s  %-16s %s\n", e.Time, e.Type, compact(e.Data)) })
					})
				}
				var run deed.Run
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "queries", given[0], "runs", given[1]), nil, nil, &run); err != nil {
					return err
				}
				return a.show(run, func() { a.printRun(run) })
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print each thing as it happens, until it is over and delivered")
	return cmd
}

func (a *app) cancelRun() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "cancel NAME ID",
		Short:   "Call off a query that was recorded: it is not answered, and nothing is delivered",
		Example: `  deed query cancel league-summary 7f1c --reason "asked twice"`,
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var run deed.Run
				path := client.Path(nil, "v1", "queries", given[0], "runs", given[1], "cancel")
				if _, err := c.Do(cmd.Context(), http.MethodPost, path, nil, map[string]string{"reason": reason}, &run); err != nil {
					return err
				}
				return a.show(run, func() { a.print("%s of %s is %s\n", run.ID, run.Query, run.State) })
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}
