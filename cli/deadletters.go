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
	"github.com/spf13/pflag"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) deadLetters() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letters",
		Short: "Look at what could not be handled; redrive, edit or discard it",
		Long: `Look at what could not be handled, wherever that was: events that a projection,
an event handler, a process or a subscription parked, and messages that a queue
gave up. Redrive, edit or discard it, one or many at once.`,
		Example: `  deed dead-letters groups
  deed dead-letters list --fingerprint 4f1d2c3b4a59
  deed dead-letters show mailer.1207
  deed dead-letters redrive mailer.1207
  deed dead-letters redrive --fingerprint 4f1d2c3b4a59 --first --rate 50
  deed dead-letters edit mailer.1207 --data '{"to":"ann@example.org"}' --reason "misprint" --redrive
  deed dead-letters discard --follower mailer --older 720h --reason "too late" --dry-run`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("dead-letters needs one of list, groups, show, redrive, edit, discard, jobs and cancel")}
		},
	}
	cmd.AddCommand(a.listDeadLetters(), a.letterGroups(), a.showDeadLetter(), a.redrive(), a.editLetter(), a.discard(), a.letterJobs(), a.cancelJob())
	return cmd
}

// letterFilter is the flags that say which dead letters are meant.
type letterFilter struct {
	follower, subscription, kind, fingerprint, state string
	older                                            time.Duration
}

func (lf *letterFilter) flags(f *pflag.FlagSet) {
	f.StringVar(&lf.follower, "follower", "", "those of this follower")
	f.StringVar(&lf.subscription, "subscription", "", "those of this subscription or queue, as TOPIC/NAME")
	f.StringVar(&lf.kind, "kind", "", "those of this kind of follower: projection, handler, reception, subscription, queue, ...")
	f.StringVar(&lf.fingerprint, "fingerprint", "", "those that failed for this reason, as groups and list show it")
	f.StringVar(&lf.state, "state", "", "retrying, waiting or dead; discarded or handled: what is kept of former ones")
	f.DurationVar(&lf.older, "older", 0, "those that were parked longer ago, for example 24h")
}

func (lf *letterFilter) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"follower": lf.follower, "subscription": lf.subscription, "kind": lf.kind, "fingerprint": lf.fingerprint, "state": lf.state} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if lf.older != 0 { // what is negative is refused
		q.Set("older", lf.older.String())
	}
	return q
}

func (lf *letterFilter) act() httpapi.LetterAct {
	act := httpapi.LetterAct{LetterFilter: deed.LetterFilter{
		Follower: lf.follower, Subscription: lf.subscription, Kind: lf.kind, Fingerprint: lf.fingerprint, State: lf.state,
	}}
	if lf.older != 0 {
		act.Older = lf.older.String()
	}
	return act
}

// failed has the flags say that they are about what has failed, and is not over.
func (lf *letterFilter) failed(f *pflag.FlagSet) {
	f.Lookup("state").Usage = "retrying or dead: those that are tried again by themselves, or not"
}

// empty reports whether no flag says which are meant.
func (lf *letterFilter) empty() bool { return *lf == letterFilter{} }

func (a *app) listDeadLetters() *cobra.Command {
	var filter letterFilter
	var after string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List what could not be handled", Args: args(cobra.NoArgs),
		Example: `  deed dead-letters list --follower order-summaries
  deed dead-letters list --subscription orders/billing --state dead --older 1h
  deed dead-letters list --state discarded`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := filter.query()
			q.Set("limit", strconv.Itoa(limit))
			if after != "" {
				q.Set("after", after)
			}
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var page httpapi.DeadLetterPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "dead-letters"), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "ID\tSTATE\tEVENT\tTYPE\tATTEMPTS\tPARKED\tFINGERPRINT\tREASON")
					for _, l := range page.DeadLetters {
						fmt.Fprintf(w, "%s\t%s\t%s@%d\t%s\t%d\t%s\t%s\t%s\n", l.ID, l.State, l.Stream, l.Version, l.Type, l.Attempts, l.FirstAt.Format(time.DateTime), l.Fingerprint, oneLine(l.Reason))
					}
					w.Flush()
					a.more(page.Next)
				})
			})
		},
	}
	filter.flags(cmd.Flags())
	cmd.Flags().StringVar(&after, "after", "", "go on after this id")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

