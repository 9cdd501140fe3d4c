package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/copylog"
	"github.com/deed-dev/deed/store"
)

func (a *app) copy() *cobra.Command {
	var from, to string
	var o copylog.Options
	cmd := &cobra.Command{
		Use:   "copy --from DSN --to DSN",
		Short: "Move a log to another store, keeping ids, versions, order and times",
		Long: `Move a log to another store, keeping ids, versions, order, times and
circumstances; then read it there and compare checksums. If it is interrupted,
the same command goes on where it was.

Views and checkpoints are not moved: the followers build them anew at the
target. Stop the servers of the source before, or what they append after this
has begun stays behind; nobody may append to the target meanwhile.`,
		Example: `  deed copy --from sqlite:deed.db --to postgres://deed@db/shop
  deed copy --from postgres://deed@db/shop --to sqlite:archive.db
  deed copy --from sqlite:deed.db --to postgres://deed@db/shop --verify-only`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if from == "" || to == "" || from == to {
				return usageError{errors.New("copy needs two stores: --from DSN --to DSN")}
			}
			source, err := openStore(cmd.Context(), from, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, source.Close()) }()
			target, err := openStore(cmd.Context(), to, o.VerifyOnly)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, target.Close()) }()
			if reason := store.VolatileReason(target); reason != "" {
				a.say("NOT DURABLE: %s\n", reason)
			}
			o.Progress = a.bar()
			r, err := copylog.Run(cmd.Context(), source, target, o)
			a.say("\n")
			if err != nil {
				return err
			}
			return a.show(r, func() {
				a.print("%d records, %d of them were there already; both logs have the checksum %s\n", r.Records, r.Found, r.Checksum)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "store to read: "+dsnHelp)
	f.StringVar(&to, "to", "", "store to write")
	f.BoolVar(&o.VerifyOnly, "verify-only", false, "copy nothing: compare the logs")
	return cmd
}

// bar shows progress: on a terminal a line that is written again, elsewhere a
// line now and then.
func (a *app) bar() func(doing string, done, total uint64) {
	terminal := isTerminal(a.talk)
	var doing string
	var began, next time.Time
	var from uint64
	return func(what string, done, total uint64) {
		now := time.Now()
		if what != doing {
			doing, began, from = what, now, done
		}
		if now.Before(next) {
			return
		}
		rate := float64(done-from) / max(now.Sub(began).Seconds(), 0.001)
		left := "?"
		if rate > 0 && total >= done {
			left = time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second).String()
		}
		line := fmt.Sprintf("%s  %d of %d (%d %%), %.0f/s, %s to go", what, done, total, 100*done/max(total, 1), rate, left)
		if terminal {
			next = now.Add(200 * time.Millisecond)
			a.say("\r\x1b[K%s", line)
			return
		}
		next = now.Add(5 * time.Second)
		a.say("%s\n", line)
	}
}
