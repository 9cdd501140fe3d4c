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

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
)

// rebuilds are the commands about rebuilds of a view, below deed view.
func (a *app) rebuilds() []*cobra.Command {
	all := []*cobra.Command{a.rebuild(), a.generations(), a.diff()}
	for _, s := range []struct{ use, step, short, long string }{
		{"switch", "switch", "Show the documents that a rebuild has made, as soon as they have caught up", "The former ones are kept, and kept up to date, for a roll-back."},
		{"rollback", "rollback", "Show the former documents again, as they are now", "Those that are shown at the moment are then the former ones."},
		{"cancel", "cancel", "Give a rebuild up", "The view stays as it is."},
		{"pause", "pause", "Have a rebuild wait, while the view goes on", "It waits over restarts too, until deed view resume."},
		{"resume", "resume", "Let a rebuild that waits go on", ""},
		{"discard", "discard", "Give the former documents up", "There is no way back to them."},
	} {
		all = append(all, &cobra.Command{
			Use: s.use + " NAME", Short: s.short, Long: strings.TrimSpace(s.short + ". " + s.long), Args: args(cobra.ExactArgs(1)),
			Example: "  deed view " + s.use + " order-summaries",
			RunE: func(cmd *cobra.Command, given []string) error {
				if s.step == "rollback" {
					a.shows = given[0]
				}
				return a.with(cmd.Context(), func(c *client.Client) error {
					if s.step == "rollback" { // the former documents may have to catch up
						return a.watchRebuild(cmd.Context(), c, given[0], s.step, nil)
					}
					return a.rebuildStep(cmd.Context(), c, given[0], s.step, nil)
				})
			},
		})
	}
	return all
}

func (a *app) rebuild() *cobra.Command {
	var asked, detach bool
	cmd := &cobra.Command{
		Use:   "rebuild NAME",
		Short: "Fold a view's documents anew, beside those that are shown",
		Long: `Fold a view's documents anew from the first event, beside those that are
shown, and show them when they have caught up; with --asked when you say so:
look at what differs with deed view diff, then deed view switch. The former
documents are kept for deed view rollback. The rebuild is the server's: it goes on
if this command ends.`,
		Example: `  deed view rebuild order-summaries
  deed view rebuild order-summaries --asked && deed view diff order-summaries`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			body := httpapi.RebuildRequest{Switch: httpapi.SwitchAuto}
			if asked {
				body.Switch = httpapi.SwitchAsked
			}
			if !detach {
				a.shows = given[0]
			}
			return a.with(cmd.Context(), func(c *client.Client) error {
				if detach {
					return a.rebuildStep(cmd.Context(), c, given[0], "", body)
				}
				return a.watchRebuild(cmd.Context(), c, given[0], "", body)
			})
		},
	}
	cmd.Flags().BoolVar(&asked, "asked", false, "do not show the new documents before deed view switch")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait")
	return cmd
}

func (a *app) generations() *cobra.Command {
	return &cobra.Command{
		Use: "generations NAME", Short: "Print which documents of a view are shown, built and kept", Args: args(cobra.ExactArgs(1)),
		Example: "  deed view generations order-summaries",
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var s deed.Rebuild
				if _, err := c.Do(cmd.Context(), http.MethodGet, rebuildPath(given[0], ""), nil, nil, &s); err != nil {
					return err
				}
				return a.show(s, func() { a.printRebuild(s) })
			})
		},
	}
}

func rebuildPath(view, step string) string {
	parts := []string{"v1", "rebuilds", view}
	if step != "" {
		parts = append(parts, step)
	}
	return client.Path(nil, parts...)
}

// rebuildStep asks for something to be done about a rebuild; "" begins one.
func (a *app) rebuildStep(ctx context.Context, c *client.Client, view, step string, body any) error {
	var s deed.Rebuild
	if _, err := c.Do(ctx, http.MethodPost, rebuildPath(view, step), nil, body, &s); err != nil {
		return err
	}
	return a.show(s, func() { a.printRebuild(s) })
}

// rebuildLook is how often a rebuild is looked at that somebody waits for.
const rebuildLook = 200 * time.Millisecond

