package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/bulk"
	"github.com/deed-dev/deed/internal/client"
)

// bulkJob is one run of `deed bulk`.
type bulkJob struct {
	*app
	path    string
	command string
	idField string
	format  string
	actor   string
	types   map[string]string
	run     string
	again   bool
	dryRun  bool
	opts    bulk.Options
	wait    time.Duration

	aggregate, name string // of the command
}

func (a *app) bulk() *cobra.Command {
	j := &bulkJob{app: a}
	cmd := &cobra.Command{
		Use:   "bulk FILE --command AGGREGATE.COMMAND",
		Short: "Ask a command for each line of a CSV or NDJSON file",
		Long: `Ask a command for each line of a CSV or NDJSON file.

What becomes of each line is written to FILE.results.ndjson, in the order of
lines. If it is interrupted, the same command goes on where it was: the id of a
command is made of the file's name (or --run), the command, the line's number
and contents, so nothing is done twice. Lines whose result is written are not
asked again, unless by --again. Commands of one entity (--id-field) are asked in
the order of the file, others side by side.

A CSV file has a header. A dot in a column's name makes an object: total.amount.
An empty cell leaves its field out. A cell that is exactly true, false, null or
a JSON number is that, one that begins with {, [ or " and is JSON is that, any
other is text (007 is); --types says otherwise.

A server that does not answer, or cannot serve, is asked again for --wait. So
long a command is waited for, too, that is handled in the background; one that
is not over then has the status 202. The exit code is 7 if a line was refused.`,
		Example: `  deed bulk orders.csv --command order.create --id-field number --types customer=string
  deed bulk payments.ndjson --command order.pay --id-field order --parallel 32
  deed bulk orders.csv --command order.create --id-field number --dry-run`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			j.path = given[0]
			if err := j.check(); err != nil {
				return usageError{err}
			}
			if j.dryRun {
				return j.dry()
			}
			if a.key != "" && a.store == "" && !cmd.Flags().Changed("actor") {
				j.actor = "" // the key says who asks
			}
			a.creates = true
			return a.with(cmd.Context(), func(c *client.Client) error { return j.ask(cmd.Context(), c) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&j.command, "command", "", "command to ask, for example order.submit")
	f.StringVar(&j.idField, "id-field", "", "column or member that is the entity's id (default: the server makes ids)")
	f.StringVar(&j.format, "format", "", "csv or ndjson (default: by the file's name)")
	f.StringToStringVar(&j.types, "types", nil, "types of CSV columns: name=string, number, boolean or json")
	f.StringVar(&j.run, "run", "", "name of this run, part of the commands' ids (default: the file's name)")
	f.StringVar(&j.actor, "actor", os.Getenv("USER"), "who asks; at a server that checks access, administrators only may say so")
	f.IntVar(&j.opts.Parallel, "parallel", 8, "commands asked at the same time")
	f.DurationVar(&j.wait, "wait", time.Minute, "how long to wait for a server that cannot serve, and for a command that is handled in the background")
	f.BoolVar(&j.again, "again", false, "ask lines again whose result is written; those that are done stay done once")
	f.BoolVar(&j.dryRun, "dry-run", false, "ask nothing: check that every line can be read")
	return cmd
}

// check checks the flags.
func (j *bulkJob) check() error {
	i := strings.LastIndex(j.command, ".")
	if i < 1 || i == len(j.command)-1 {
		return errors.New("bulk needs --command AGGREGATE.COMMAND, for example --command order.submit")
	}
	j.aggregate, j.name = j.command[:i], j.command[i+1:]
	if j.opts.Parallel < 1 || j.opts.Parallel > 256 {
		return errors.New("--parallel must be from 1 to 256")
	}
	if j.format == "" {
		switch strings.ToLower(filepath.Ext(j.path)) {
		case ".csv":
			j.format = "csv"
		case ".ndjson", ".jsonl":
			j.format = "ndjson"
		}
	}
	if !slices.Contains([]string{"csv", "ndjson"}, j.format) {
		return errors.New("say what the file is: --format csv or --format ndjson")
	}
	if len(j.types) > 0 && j.format != "csv" {
		return errors.New("--types is for CSV files: NDJSON has types")
	}
	j.opts.Name, j.opts.Command = cmp.Or(j.run, filepath.Base(j.path)), j.command
	return nil
}

// source opens the file.
func (j *bulkJob) source() (bulk.Source, io.Closer, error) {
	file, err := os.Open(j.path)
	if err != nil {
		return nil, nil, err
	}
	var src bulk.Source
	if j.format == "ndjson" {
		src, err = bulk.NDJSON(file, j.idField)
	} else {
		src, err = bulk.CSV(file, j.idField, j.types)
	}
	if err != nil {
		return nil, nil, errors.Join(usageError{fmt.Errorf("%s: %w", j.path, err)}, file.Close())
	}
	return src, file, nil
}

// dry reads the file to its end.
func (j *bulkJob) dry() error {
	src, file, err := j.source()
	if err != nil {
		return err
	}
	defer file.Close()
	rep, err := bulk.Check(src, func(l bulk.Line) { j.say("line %d: %s\n", l.Number, l.Fault) })
	if err != nil {
		return err
	}
	return j.finish(rep, func() { j.print("%d lines, %d of them cannot be read\n", rep.Lines, rep.Failed) })
}

// ask asks what the file says.
func (j *bulkJob) ask(ctx context.Context, c *client.Client) (err error) {
	if err := j.exists(ctx, c); err != nil {
		return err
	}
	src, file, err := j.source()
	if err != nil {
		return err
	}
	defer file.Close()
	path := j.path + ".results.ndjson"
	lock := flock.New(path)
	if ok, err := lock.TryLock(); err != nil || !ok {
		return errors.Join(fmt.Errorf("%s is in use: the same file is being asked elsewhere", path), err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	results, err := bulk.OpenResults(path, j.again)
	if err != nil {
		return err
	}
	total, err := countLines(j.path)
	if err != nil {
		return err
	}
	bar := j.bar()
	j.opts.Progress = func(line int64) { bar("asking", uint64(line), max(total, uint64(line))) }
	rep, err := bulk.Run(ctx, src, results, func(ctx context.Context, key string, l bulk.Line) (bulk.Result, error) {
		return j.one(ctx, c, key, l)
	}, j.opts)
	j.say("\n")
	if err != nil {
		return fmt.Errorf("%w\nThe results of the %d lines before are written; the same command goes on from there", err, rep.Lines)
	}
	return j.finish(rep, func() {
		j.print("%d lines, %d of them refused (%d were known already): %s\n", rep.Lines, rep.Failed, rep.Known, path)
	})
}

func (j *bulkJob) finish(rep bulk.Report, people func()) error {
	if rep.Failed > 0 {
		j.code = exitRejected
	}
	return j.show(rep, people)
}

// exists makes sure that there is such a command, before every line is told
// that there is none.
func (j *bulkJob) exists(ctx context.Context, c *client.Client) error {
	var info deed.Info
	if _, err := c.Do(ctx, http.MethodGet, "/v1", nil, nil, &info); err != nil {
		return err
	}
	var all []string
	for _, a := range info.Aggregates {
		for _, name := range a.Commands {
			all = append(all, a.Name+"."+name)
		}
	}
	for _, s := range info.Stepwise {
		all = append(all, s.Name)
	}
	if !slices.Contains(all, j.command) {
		return usageError{fmt.Errorf("there is no command %s; there is %s", j.command, strings.Join(all, ", "))}
	}
	return nil
}

// countLines is how many lines a file has, for the progress bar.
func countLines(path string) (n uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	buf := make([]byte, 256<<10)
	for {
		k, err := file.Read(buf)
		n += uint64(strings.Count(string(buf[:k]), "\n"))
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
