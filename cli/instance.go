package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// A machine is the kind of instance that a command of the command line is
// about: processes or sagas.
type machine struct {
	*app
	kind    string // "process" or "saga"
	routes  string // "processes" or "sagas"
	example string // NAME ID of one
}

func (a *app) sagas() *cobra.Command {
	m := machine{a, "saga", "sagas", "checkout o-1"}
	cmd := &cobra.Command{
		Use:   "saga",
		Short: "Begin sagas, look at them, and repair those that are stuck",
		Example: `  deed saga start checkout o-1 @order.json
  deed saga list --state stuck
  deed saga show checkout o-1 --follow
  deed saga retry --state stuck --dry-run`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("saga needs one of start, list, show, cancel, retry, skip, undo and close")}
		},
	}
	cmd.AddCommand(a.startSaga(), m.list(), m.one(), m.cancel(), m.retry(), m.skip(), m.undo(), m.close())
	return cmd
}

func (a *app) processes() *cobra.Command {
	m := machine{a, "process", "processes", "transfer t-1"}
	cmd := &cobra.Command{
		Use:   "process",
		Short: "Look at processes, and repair those that are stuck",
		Example: `  deed process list --state stuck
  deed process show transfer t-1
  deed process skip transfer t-1 --reason "refunded by hand"`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("process needs one of list, show, cancel, retry, skip, undo and close")}
		},
	}
	cmd.AddCommand(m.list(), m.one(), m.cancel(), m.retry(), m.skip(), m.undo(), m.close())
	return cmd
}

func (a *app) startSaga() *cobra.Command {
	var actor, key string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "start NAME ID [JSON]",
		Short: "Begin a saga",
		Long: `Begin a saga. The JSON is its state: an argument, @FILE, or - for standard
input. With - as the ID the server makes one. Beginning it again with the same
ID and state changes nothing.

It is waited for, for --wait. If it is not over then, it goes on where the store
is served.`,
		Example: `  deed saga start checkout o-1 '{"order":"o-1","token":"ok"}'
  deed saga start checkout - @order.json --command-id 7f1c --wait 0s`,
		Args: args(cobra.RangeArgs(2, 3)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if wait < 0 || wait > httpapi.MaxCommandWait {
				return usageError{fmt.Errorf("--wait %v: use 0s to %v", wait, httpapi.MaxCommandWait)}
			}
			body := []byte("{}")
			if len(given) == 3 {
				var err error
				if body, err = a.body(given[2]); err != nil {
					return err
				}
			}
			headers := a.asking(cmd, actor)
			headers["Prefer"] = fmt.Sprintf("wait=%d", int(math.Ceil(wait.Seconds())))
			if key != "" {
				headers["Idempotency-Key"] = key
			}
			parts := []string{"v1", "sagas", given[0], given[1]}
			if given[1] == "-" {
				parts = parts[:3]
			}
			a.creates = true
			return a.with(cmd.Context(), func(c *client.Client) error {
				var i deed.Instance
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, parts...), headers, body, &i); err != nil {
					return err
				}
				return a.showStanding(i)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "command-id", "", "with - as the ID: beginning it again with this begins nothing new")
	actorFlag(f, &actor)
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait until it is over or stuck, up to 60s")
	return cmd
}

// showStanding prints how an instance stands, and what can be done about it.
func (a *app) showStanding(i deed.Instance) error {
	if i.State == deed.InstanceStuck {
		a.code = exitFailed
	}
	return a.show(i, func() {
		a.print("%s\n", standing(i))
		switch {
		case i.State == deed.InstanceStuck:
			a.say("When the cause is gone:  deed %[1]s retry %[2]s %[3]s%[4]s\nSee docs/operations.md for what else can be done.\n", i.Kind, i.Name, i.ID, a.at())
		case i.State.Over():
		case a.store != "":
			a.say("%s\n", a.served())
		default:
			a.say("See what becomes of it:  deed %s show %s %s%s --follow\n", i.Kind, i.Name, i.ID, a.at())
		}
	})
}

// standing says in a line how an instance stands.
func standing(i deed.Instance) string {
	s := fmt.Sprintf("%s %s %s is %s", i.Kind, i.Name, i.ID, i.State)
	if i.Step != "" && !i.State.Over() {
		s += " at step " + i.Step
	}
	if i.Reason != "" {
		s += ": " + i.Reason + " (" + i.Code + ")"
	}
	return s
}

func (m machine) list() *cobra.Command {
	var name, state, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print " + m.routes + ", those that changed last first",
		Example: fmt.Sprintf(`  deed %[1]s list
  deed %[1]s list --state stuck
  deed %[1]s list --name %[2]s --state running --json`, m.kind, strings.Fields(m.example)[0]),
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for key, v := range map[string]string{"state": state, "name": name, "after": after} {
				if v != "" {
					q.Set(key, v)
				}
			}
			m.shows = "instances"
			return m.with(cmd.Context(), func(c *client.Client) error {
				var page httpapi.InstancePage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", m.routes), nil, nil, &page); err != nil {
					return err
				}
				return m.show(page, func() {
					m.printInstances(page.Instances)
					m.more(page.Next)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "only those of this "+m.kind)
	f.StringVar(&state, "state", "", "only these: running, undoing, stuck, completed, undone, closed")
	f.StringVar(&after, "after", "", "go on after this mark")
	f.IntVar(&limit, "limit", 100, "at most so many, up to 1000")
	return cmd
}

func (a *app) printInstances(list []deed.Instance) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tSTATE\tSTEP\tWAITS FOR\tCHANGED\tREASON")
	for _, i := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.ID, i.State, i.Step, waitsFor(i), i.Changed.Format(time.DateTime), i.Reason)
	}
	w.Flush()
}

