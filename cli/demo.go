package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/internal/simulate"
)

func (a *app) demo() *cobra.Command {
	d := &demo{app: a}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the program's domains on a fresh folder, with visitors that keep them busy",
		Long: `Run the program's domains on a fresh folder (or the one given), print where to
look, and let visitors play scenarios over the HTTP API until Ctrl-C.

Started again with the same --data, it goes on where it was.`,
		Example: `  deed demo
  deed demo --data ./deed-data        # keeps its data there
  deed demo --rate 500                # for load`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&d.data, "data", "", "folder to keep data in (default: a fresh one)")
	f.StringVar(&d.addr, "addr", "localhost:8080", "address to listen on")
	f.Float64Var(&d.rate, "rate", 0, "commands a second; 0 = the pace of people")
	f.IntVar(&d.visitors, "visitors", 5, "visitors at once")
	f.BoolVar(&d.quiet, "no-visitors", false, "only serve")
	return cmd
}

type demo struct {
	*app
	data     string
	addr     string
	rate     float64
	visitors int
	quiet    bool
}

func (d *demo) run(ctx context.Context) error {
	if d.rate < 0 || d.visitors < 1 {
		return usageError{errors.New("--rate must be 0 or more, --visitors 1 or more")}
	}
	if d.data == "" && d.store == "" {
		dir, err := os.MkdirTemp("", "deed-demo-")
		if err != nil {
			return err
		}
		d.data = dir
	}
	dsn := d.store
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(d.data, "deed.db")
	}
	s, err := d.listen(ctx, dsn, d.addr, nil, access{})
	if err != nil {
		return err
	}
	d.welcome(s, dsn)
	var all sync.WaitGroup
	sim := &simulate.Simulator{Client: client.New(s.url), Visitors: d.visitors, Rate: d.rate, Logger: d.logger()}
	for _, dom := range d.domains {
		sim.Scenarios = append(sim.Scenarios, dom.Scenarios...)
	}
	playing, stop := context.WithCancel(ctx)
	if !d.quiet {
		all.Go(func() { sim.Run(playing) })
		all.Go(func() { d.report(playing, s.rt, sim) })
	}
	// The visitors leave first, so that none finds the door closed.
	err = s.until(afterwards(ctx, func() { stop(); all.Wait() }))
	stop()
	all.Wait()
	again := "--data " + d.data
	if d.store != "" {
		again = "--store " + d.store
	}
	d.say("\nStopped. Go on with: deed demo %s\n", hidden(again))
	return err
}

// afterwards returns a context that is done when ctx is and f has returned.
func afterwards(ctx context.Context, f func()) context.Context {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { f(); cancel() })
	return later
}

func (d *demo) welcome(s *server, dsn string) {
	d.print("%s\n", s.url)
	d.say(`
deed is running.
  data      %s
  what runs %[2]s/v1
  events    %[2]s/v1/events/live      (or: deed events --follow --server %[2]s)
`, dsn, s.url)
	for _, v := range s.rt.Describe().Views {
		d.say("  view      %s/v1/views/%s\n", s.url, v.Name)
	}
	if slices.ContainsFunc(s.rt.Describe().Aggregates, func(a deed.AggregateInfo) bool { return a.Name == "order" }) {
		d.say(`
Ask a command yourself:
  curl -X POST %[1]s/v1/order/my-order/create -d '{"customer":"me"}'
  curl %[1]s/v1/order/my-order
`, s.url)
	}
	d.say("\nCtrl-C stops.\n\n")
	d.warn(s.store)
	d.say("%s", unchecked)
}

// report says now and then what is going on.
func (d *demo) report(ctx context.Context, rt *deed.Runtime, sim *simulate.Simulator) {
	every := 10 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	var before simulate.Counts
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := sim.Counts()
		behind, dead := uint64(0), 0
		for _, f := range rt.Followers().List() {
			behind = max(behind, f.Behind)
			dead += f.Dead + f.Retrying
		}
		head, err := rt.Store().Head(ctx)
		if err != nil {
			head = "?"
		}
		d.say("%s  %d commands (%.1f/s), %d refused by the domain, %s events in the log, views %d behind, %d dead letters%s\n",
			time.Now().Format(time.TimeOnly), now.Asked, float64(now.Asked-before.Asked)/every.Seconds(), now.Refused, head, behind, dead, failures(now))
		before = now
	}
}

func failures(c simulate.Counts) string {
	if c.Failed == 0 {
		return ""
	}
	return fmt.Sprintf(", %d visits failed", c.Failed)
}
