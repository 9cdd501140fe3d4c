package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) streamCommand() *cobra.Command {
	var from uint64
	var limit int
	var backward bool
	cmd := &cobra.Command{
		Use:   "stream NAME",
		Short: "Print the events of a stream",
		Example: `  deed stream order/o-1
  deed stream order/o-1 --backward --limit 5
  deed stream '$audit/followers' --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if category, id, _ := strings.Cut(given[0], "/"); category == "" || id == "" {
				return usageError{fmt.Errorf("%q is no stream: a stream is CATEGORY/ID, for example order/o-1", given[0])}
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if from > 0 {
				q.Set("from", strconv.FormatUint(from, 10))
			}
			if backward {
				q.Set("backward", "true")
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var page httpapi.StreamPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/streams/"+escapeSlashed(given[0])+"?"+q.Encode(), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() {
					for _, e := range page.Events {
						a.printEvent(e)
					}
					if page.Next > 0 {
						a.say("There is more: --from %d\n", page.Next)
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&from, "from", 0, "first version (last, with --backward)")
	f.IntVar(&limit, "limit", 100, "at most so many events, up to 1000")
	f.BoolVar(&backward, "backward", false, "newest first")
	return cmd
}

// escapeSlashed escapes a stream's name but for its slashes.
func escapeSlashed(name string) string { return (&url.URL{Path: name}).EscapedPath() }

func (a *app) printEvent(e httpapi.Event) {
	a.print("%8s  %s  %s@%d  %s  %s\n", e.Position, e.Time, e.Stream, e.Version, e.Type, compact(e.Data))
}

func compact(data []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return string(data)
	}
	return b.String()
}

func (a *app) eventsCommand() *cobra.Command {
	var after, category, typ string
	var limit int
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print the log, or follow it",
		Example: `  deed events --limit 20
  deed events --follow --category order --type shipped
  deed events --after 1200 --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, v := range map[string]string{"after": after, "category": category, "type": typ} {
				if v != "" {
					q.Set(name, v)
				}
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				if follow {
					return a.follow(cmd.Context(), c, q)
				}
				q.Set("limit", strconv.Itoa(limit))
				var page httpapi.LogPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "events"), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() {
					for _, e := range page.Events {
						a.printEvent(e)
					}
					if page.More {
						a.say("There is more: --after %s\n", page.Next)
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&after, "after", "", "begin after this position (default: the beginning, or now with --follow)")
	f.StringVar(&category, "category", "", "only streams of these categories, separated by commas")
	f.StringVar(&typ, "type", "", "only events of these types, separated by commas")
	f.IntVar(&limit, "limit", 100, "at most so many events, up to 1000")
	f.BoolVarP(&follow, "follow", "f", false, "print events as they happen, until Ctrl-C")
	return cmd
}

func (a *app) follow(ctx context.Context, c *client.Client, q url.Values) error {
	return c.Tail(ctx, q, func(_ string, e httpapi.Event) error {
		return a.show(e, func() { a.printEvent(e) })
	})
}

func (a *app) view() *cobra.Command {
	var where, fields []string
	var sort, search, after, at string
	var limit int
	var count bool
	cmd := &cobra.Command{
		Use:   "view NAME [KEY]",
		Short: "Print the documents of a view, or one of them; rebuild a view",
		Example: `  deed view order-summaries o-1
  deed view order-summaries --where status=Paid --where 'total.amount>=10000' --sort -created_at
  deed view order-summaries --search 'blue "garden chair" cush*'
  deed view order-summaries --where status=Paid --fields customer,total.amount --count
  deed view order-summaries o-1 --at 2026-02-03T04:05:06Z
  deed view rebuild order-summaries`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			q := url.Values{}
			if a.shows = given[0]; at != "" {
				q.Set("at", at)
				a.shows = "" // the log is read
			}
			if len(fields) > 0 {
				q.Set("fields", strings.Join(fields, ","))
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				if len(given) == 2 {
					return a.document(cmd.Context(), c, q, given[0], given[1])
				}
				q["where"] = where
				q.Set("limit", strconv.Itoa(limit))
				if count {
					q.Set("count", "true")
				}
				for name, v := range map[string]string{"sort": sort, "search": search, "after": after} {
					if v != "" {
						q.Set(name, v)
					}
				}
				return a.documents(cmd.Context(), c, q, given[0])
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&where, "where", nil, "condition on an index, for example status=Draft; operators = != < <= > >=; may be repeated")
	f.StringVar(&search, "search", "", `words the documents must have; "in a row" in quotation marks, rep* for how one begins`)
	f.StringVar(&sort, "sort", "", "index to sort by, with - in front for descending (default: by key)")
	f.StringVar(&after, "after", "", "go on after this mark")
	f.StringVar(&at, "at", "", "as it was at this time (RFC 3339)")
	f.StringSliceVar(&fields, "fields", nil, "only these fields of the documents, for example status,total.amount")
	f.BoolVar(&count, "count", false, "say also how many documents there are in all")
	f.IntVar(&limit, "limit", 100, "at most so many documents, up to 1000")
	cmd.AddCommand(a.rebuilds()...)
	return cmd
}

func (a *app) document(ctx context.Context, c *client.Client, q url.Values, view, key string) error {
	var doc httpapi.Document
	if _, err := c.Do(ctx, http.MethodGet, client.Path(q, "v1", "views", view, key), nil, nil, &doc); err != nil {
		return err
	}
	return a.show(doc, func() {
		var b bytes.Buffer
		if json.Indent(&b, doc.Value, "", "  ") != nil {
			b.Write(doc.Value)
		}
		a.print("%s\n", b.String())
	})
}

func (a *app) documents(ctx context.Context, c *client.Client, q url.Values, view string) error {
	var page httpapi.DocumentPage
	if _, err := c.Do(ctx, http.MethodGet, client.Path(q, "v1", "views", view), nil, nil, &page); err != nil {
		return err
	}
	return a.show(page, func() {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		for _, d := range page.Documents {
			w.Write([]byte(d.Key + "\t" + compact(d.Value) + "\n"))
		}
		w.Flush()
		if page.Count != nil {
			a.say("There are %d in all.\n", *page.Count)
		}
		a.more(page.Next)
	})
}