// oneLine is a text that may have several, cut to fit into a table.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}

func (a *app) letterGroups() *cobra.Command {
	var filter letterFilter
	cmd := &cobra.Command{
		Use: "groups", Short: "Group what could not be handled by what it failed of", Args: args(cobra.NoArgs),
		Long: `Group what could not be handled by what it failed of. The fingerprint of a group
is made of the reason without numbers, ids and quotes and, if something panicked, of
the functions it came from: it is the same on all nodes and after a restart.`,
		Example: "  deed dead-letters groups --kind subscription",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var all httpapi.LetterGroups
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(filter.query(), "v1", "dead-letters", "groups"), nil, nil, &all); err != nil {
					return err
				}
				return a.show(all, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "FINGERPRINT\tCOUNT\tBLOCKS\tOLDEST\tNEWEST\tFOLLOWERS\tEXAMPLE\tREASON")
					for _, g := range all.Groups {
						fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", g.Fingerprint, g.Count, g.Blocks, g.Oldest.Format(time.DateTime), g.Newest.Format(time.DateTime),
							strings.Join(g.Followers, ","), g.Example.ID, oneLine(g.Example.Reason))
					}
					w.Flush()
					if all.Others > 0 {
						a.say("%d more dead letters are in none of these groups: there are too many reasons.\n", all.Others)
					}
				})
			})
		},
	}
	filter.flags(cmd.Flags())
	return cmd
}

func (a *app) showDeadLetter() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Print all that is known of a dead letter", Args: args(cobra.ExactArgs(1)),
		Example: "  deed dead-letters show order-summaries.1207",
		RunE: func(cmd *cobra.Command, given []string) error {
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var l deed.DeadLetter
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "dead-letters", given[0]), nil, nil, &l); err != nil {
					return err
				}
				return a.show(l, func() { a.printLetter(l) })
			})
		},
	}
}

func (a *app) printLetter(l deed.DeadLetter) {
	a.print("%s  %s of the %s %s\n", l.ID, l.State, l.Kind, l.Follower)
	line := func(name, format string, args ...any) { a.print("%-12s"+format+"\n", append([]any{name}, args...)...) }
	if l.Subscription != "" {
		line("of", "%s", l.Subscription)
	}
	line("event", "%s@%d %s, position %s", l.Stream, l.Version, l.Type, l.Position)
	if l.Message != "" {
		line("message", "%s", l.Message)
	}
	line("parked", "%s", l.FirstAt.Format(time.RFC3339))
	if !l.LastAt.IsZero() {
		line("attempts", "%d, the last one %s", l.Attempts, l.LastAt.Format(time.RFC3339))
	}
	if !l.NextAt.IsZero() {
		line("next", "%s", l.NextAt.Format(time.RFC3339))
	}
	if l.Fingerprint != "" {
		line("fingerprint", "%s", l.Fingerprint)
	}
	line("reason", "%s", l.Reason)
	if l.Behind != "" {
		line("behind", "%s", l.Behind)
	}
	if l.Blocks > 0 {
		line("blocks", "%d that wait behind it", l.Blocks)
	}
	line("sequence", "%s", strings.Join(l.Keys, ", "))
	line("data", "%s", l.Data)
	for _, e := range l.Edits {
		line("edited", "%s by %s: %s", e.At.Format(time.RFC3339), orNobody(e.By), e.Why)
		line("  to", "%s", e.Data)
	}
	switch c := l.Closed; {
	case c == nil:
	case c.Why == "":
		line(l.State, "%s", c.At.Format(time.RFC3339))
	default:
		line(l.State, "%s by %s: %s", c.At.Format(time.RFC3339), orNobody(c.By), c.Why)
	}
	if l.Stack != "" {
		a.print("\n%s\n", l.Stack)
	}
}

func orNobody(actor string) string {
	if actor == "" {
		return "nobody known"
	}
	return actor
}