// waitsFor says what an instance that is not over waits for.
func waitsFor(i deed.Instance) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(i.Tasks)) {
		all = append(all, "task "+name)
	}
	for _, name := range slices.Sorted(maps.Keys(i.Timers)) {
		if !strings.Contains(name, ":") { // those of tasks
			all = append(all, name+" "+i.Timers[name].Format(time.DateTime))
		}
	}
	return strings.Join(all, ", ")
}

func (m machine) one() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:     "show NAME ID",
		Short:   "Print how a " + m.kind + " stands and what has happened, or follow it until it is over",
		Example: fmt.Sprintf("  deed %[1]s show %[2]s\n  deed %[1]s show %[2]s --follow", m.kind, m.example),
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return m.with(cmd.Context(), func(c *client.Client) error {
				if follow {
					return c.TailInstance(cmd.Context(), m.routes, given[0], given[1], func(_ string, e httpapi.Event) error {
						return m.show(e, func() { m.printMove(e) })
					})
				}
				var s httpapi.InstanceStatus
				q := url.Values{"history": {"true"}}
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", m.routes, given[0], given[1]), nil, nil, &s); err != nil {
					return err
				}
				return m.show(s, func() { m.printInstance(s) })
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print each thing as it happens, until the "+m.kind+" is over")
	return cmd
}

func (a *app) printInstance(s httpapi.InstanceStatus) {
	a.print("%s\n", standing(s.Instance))
	if s.Actor != "" {
		a.print("begun by  %s, at %s\n", s.Actor, s.Started.Format(time.RFC3339))
	} else {
		a.print("begun  %s\n", s.Started.Format(time.RFC3339))
	}
	if s.Parent != "" {
		a.print("part of  %s\n", strings.TrimPrefix(s.Parent, "$"))
	}
	a.print("state  %s\n", compact(s.Data))
	if len(s.Steps) > 0 {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "STEP\tSTATE\tATTEMPTS\tAGAIN\tERROR")
		for _, st := range s.Steps {
			again := ""
			if !st.Next.IsZero() {
				again = st.Next.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", st.Name, st.State, st.Attempts, again, st.Error)
		}
		w.Flush()
	}
	for _, name := range slices.Sorted(maps.Keys(s.Timers)) {
		a.print("timer  %s goes off at %s\n", name, s.Timers[name].Format(time.RFC3339))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Tasks)) {
		a.print("task  %s: deed task show %s\n", name, s.Tasks[name])
	}
	for _, u := range s.Undo {
		a.print("undo  %s of %s\n", u.Command, u.Stream)
	}
	if len(s.Entities) > 0 {
		a.print("sent to  %s\n", strings.Join(s.Entities, ", "))
	}
	for _, e := range s.History {
		a.printMove(e)
	}
}

// printMove prints what came in, and what followed from it.
func (a *app) printMove(e httpapi.Event) {
	a.print("%3d  %s  %-10s %s\n", e.Version, e.Time, e.Type, moveOf(e.Data))
}

// moveOf says in a line what a record of an instance is about.
func moveOf(data []byte) string {
	var m struct {
		Input struct {
			From, Type, Name, Request, Choice, Reason string
		}
		Status  string
		Steps   []struct{ Name, State, Error string }
		Sent    []struct{ Stream, Command string }
		Refused []struct{ Stream, Command, Reason string }
		Begun   []string
	}
	if json.Unmarshal(data, &m) != nil {
		return compact(data)
	}
	var parts []string
	in := m.Input
	if what := strings.Join(strings.Fields(strings.Join([]string{in.Request, in.Type, in.Name, in.Choice}, " ")), " "); what != "" {
		parts = append(parts, what)
	}
	if in.From != "" {
		parts = append(parts, "from "+in.From)
	}
	if in.Reason != "" {
		parts = append(parts, strconv.Quote(in.Reason))
	}
	for _, c := range m.Sent {
		parts = append(parts, "sent "+c.Command+" to "+c.Stream)
	}
	for _, c := range m.Refused {
		parts = append(parts, c.Command+" of "+c.Stream+" is refused: "+c.Reason)
	}
	for _, s := range m.Begun {
		parts = append(parts, "began "+strings.TrimPrefix(s, "$"))
	}
	for _, st := range m.Steps {
		parts = append(parts, strings.TrimSuffix(st.Name+" "+st.State+": "+st.Error, ": "))
	}
	if m.Status != "" {
		parts = append(parts, "now "+m.Status)
	}
	return cmp.Or(strings.Join(parts, "; "), "nothing followed")
}

// ask asks something of one instance, and prints how it stands then.
func (m machine) ask(ctx context.Context, headers map[string]string, name, id, verb string, body map[string]string) error {
	return m.with(ctx, func(c *client.Client) error {
		var i deed.Instance
		if _, err := c.Do(ctx, http.MethodPost, client.Path(nil, "v1", m.routes, name, id, verb), headers, body, &i); err != nil {
			return err
		}
		return m.showStanding(i)
	})
}
