package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) blame() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "blame AGGREGATE/ID",
		Short: "Say which event made each field of a state what it is",
		Example: `  deed blame order/o-1
  deed blame order/o-1 --from 3 --to 5
  deed blame cow/IE-123-0042 --from 2026-02-03T04:05:06Z --json`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			aggregate, id, ok := strings.Cut(given[0], "/")
			if !ok || aggregate == "" || id == "" {
				return usageError{errors.New("say which entity: AGGREGATE/ID, for example order/o-1")}
			}
			q := url.Values{}
			for name, v := range map[string]string{"from": from, "to": to} {
				if v != "" {
					q.Set(name, v)
				}
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				var out httpapi.Blame
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "blame", aggregate, id), nil, nil, &out); err != nil {
					return err
				}
				return a.show(out, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "FIELD\tWAS\tIS\tEVENT\tTYPE\tBY\tAT")
					for _, f := range out.Changes {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Field, cmp.Or(string(f.Before), "-"), cmp.Or(string(f.Now), "-"), f.Event, f.Type, cmp.Or(f.Actor, "-"), f.Time.Format(time.RFC3339))
					}
					w.Flush()
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "compare with the state at this version or time (default: the beginning)")
	f.StringVar(&to, "to", "", "the state at this version or time (default: now)")
	return cmd
}
