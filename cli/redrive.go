package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
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

var errNoLetters = usageError{errors.New("say which dead letters are meant: give their ids, a flag like --fingerprint or --subscription, or --all")}

func (a *app) redrive() *cobra.Command {
	var filter letterFilter
	var all, dry, first bool
	var rate, wait, actor string
	cmd := &cobra.Command{
		Use: "redrive [ID...]", Short: "Try dead letters again, and what waits behind them",
		Long: `Try dead letters again, one, some or all, and what waits behind them, each
sequence in order. Messages of a queue are open again, for its consumers.

Of several, those that had failed when this began are tried once. That is a job: it
goes on when this command ends and when the server is started again. With --first the
others are only tried when the first one is handled.`,
		Example: `  deed dead-letters redrive order-summaries.1207
  deed dead-letters redrive --fingerprint 4f1d2c3b4a59 --dry-run
  deed dead-letters redrive --subscription orders/billing --first --rate 50/s
  deed dead-letters redrive --all --wait 10m`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if len(ids) == 1 && filter.empty() && !all && !dry && !first && rate == "" {
				return a.redriveOne(cmd.Context(), ids[0], a.asking(cmd, actor))
			}
			if len(ids) == 0 && filter.empty() && !all {
				return errNoLetters
			}
			act := filter.act()
			act.IDs, act.All, act.DryRun, act.First = ids, all, dry, first
			if rate != "" {
				n, err := strconv.ParseFloat(strings.TrimSuffix(rate, "/s"), 64)
				if err != nil || !(n > 0) || math.IsInf(n, 0) {
					return usageError{fmt.Errorf("--rate %q: say how many events a second, for example 50/s", rate)}
				}
				act.Rate = n
			}
			return a.actOnLetters(cmd.Context(), "redrive", act, wait, a.asking(cmd, actor))
		},
	}
	f := cmd.Flags()
	filter.flags(f)
	filter.failed(f)
	f.BoolVar(&all, "all", false, "all there are")
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&first, "first", false, "redrive one, look whether it is handled, and only then go on with the rest")
	f.StringVar(&rate, "rate", "", "events a second at most, on average, for example 50/s")
	f.StringVar(&wait, "wait", "1m", "how long to wait for the end; it goes on after that")
	actorFlag(f, &actor)
	return cmd
}

func (a *app) redriveOne(ctx context.Context, id string, headers map[string]string) error {
	a.shows = everyView
	return a.with(ctx, func(c *client.Client) error {
		var r httpapi.Redriven
		if _, err := c.Do(ctx, http.MethodPost, client.Path(nil, "v1", "dead-letters", id, "redrive"), headers, nil, &r); err != nil {
			return err
		}
		return a.show(r, func() {
			if strings.Contains(id, "~") {
				a.print("%s is open again\n", id)
				return
			}
			a.print("%d events handled\n", r.Handled)
		})
	})
}

// actOnLetters does something with several dead letters, and waits for the end.
func (a *app) actOnLetters(ctx context.Context, do string, act httpapi.LetterAct, wait string, headers map[string]string) error {
	patience, err := time.ParseDuration(wait)
	if err != nil || patience < 0 {
		return usageError{fmt.Errorf("--wait %q is no duration, for example 10m", wait)}
	}
	until := time.Now().Add(patience)
	act.Wait = "0s" // to know the job's id, should the server stop
	a.shows = everyView
	return a.with(ctx, func(c *client.Client) error {
		var j deed.LetterJob
		if a.store != "" {
			until = time.Now() // a guest leaves it to the program that serves
		}
		if _, err := c.Do(ctx, http.MethodPost, client.Path(nil, "v1", "dead-letters", do), headers, act, &j); err != nil {
			return err
		}
		for pause := 10 * time.Millisecond; j.State == deed.JobRunning && time.Now().Before(until); {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
			pause = min(2*pause, 200*time.Millisecond)
			id := j.ID
			j = deed.LetterJob{}
			if _, err := c.Do(ctx, http.MethodGet, client.Path(nil, "v1", "dead-letters", "jobs", id), nil, nil, &j); err != nil {
				return fmt.Errorf("%w\nThe job %s goes on when the server does; how it is doing: deed dead-letters jobs", err, id)
			}
		}
		if j.State == deed.JobStopped || j.Failed > 0 {
			a.code = exitFailed
		}
		return a.show(j, func() { a.printJob(j) })
	})
}

func (a *app) printJob(j deed.LetterJob) {
	if j.ID == "" {
		a.print("%s would be asked of %d dead letters, behind which %d wait\n", j.Do, j.Letters, j.Blocks)
		for _, name := range slices.Sorted(maps.Keys(j.ByFollower)) {
			a.print("  %s: %d\n", name, j.ByFollower[name])
		}
		for _, id := range j.Sample[:min(len(j.Sample), 10)] {
			a.print("  %s\n", id)
		}
		return
	}
	a.print("%s of %d dead letters is %s: %s\n", j.Do, j.Letters, j.State, whatCame(j))
	if j.Why != "" {
		a.print("  %s\n", j.Why)
	}
	if j.Failure != "" && j.State != deed.JobStopped {
		a.print("  %s\n", oneLine(j.Failure))
	}
	switch {
	case j.State != deed.JobRunning:
	case a.store != "":
		a.say("It goes on where the store is served: deed serve --store %s\n", a.store)
	default:
		a.say("It goes on. How it is doing: deed dead-letters jobs; call it off: deed dead-letters cancel %s\n", j.ID)
	}
}

