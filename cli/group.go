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

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) group() *cobra.Command {
	var where, params []string
	var after, at string
	var limit int
	cmd := &cobra.Command{
		Use:   "group [NAME [KEY]]",
		Short: "List groups, the members of one, or since when something is in it",
		Example: `  deed group
  deed group on-farm
  deed group on-farm --at 2026-02-03T04:05:06Z
  deed group on-farm IE-123-0042
  deed group below --param threshold=1000`,
		Args: args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			q := url.Values{}
			for _, p := range params {
				name, value, ok := strings.Cut(p, "=")
				if !ok {
					return usageError{fmt.Errorf("--param %q has the form name=value", p)}
				}
				q.Set(name, value)
			}
			if at != "" {
				q.Set("at", at)
			}
			if len(given) > 0 && at == "" {
				a.shows = given[0]
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				switch len(given) {
				case 0:
					return a.groupList(cmd.Context(), c)
				case 1:
					q["where"] = where
					q.Set("limit", strconv.Itoa(limit))
					if after != "" {
						q.Set("after", after)
					}
					return a.members(cmd.Context(), c, q, given[0])
				}
				return a.member(cmd.Context(), c, q, given[0], given[1])
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&where, "where", nil, "condition on an index, for example of.herd=IE-123; may be repeated")
	f.StringArrayVar(&params, "param", nil, "parameter of the group, for example threshold=1000; may be repeated")
	f.StringVar(&after, "after", "", "go on after this mark")
	f.StringVar(&at, "at", "", "as it was at this time (RFC 3339)")
	f.IntVar(&limit, "limit", 100, "at most so many members, up to 1000")
	return cmd
}

func (a *app) groupList(ctx context.Context, c *client.Client) error {
	var all httpapi.Groups
	if _, err := c.Do(ctx, http.MethodGet, client.Path(nil, "v1", "groups"), nil, nil, &all); err != nil {
		return err
	}
	return a.show(all, func() {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "GROUP\tWITHIN\tPARAMETERS\t")
		for _, g := range all.Groups {
			var params []string
			for name := range g.Params {
				params = append(params, name)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.Name, g.Within, strings.Join(params, " "), g.Doc)
		}
		w.Flush()
	})
}

func (a *app) members(ctx context.Context, c *client.Client, q url.Values, group string) error {
	var page httpapi.MemberPage
	if _, err := c.Do(ctx, http.MethodGet, client.Path(q, "v1", "groups", group), nil, nil, &page); err != nil {
		return err
	}
	return a.show(page, func() {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		for _, m := range page.Members {
			fmt.Fprintf(w, "%s\tsince %s\t%s\n", m.Key, m.Since.Format(time.RFC3339), compact(m.Of))
		}
		w.Flush()
		a.more(page.Next)
	})
}

func (a *app) member(ctx context.Context, c *client.Client, q url.Values, group, key string) error {
	var m httpapi.Member
	if _, err := c.Do(ctx, http.MethodGet, client.Path(q, "v1", "groups", group, key), nil, nil, &m); err != nil {
		return err
	}
	return a.show(m, func() {
		a.print("%s is %s of %s since %s\n", key, inOrOut(m.In), group, m.Since.Format(time.RFC3339))
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		for _, s := range m.History {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", s.Since.Format(time.RFC3339), inOrOut(s.In), s.Event, s.Type)
		}
		w.Flush()
	})
}

func inOrOut(in bool) string {
	if in {
		return "a member"
	}
	return "not a member"
}
