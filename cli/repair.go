package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

func (m machine) cancel() *cobra.Command {
	return m.repair("cancel", "Turn a "+m.kind+" back: what it did is undone, the last thing first", "sent twice", "running")
}

func (m machine) retry() *cobra.Command {
	return m.repair("retry", "Try again at once what is stuck, or going to be tried again later", "the bank is back", "stuck")
}

func (m machine) undo() *cobra.Command {
	return m.repair("undo", "Undo what a "+m.kind+" did, also of one that is completed", "a test", "completed")
}

// repair asks something of one instance, or of many at once.
func (m machine) repair(verb, short, reason, state string) *cobra.Command {
	var actor, why string
	var of many
	name, _, _ := strings.Cut(m.example, " ")
	cmd := &cobra.Command{
		Use:   verb + " [NAME ID]",
		Short: short,
		Long: short + `.

With --state or --all instead of a NAME and ID it is asked of a thousand at
most; --dry-run says of which it would be.`,
		Example: fmt.Sprintf(`  deed %[1]s %[2]s %[3]s --reason %[4]q
  deed %[1]s %[2]s --state %[5]s --name %[6]s --dry-run`, m.kind, verb, m.example, reason, state, name),
		Args: args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			headers, body := m.asking(cmd, actor), map[string]string{"reason": why}
			switch {
			case len(given) == 2 && of == (many{}):
				return m.ask(cmd.Context(), headers, given[0], given[1], verb, body)
			case len(given) > 0 || (of.state == "") == !of.all:
				return usageError{fmt.Errorf("say which: NAME and ID of one, or --state or --all for many\nUsage: %s", cmd.UseLine())}
			}
			return m.askMany(cmd.Context(), headers, verb, of, body)
		},
	}
	f := cmd.Flags()
	f.StringVar(&why, "reason", "", "why")
	actorFlag(f, &actor)
	f.StringVar(&of.state, "state", "", "all that are in this state, for example "+state)
	f.BoolVar(&of.all, "all", false, "all of which it can be asked")
	f.StringVar(&of.name, "name", "", "with --state or --all: only those of this "+m.kind)
	f.BoolVar(&of.dry, "dry-run", false, "with --state or --all: say of which it would be asked, and ask nothing")
	f.StringVar(&of.after, "after", "", "with --state or --all: go on after this mark")
	return cmd
}

// many says which instances something is asked of.
type many struct {
	state, name, after string
	all, dry           bool
}

func (m machine) askMany(ctx context.Context, headers map[string]string, verb string, of many, body map[string]string) error {
	q := url.Values{}
	for name, v := range map[string]string{"state": of.state, "name": of.name, "after": of.after} {
		if v != "" {
			q.Set(name, v)
		}
	}
	for name, set := range map[string]bool{"all": of.all, "dry_run": of.dry} {
		if set {
			q.Set(name, "true")
		}
	}
	m.shows = "instances"
	return m.with(ctx, func(c *client.Client) error {
		var got httpapi.Many
		if _, err := c.Do(ctx, http.MethodPost, client.Path(q, "v1", m.routes, verb), headers, body, &got); err != nil {
			return err
		}
		if got.Refused > 0 {
			m.code = exitConflict
		}
		return m.show(got, func() { m.printMany(verb, got) })
	})
}

func (m machine) printMany(verb string, got httpapi.Many) {
	if got.DryRun {
		m.print("%s would be asked of %d %s: %s\n", verb, got.Count, m.routes, counts(got))
		for _, i := range got.Instances {
			m.print("  %s\n", i)
		}
		if rest := got.Count - len(got.Instances); rest > 0 {
			m.print("  and %d more\n", rest)
		}
	} else {
		m.print("%s was asked of %d %s, and refused of %d of them: %s\n", verb, got.Count, m.routes, got.Refused, counts(got))
		for _, r := range got.Refusals {
			m.print("  %s  %s (%s)\n", r.Instance, r.Detail, r.Code)
		}
		if m.store != "" {
			m.say("%s\n", m.served())
		}
	}
	if got.More {
		m.say("There are more: --after %s\n", got.Next)
	}
}

func counts(got httpapi.Many) string {
	var parts []string
	for _, by := range []map[string]int{got.ByName, got.ByState} {
		for _, name := range slices.Sorted(maps.Keys(by)) {
			parts = append(parts, fmt.Sprintf("%d %s", by[name], name))
		}
	}
	if len(parts) == 0 {
		return "there is none"
	}
	return strings.Join(parts, ", ")
}

func (m machine) skip() *cobra.Command {
	var actor, why string
	use, short, example, n := "skip NAME ID STEP", "Pass over a step that is waited for or stuck, as if it were done", m.example+" pay", 3
	if m.kind == "process" {
		use, short, example, n = "skip NAME ID", "Pass over the command that a stuck process cannot undo", m.example, 2
	}
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: fmt.Sprintf("  deed %s skip %s --reason \"paid by hand\"", m.kind, example),
		Args:    args(cobra.ExactArgs(n)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if why == "" {
				return usageError{errors.New("say why with --reason")}
			}
			body := map[string]string{"reason": why}
			if n == 3 {
				body["step"] = given[2]
			}
			return m.ask(cmd.Context(), m.asking(cmd, actor), given[0], given[1], "skip", body)
		},
	}
	cmd.Flags().StringVar(&why, "reason", "", "why it may be passed over; needed")
	actorFlag(cmd.Flags(), &actor)
	return cmd
}

func (m machine) close() *cobra.Command {
	var actor, why string
	cmd := &cobra.Command{
		Use:     "close NAME ID",
		Short:   "Declare a " + m.kind + " over as it stands: what was left to do was done by hand",
		Example: fmt.Sprintf("  deed %s close %s --reason \"refunded by hand, see ticket 42\"", m.kind, m.example),
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if why == "" {
				return usageError{errors.New("say with --reason what was done by hand")}
			}
			return m.ask(cmd.Context(), m.asking(cmd, actor), given[0], given[1], "close", map[string]string{"reason": why})
		},
	}
	cmd.Flags().StringVar(&why, "reason", "", "what was done by hand; needed")
	actorFlag(cmd.Flags(), &actor)
	return cmd
}