// watchRebuild begins a rebuild, or a rollback, and shows how far it is, until it is shown, or
// waits to be.
func (a *app) watchRebuild(ctx context.Context, c *client.Client, view, step string, body any) error {
	var s deed.Rebuild
	if _, err := c.Do(ctx, http.MethodPost, rebuildPath(view, step), nil, body, &s); err != nil {
		return err
	}
	mine := s.Shown.Generation // it may be over already
	bar := a.bar()
	var total uint64
	for {
		if s.Rebuild != nil {
			mine = s.Rebuild.Generation
			total = max(total, s.Rebuild.Behind)
			bar("rebuild of "+view, total-s.Rebuild.Behind, total)
		}
		switch {
		case s.Rebuild == nil && s.Shown.Generation != mine:
			a.endBar()
			return fmt.Errorf("the rebuild of %s was cancelled", view)
		case s.Rebuild == nil, s.Rebuild.State == "ready":
			a.endBar()
			return a.show(s, func() { a.printRebuild(s) })
		case s.Rebuild.State == "paused", s.Rebuild.State == "elsewhere":
			a.endBar()
			a.say("The rebuild does not go on here: it is %s.\n", s.Rebuild.State)
			return a.show(s, func() { a.printRebuild(s) })
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rebuildLook):
		}
		s = deed.Rebuild{}
		if _, err := c.Do(ctx, http.MethodGet, rebuildPath(view, ""), nil, nil, &s); err != nil {
			return err
		}
	}
}

// endBar ends the line of a bar.
func (a *app) endBar() {
	if isTerminal(a.talk) {
		a.say("\r\x1b[K")
	}
}

func (a *app) printRebuild(s deed.Rebuild) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DOCUMENTS\tGENERATION\tVERSION\tSTATE\tBEHIND\tTO GO")
	fmt.Fprintf(w, "shown\t%d\t%d\t%s\t%d\t\n", s.Shown.Generation, s.Shown.Version, moves(s.Shown.Moves), s.Shown.Behind)
	if p := s.Rebuild; p != nil {
		left := ""
		if p.Left != nil {
			left = time.Duration(*p.Left * float64(time.Second)).Round(time.Second).String()
		}
		fmt.Fprintf(w, "built\t%d\t%d\t%s\t%d\t%s\n", p.Generation, p.Version, p.State, p.Behind, left)
	}
	if f := s.Former; f != nil {
		fmt.Fprintf(w, "former\t%d\t%d\t%s\t%d\t\n", f.Generation, f.Version, moves(f.Moves), f.Behind)
	}
	w.Flush()
}

func moves(m bool) string {
	if m {
		return "up to date"
	}
	return "stands still"
}

func (a *app) diff() *cobra.Command {
	samples := 10
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Print how the documents of a rebuild differ from those that are shown",
		Long: `Compare, row by row, the documents that are shown with those that a rebuild
has made; or, when none is under way, the former ones with those that are shown.
Both as they are at the same place in the log, while they go on.`,
		Example: "  deed view diff order-summaries --samples 100",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var d deed.RebuildDiff
				path := client.Path(url.Values{"samples": {strconv.Itoa(samples)}}, "v1", "rebuilds", given[0], "diff")
				if _, err := c.Do(cmd.Context(), http.MethodGet, path, nil, nil, &d); err != nil {
					return err
				}
				return a.show(d, func() { a.printDiff(d) })
			})
		},
	}
	cmd.Flags().IntVar(&samples, "samples", 10, "show so many documents that differ, up to 1000")
	return cmd
}

func (a *app) printDiff(d deed.RebuildDiff) {
	a.print("%s: generation %d (version %d) and %d (version %d) at position %s\n", d.Name,
		d.Before.Generation, d.Before.Version, d.After.Generation, d.After.Version, d.Position)
	a.print("%d same, %d changed, %d added, %d gone\n", d.Same, d.Changed, d.Added, d.Gone)
	for _, s := range d.Samples {
		a.print("\n%s %s\n", s.Change, s.Key)
		if s.Before != nil {
			a.print("  - %s\n", compact(s.Before))
		}
		if s.After != nil {
			a.print("  + %s\n", compact(s.After))
		}
	}
	if n := d.Changed + d.Added + d.Gone; n > uint64(len(d.Samples)) {
		a.say("%d more differ: --samples shows up to 1000\n", n-uint64(len(d.Samples)))
	}
}
