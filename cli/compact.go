package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/client"
)

func (a *app) compact() *cobra.Command {
	var age time.Duration
	var dry bool
	cmd := &cobra.Command{
		Use:   "compact --older-than DURATION",
		Short: "Give up records of commands that nobody needs any more",
		Long: `Give up the records of commands that are older than this, are over, and that
nobody needs any more: neither the command or saga that asked them, nor any
follower or dead letter. Events of entities are never given up.

After that the id of such a command is as good as new: who asks it again has it
done again. So keep commands for as long as anybody may repeat one.

It takes at most half of the store's time, and may be interrupted: the same
command goes on where it was. deed serve --keep-commands does the same every hour.`,
		Example: `  deed compact --older-than 720h --dry-run
  deed compact --older-than 720h
  deed compact --store sqlite:deed.db --older-than 720h --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if age <= 0 {
				return usageError{errors.New("say how old records have to be: --older-than 720h")}
			}
			a.shows = everyView // followers that are behind stand in the way
			return a.with(cmd.Context(), func(c *client.Client) error {
				out, err := a.compactAll(cmd.Context(), c, age, dry)
				if err != nil {
					return err
				}
				return a.show(out, func() { a.printCompacted(out, dry) })
			})
		},
	}
	cmd.Flags().DurationVar(&age, "older-than", 0, "age of the records, for example 720h (needed)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "give up nothing: count what would be")
	return cmd
}

// lateFollowers is for how long a follower that stands in the way may be about to
// say how far it has come: they say so every second.
const lateFollowers = 3 * time.Second

// compactAll asks until all is given up, and adds up what was.
func (a *app) compactAll(ctx context.Context, c *client.Client, age time.Duration, dry bool) (total deed.Compacted, err error) {
	began := time.Now()
	for {
		var out deed.Compacted
		body := map[string]any{"older_than": age.String(), "dry_run": dry}
		if _, err := c.Do(ctx, http.MethodPost, client.Path(nil, "v1", "compaction"), nil, body, &out); err != nil {
			return total, err
		}
		if !dry {
			for category, n := range total.Streams {
				out.Streams[category] += n
			}
			out.Records, out.Kept = out.Records+total.Records, out.Kept+total.Kept
		}
		total = out
		switch {
		case !out.Done:
			a.say("%d records given up so far\n", out.Records)
		case out.WaitsFor == "" || time.Since(began) > lateFollowers:
			return total, nil
		default:
			select {
			case <-ctx.Done():
				return total, ctx.Err()
			case <-time.After(lateFollowers / 10):
			}
		}
	}
}

func (a *app) printCompacted(out deed.Compacted, dry bool) {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CATEGORY\tSTREAMS")
	for _, category := range slices.Sorted(maps.Keys(out.Streams)) {
		fmt.Fprintf(w, "%s\t%d\n", category, out.Streams[category])
	}
	w.Flush()
	were := "were"
	if dry {
		were = "would be"
	}
	a.print("%d records older than %s %s given up\n", out.Records, out.Before.Format(time.DateTime), were)
	if out.Kept > 0 {
		a.print("%d commands as old stay: the command or saga that asked them is not over\n", out.Kept)
	}
	if out.WaitsFor != "" {
		a.say("What comes after waits for %s. Have it handled; a follower that no program has any more can be forgotten: deed followers forget NAME\n", out.WaitsFor)
	}
}

func (a *app) forget() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "forget NAME --reason TEXT", Short: "Remove what is kept of a follower that no program has any more", Args: args(cobra.ExactArgs(1)),
		Example: `  deed followers forget error-files --reason "errors go to the tracker now"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				_, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "followers", given[0], "forget"), nil, map[string]string{"reason": reason}, nil)
				if err != nil {
					return err
				}
				return a.show(map[string]string{"forgotten": given[0]}, func() { a.print("%s is forgotten\n", given[0]) })
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why nobody needs it any more (needed)")
	return cmd
}
