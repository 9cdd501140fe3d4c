package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/contract"
)

func (a *app) schemas() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Keep the formats of stored and public events",
		Long: `Keep the formats of stored and public events: their JSON Schemas are recorded in
a folder, one file for each, which belongs to the sources of the program. A
change of the program that breaks what is stored, or what others rely on, is
found before it does. Neither a server nor a store is needed.`,
		Example: `  deed schema write
  deed schema check`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("schema needs one of check and write")}
		},
	}
	cmd.AddCommand(a.schemaCheck(), a.schemaWrite())
	return cmd
}

func (a *app) schemaCheck() *cobra.Command {
	var dir string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find changes that break what is stored or what others rely on",
		Long: `Find changes that break what is stored or what others rely on: a field that is
gone, has another type or fewer values, or is required and was not; an event
whose name is gone and is neither in Legacy nor in Upcasts; a type of public
events that is gone. Each is one line that says what to do instead. The exit
code is then 1.

What may change may: fields that can be missing, new events. With --strict it
has to be recorded too.`,
		Example: `  deed schema check --strict
  deed schema check --dir api/schemas --json`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			report, err := a.compare(dir, true)
			if err != nil {
				return err
			}
			if len(report.Broken) > 0 || strict && len(report.Unrecorded) > 0 {
				a.code = exitFailed
			}
			return a.show(report, func() { a.findings(report) })
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "schemas", "the folder of the schemas")
	cmd.Flags().BoolVar(&strict, "strict", false, "what has changed as it may has to be recorded")
	return cmd
}

func (a *app) schemaWrite() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "write",
		Short: "Record the formats as they are",
		Long: `Record the formats as they are: those that are new, and those that have changed
as they may. If a change breaks something, nothing is written. A file is never
deleted: events of that name may be stored. Delete one by hand if you know that
there are none.`,
		Example: `  deed schema write
  deed schema write --dir api/schemas`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			report, err := a.compare(dir, false)
			if err != nil {
				return err
			}
			if len(report.Broken) > 0 {
				a.code = exitFailed
				return a.show(report, func() { a.findings(report) })
			}
			if err := report.Record(); err != nil {
				return err
			}
			return a.show(report, func() {
				for _, u := range report.Unrecorded {
					a.print("%s\n", u.File)
				}
				a.say("%d written.\n", len(report.Unrecorded))
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "schemas", "the folder of the schemas")
	return cmd
}

// compare holds the program's formats against a folder.
func (a *app) compare(dir string, there bool) (contract.Report, error) {
	if _, err := os.Stat(dir); there && errors.Is(err, fs.ErrNotExist) {
		return contract.Report{}, advised{fmt.Errorf("there is no folder %s: %w", dir, fs.ErrNotExist), "Record the formats with `deed schema write`, or name another folder with --dir."}
	}
	rt, err := a.still()
	if err != nil {
		return contract.Report{}, err
	}
	return contract.Of(rt).Compare(dir)
}

// findings says what has changed.
func (a *app) findings(r contract.Report) {
	for _, f := range r.Broken {
		a.print("%s\n", f)
	}
	for _, u := range r.Unrecorded {
		a.say("%s: record it with `deed schema write`\n", u)
	}
	if len(r.Broken)+len(r.Unrecorded) == 0 {
		a.say("All formats are as recorded.\n")
	}
}