// whatCame says in words how far a job has come.
func whatCame(j deed.LetterJob) string {
	if j.Do == deed.DoDiscard {
		return fmt.Sprintf("%d discarded", j.Discarded)
	}
	return fmt.Sprintf("%d events handled, %d failed again", j.Handled, j.Failed)
}

func (a *app) editLetter() *cobra.Command {
	var data, reason, actor string
	var redrive bool
	cmd := &cobra.Command{
		Use: "edit ID --data JSON --reason TEXT", Short: "Have a follower see other data than the event's, and redrive it", Args: args(cobra.ExactArgs(1)),
		Long: `Have the follower of a dead letter, and nobody else, see other data than that of
the event. The event stays as it is; what was there before is kept, with who edited
it, when and why.

Event handlers, receptions, subscriptions and queues can do with that. What projections
and processes make of events has to be what the log says: correct those with an event
that says what is right, or with an upcast.`,
		Example: `  deed dead-letters edit mailer.1207 --data '{"to":"ann@example.org"}' --reason "misprint" --redrive
  deed dead-letters edit mailer.1207 --data @corrected.json --reason "misprint"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			text := []byte(data)
			if path, ok := strings.CutPrefix(data, "@"); ok {
				var err error
				if text, err = os.ReadFile(path); err != nil {
					return usageError{err}
				}
			}
			if !json.Valid(text) {
				return usageError{errors.New("--data is no JSON: give all of the event's data as it is to be seen, or @FILE")}
			}
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				var l httpapi.EditedLetter
				body := httpapi.Editing{Data: text, Reason: reason, Redrive: redrive}
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "dead-letters", given[0], "edit"), a.asking(cmd, actor), body, &l); err != nil {
					return err
				}
				return a.show(l, func() {
					a.print("%s is edited\n", l.ID)
					if l.Redriven != nil {
						a.print("%d events handled\n", l.Redriven.Handled)
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "all of the event's data as it is to be seen, or @FILE (needed)")
	f.StringVar(&reason, "reason", "", "why it may be other than the event's (needed)")
	f.BoolVar(&redrive, "redrive", false, "then try it again")
	actorFlag(f, &actor)
	return cmd
}

func (a *app) discard() *cobra.Command {
	var filter letterFilter
	var reason, wait, actor string
	var all, dry bool
	cmd := &cobra.Command{
		Use: "discard [ID...] --reason TEXT", Short: "Give dead letters up and let those behind them go on",
		Long: `Give dead letters up, one, some or all, and let those go on that wait behind them.
The events stay in their streams, and of each letter a note is kept: deed dead-letters
list --state discarded.`,
		Example: `  deed dead-letters discard order-summaries.1207 --reason "test data"
  deed dead-letters discard --fingerprint 4f1d2c3b4a59 --reason "test data" --dry-run`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if len(ids) == 0 && filter.empty() && !all {
				return errNoLetters
			}
			if len(ids) != 1 || !filter.empty() || all || dry {
				act := filter.act()
				act.IDs, act.All, act.DryRun, act.Reason = ids, all, dry, reason
				return a.actOnLetters(cmd.Context(), "discard", act, wait, a.asking(cmd, actor))
			}
			a.shows = everyView
			return a.with(cmd.Context(), func(c *client.Client) error {
				_, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "dead-letters", ids[0], "discard"), a.asking(cmd, actor), map[string]string{"reason": reason}, nil)
				if err != nil {
					return err
				}
				return a.show(map[string]string{"discarded": ids[0]}, func() { a.print("%s is discarded\n", ids[0]) })
			})
		},
	}
	f := cmd.Flags()
	filter.flags(f)
	filter.failed(f)
	f.StringVar(&reason, "reason", "", "why they may be passed over (needed)")
	f.BoolVar(&all, "all", false, "all there are")
	f.BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	f.StringVar(&wait, "wait", "1m", "how long to wait for the end; it goes on after that")
	actorFlag(f, &actor)
	return cmd
}

func (a *app) letterJobs() *cobra.Command {
	return &cobra.Command{
		Use: "jobs", Short: "List what is being done with many dead letters, and what was", Args: args(cobra.NoArgs),
		Example: "  deed dead-letters jobs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var all httpapi.LetterJobs
				if _, err := c.Do(cmd.Context(), http.MethodGet, "/v1/dead-letters/jobs", nil, nil, &all); err != nil {
					return err
				}
				return a.show(all, func() {
					w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
					fmt.Fprintln(w, "ID\tDO\tSTATE\tLETTERS\tSO FAR\tBEGUN\tBY\tWHY")
					for _, j := range all.Jobs {
						fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", j.ID, j.Do, j.State, j.Letters, whatCame(j), j.Begun.Format(time.DateTime), j.By, oneLine(j.Why))
					}
					w.Flush()
				})
			})
		},
	}
}

func (a *app) cancelJob() *cobra.Command {
	var reason, actor string
	cmd := &cobra.Command{
		Use: "cancel JOB", Short: "Call off what is being done with many dead letters", Args: args(cobra.ExactArgs(1)),
		Example: `  deed dead-letters cancel 0198f3a5-1c2d-7abc-8def-0123456789ab --reason "the place is down again"`,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.with(cmd.Context(), func(c *client.Client) error {
				var j deed.LetterJob
				if _, err := c.Do(cmd.Context(), http.MethodPost, client.Path(nil, "v1", "dead-letters", "jobs", given[0], "cancel"), a.asking(cmd, actor), map[string]string{"reason": reason}, &j); err != nil {
					return err
				}
				return a.show(j, func() { a.printJob(j) })
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	actorFlag(cmd.Flags(), &actor)
	return cmd
}
