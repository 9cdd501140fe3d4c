package cli

import (
	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/bench"
)

func (a *app) bench() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: appends, commands, reads and views, as ratios to the bare disk",
		Long: `Measure appends, commands, reads and views on SQLite, together with the bare disk
(append and fdatasync) in the same run: the ratios can be compared between
machines, the rates cannot. Takes about five minutes.

With --store it measures a store on a server, in an installation of its own that
is removed afterwards, together with bare inserts or batches on that server, and
what two processes project beside what one does.`,
		Example: `  deed bench
  deed bench --events 100000 --seconds 1
  deed bench --store postgres://deed@localhost/shop`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = a.talk
			measure := bench.Run
			if a.store != "" {
				measure = a.benchStore
			}
			report, err := measure(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.show(report, func() { report.Print(a.out) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder on the disk to measure (default: a fresh one in this folder)")
	f.Float64Var(&o.Seconds, "seconds", 3, "how long to measure each rate")
	f.IntVar(&o.Events, "events", 1_000_000, "events in the log that is read, projected and opened")
	cmd.AddCommand(a.nodeOfBench())
	return cmd
}
