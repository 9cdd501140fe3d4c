package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) keys() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create, list, revoke or rotate API keys",
		Long: `Create, list, revoke or rotate the API keys of a server that checks access.

The first key is made on the store itself, with --store (or --data, the folder
of a demo). Later ones through the server, by whoever has a key with the role
admin. A key's text is printed once, and cannot be had again.`,
		Example: `  deed key create --store sqlite:deed.db --actor ann --role admin
  export DEED_KEY="$(cat ann.key)"
  deed key create --actor shop --role saver --expires 90d --note "the web shop"
  deed key list
  deed key rotate ID --overlap 24h
  deed key revoke ID --reason "was in a log"`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("key needs one of create, list, revoke and rotate")}
		},
	}
	cmd.PersistentFlags().StringVar(&data, "data", "", "open the store in this folder, as deed demo --data does")
	at := func(f func(*client.Client) error) func(context.Context) error {
		return func(ctx context.Context) error {
			if data != "" {
				a.store = "sqlite:" + filepath.Join(data, "deed.db")
			}
			return a.with(ctx, f)
		}
	}
	cmd.AddCommand(a.createKey(at), a.listKeys(at), a.revokeKey(at), a.rotateKey(at))
	return cmd
}

// opener runs something with a client, wherever the keys are.
type opener func(func(*client.Client) error) func(context.Context) error

// doer says who does something to the keys of a store that is opened directly.
// A server knows.
func (a *app) doer() map[string]string {
	if user := os.Getenv("USER"); a.store != "" && user != "" {
		return map[string]string{"X-Actor": user}
	}
	return nil
}

func (a *app) createKey(at opener) *cobra.Command {
	var n httpapi.NewKey
	var expires string
	cmd := &cobra.Command{
		Use: "create --actor NAME --role ROLE", Short: "Make a key and print its text, once", Args: args(cobra.NoArgs),
		Example: `  deed key create --store sqlite:deed.db --actor ann --role admin > ann.key
  deed key create --actor grafana --role reader --expires 2027-01-01`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if n.Expires, err = expiry(expires, time.Now()); err != nil {
				return usageError{err}
			}
			a.creates = true
			return at(func(c *client.Client) error {
				return a.issue(cmd.Context(), c, client.Path(nil, "v1", "keys"), n)
			})(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Actor, "actor", "", "whoever has the key acts as this one (needed)")
	f.StringSliceVar(&n.Roles, "role", nil, "what it may do: admin, operator, reader, or a role of the domain; may be repeated")
	f.StringVar(&expires, "expires", "", "when it ends: a day (2027-01-01), a time, or from now (90d, 12h); default: never")
	f.StringVar(&n.Note, "note", "", "what it is for")
	return cmd
}

// expiry reads when a key ends.
func expiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, int(n)), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--expires %q: use a day (2027-01-01), a time (RFC 3339), or a while from now (90d, 12h)", s)
	}
	return now.Add(d), nil
}

// issue asks for a key and prints its text: alone, so that it can be put into a
// file.
func (a *app) issue(ctx context.Context, c *client.Client, path string, body any) error {
	var k httpapi.IssuedKey
	if _, err := c.Do(ctx, http.MethodPost, path, a.doer(), body, &k); err != nil {
		return err
	}
	return a.show(k, func() {
		a.say("The key %s acts as %s, with %s. Keep this text, it is not shown again:\n", k.ID, k.Actor, rolesText(k.Roles))
		a.print("%s\n", k.Text)
	})
}

func rolesText(roles []string) string {
	if len(roles) == 0 {
		return "no roles"
	}
	return "the roles " + strings.Join(roles, ", ")
}

func (a *app) listKeys(at opener) *cobra.Command {
	var after string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List the keys, without their secrets", Args: args(cobra.NoArgs), Example: "  deed key list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at(func(c *client.Client) error {
				q := url.Values{"limit": {strconv.Itoa(limit)}}
				if after != "" {
					q.Set("after", after)
				}
				var page httpapi.KeyPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "keys"), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() { a.printKeys(page) })
			})(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "go on after this id")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) printKeys(page httpapi.KeyPage) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tACTOR\tROLES\tSTATE\tCREATED\tEXPIRES\tUSED\tNOTE")
	for _, k := range page.Keys {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Actor, strings.Join(k.Roles, ","), k.State, day(k.Created), day(k.Expires), day(k.Used), k.Note)
	}
	w.Flush()
	a.more(page.Next)
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateOnly)
}

func (a *app) revokeKey(at opener) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Make a key useless, for ever, on every node within seconds", Args: args(cobra.ExactArgs(1)),
		Example: `  deed key revoke ID --reason "was in a log"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			return at(func(c *client.Client) error {
				var k auth.Key
				path := client.Path(nil, "v1", "keys", given[0], "revoke")
				if _, err := c.Do(cmd.Context(), http.MethodPost, path, a.doer(), map[string]string{"reason": reason}, &k); err != nil {
					return err
				}
				return a.show(k, func() { a.print("The key %s of %s is revoked\n", k.ID, k.Actor) })
			})(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit stream")
	return cmd
}

func (a *app) rotateKey(at opener) *cobra.Command {
	var overlap time.Duration
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a key a new secret; the old one stays good for a while", Args: args(cobra.ExactArgs(1)),
		Example: "  deed key rotate ID --overlap 1h > ann.key",
		RunE: func(cmd *cobra.Command, given []string) error {
			return at(func(c *client.Client) error {
				return a.issue(cmd.Context(), c, client.Path(nil, "v1", "keys", given[0], "rotate"), map[string]string{"overlap": overlap.String()})
			})(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", auth.DefaultOverlap, "for how long the old text stays good; 0s = no longer")
	return cmd
}
