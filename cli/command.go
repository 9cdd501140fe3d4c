package cli

import (
	"cmp"
	"context"
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

func (a *app) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "command",
		Short: "Look at commands: what became of them, what is stuck; resume, correct or cancel one",
		Example: `  deed command list --state failed
  deed command show 7f1c --follow
  deed command resume 7f1c`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("command needs one of list, show, resume, correct and cancel")}
		},
	}
	cmd.AddCommand(a.listCommands(), a.showCommand(), a.resumeCommand(), a.correctCommand(), a.cancelCommand())
	return cmd
}

func (a *app) listCommands() *cobra.Command {
	var state, name, actor, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print commands, the latest first",
		Example: `  deed command list
  deed command list --state failed
  deed command list --command league.create --actor ann --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			for key, v := range map[string]string{"state": state, "command": name, "actor": actor, "after": after} {
				if v != "" {
					q.Set(key, v)
				}
			}
			a.shows = "commands"
			return a.with(cmd.Context(), func(c *client.Client) error {
				var page httpapi.CommandPage
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(q, "v1", "commands"), nil, nil, &page); err != nil {
					return err
				}
				return a.show(page, func() {
					a.printCommands(page.Commands)
					a.more(page.Next)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only these: received, running, retrying, invalid, failed, undoing, completed, rejected, cancelled")
	f.StringVar(&name, "command", "", "only commands of this name, for example league.create")
	f.StringVar(&actor, "actor", "", "only commands of this actor")
	f.StringVar(&after, "after", "", "go on after this mark")
	f.IntVar(&limit, "limit", 100, "at most so many commands, up to 1000")
	return cmd
}

func (a *app) printCommands(list []deed.CommandStatus) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tCOMMAND\tOF\tSTATE\tSTEP\tATTEMPTS\tACTOR\tRECEIVED\tREASON")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", s.ID, s.Command, s.Stream, s.State, stepOf(s), s.Attempts, s.Actor,
			s.Received.Format(time.DateTime), s.Reason)
	}
	w.Flush()
}

// stepOf is the step that a command is at; of one that has failed, the step that
// did.
func stepOf(s deed.CommandStatus) string {
	if s.State != deed.CommandFailed {
		return s.Step
	}
	for _, st := range s.Steps {
		if st.State == deed.CommandFailed {
			return st.Name
		}
	}
	return s.Step
}

func (a *app) showCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print the life of a command, or follow it until it is over",
		Example: `  deed command show 7f1c
  deed command show 7f1c --follow`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				if follow {
					return a.followCommand(cmd.Context(), c, given[0])
				}
				var s httpapi.CommandStatus
				if _, err := c.Do(cmd.Context(), http.MethodGet, client.Path(nil, "v1", "commands", given[0]), nil, nil, &s); err != nil {
					return err
				}
				return a.show(s, func() { a.printCommand(s) })
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print each thing as it happens, until the command is over")
	return cmd
}

func (a *app) followCommand(ctx context.Context, c *client.Client, id string) error {
	return c.TailCommand(ctx, id, func(_ string, e httpapi.Event) error {
		return a.show(e, func() { a.print("%s  %-16s %s\n", e.Time, e.Type, compact(e.Data)) })
	})
}

func (a *app) printCommand(s httpapi.CommandStatus) {
	a.print("%s  %s of %s is %s\n", s.ID, s.Command, s.Stream, s.State)
	switch {
	case s.Reason != "" && s.Code != "":
		a.print("because:  %s (%s)\n", s.Reason, s.Code)
	case s.Reason != "":
		a.print("because:  %s\n", s.Reason)
	}
	for _, f := range s.Findings {
		kind := "warning"
		if f.Fatal {
			kind = "fatal"
		}
		if f.Field != "" {
			f.Text = f.Field + ": " + f.Text
		}
		a.print("%s:  %s\n", kind, f.Text)
	}
	if more := s.FindingCount - len(s.Findings); more > 0 {
		a.print("and %d more findings\n", more)
	}
	a.print("asked by  %s, by way of %s, at %s\n", cmp.Or(s.Actor, "nobody who is named"), s.Source, s.Received.Format(time.RFC3339))
	if !s.Next.IsZero() {
		a.print("goes on at  %s\n", s.Next.Format(time.RFC3339))
	}
	if len(s.Steps) > 0 {
		w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "STEP\tSTATE\tATTEMPTS\tTOOK\tERROR")
		for _, st := range s.Steps {
			took := ""
			if !st.Finished.IsZero() {
				took = st.Finished.Sub(st.Started).String()
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", st.Name, st.State, st.Attempts, took, st.Error)
		}
		w.Flush()
	}
	if s.EntityCount > 0 {
		a.print("wrote to  %s", strings.Join(s.Entities, ", "))
		if more := s.EntityCount - len(s.Entities); more > 0 {
			a.print(" and %d more", more)
		}
		a.print("\n")
	}
	for _, e := range s.History {
		a.print("%3d  %s  %-16s %s\n", e.Version, e.Time, e.Type, compact(e.Data))
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume ID",
		Short:   "Let a command go on that has failed, at the step that is not done",
		Example: "  deed command resume 7f1c",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.askOf(cmd.Context(), given[0], "resume", nil)
		},
	}
}

func (a *app) correctCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "correct ID JSON",
		Short:   "Give an invalid command other parameters, and have it looked at again",
		Long:    "Give an invalid command other parameters: all of them, as JSON, @FILE, or - for standard input.",
		Example: `  deed command correct 7f1c '{"name":"Blackrock"}'`,
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			body, err := a.body(given[1])
			if err != nil {
				return err
			}
			return a.askOf(cmd.Context(), given[0], "correct", body)
		},
	}
}

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "cancel ID",
		Short:   "Call a command off; what its steps did is undone as far as they say how",
		Example: `  deed command cancel 7f1c --reason "sent twice"`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.askOf(cmd.Context(), given[0], "cancel", map[string]string{"reason": reason})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

// askOf asks something about a command, and prints how it stands then.
func (a *app) askOf(ctx context.Context, id, verb string, body any) error {
	return a.with(ctx, func(c *client.Client) error {
		var s httpapi.CommandStatus
		if _, err := c.Do(ctx, http.MethodPost, client.Path(nil, "v1", "commands", id, verb), nil, body, &s); err != nil {
			return err
		}
		return a.show(s, func() {
			a.print("%s  %s of %s is %s\n", s.ID, s.Command, s.Stream, s.State)
			if a.store != "" && !s.State.Over() {
				a.say("%s\n", a.served())
			}
		})
	})
}
