// Package cli is the command line of a program made of deed domains:
//
//	func main() { cli.Main(orders.Domain, conference.Domain) }
//
// It serves the domains over HTTP and looks after what they stored. Data go
// to standard output, talk to standard error; with --json both a person and a
// program can read every answer.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // schedules name time zones, and a machine need not have any

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/store"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitDenied      = 5 // because of who asks, or how often
	exitUnavailable = 6
	exitRejected    = 7 // the domain said no, or the input is invalid
)

// defaultServer is where a server listens unless it is told otherwise.
const defaultServer = "http://localhost:8080"

// gcPercent trades memory for time: records live briefly, what stays is small.
// Reading streams is a fifth faster than with Go's 100, for some 25 MiB.
const gcPercent = 300

// Main runs the command line of a program made of domains, and exits.
func Main(domains ...deed.Domain) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, domains...)
	stop()
	os.Exit(code)
}

// Run is Main without the process: it returns the exit code.
func Run(ctx context.Context, args []string, in io.Reader, out, talk io.Writer, domains ...deed.Domain) int {
	a := &app{domains: domains, in: in, out: out, talk: talk}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(talk)
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, errQuiet) {
		return a.code
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitOK // Ctrl-C is how one ends a tail
	}
	a.complain(err)
	return exitCode(err)
}

// complain says what went wrong, to people or to programs.
func (a *app) complain(err error) {
	if !a.json {
		fmt.Fprintln(a.talk, "deed:", explain(err))
		return
	}
	var p httpapi.Problem
	if !errors.As(err, &p) {
		p = httpapi.Problem{Title: "failed", Code: "failed", Detail: explain(err)}
	}
	json.NewEncoder(a.talk).Encode(p) // there is nobody else to tell
}

// errQuiet ends a command that has said itself what is wrong.
var errQuiet = errors.New("quiet")

type usageError struct{ error }

// advised is an error together with what can be done about it.
type advised struct {
	error
	advice string
}

// Unwrap returns the error.
func (a advised) Unwrap() error { return a.error }

func exitCode(err error) int {
	var p httpapi.Problem
	var u usageError
	var gone client.Unreachable
	switch {
	case errors.As(err, &u), strings.HasPrefix(err.Error(), "unknown command"): // cobra has no type for it
		return exitUsage
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case errors.As(err, &gone), errors.Is(err, store.ErrUnavailable):
		return exitUnavailable
	case errors.As(err, &p):
		switch p.Code {
		case httpapi.CodeNotFound:
			return exitNotFound
		case httpapi.CodeConflict, httpapi.CodeInProgress, httpapi.CodeIdempotencyMismatch:
			return exitConflict
		case httpapi.CodeForbidden, httpapi.CodeUnauthenticated, httpapi.CodeQuotaExceeded:
			return exitDenied
		case httpapi.CodeUnavailable, httpapi.CodeOutcomeUnknown:
			return exitUnavailable
		case httpapi.CodeRejected, httpapi.CodeInvalid, httpapi.CodeTooLarge:
			return exitRejected
		}
	}
	return exitFailed
}

// explain says what went wrong and, where there is one, what to do next.
func explain(err error) string {
	var p httpapi.Problem
	var gone client.Unreachable
	var what advised
	switch {
	case errors.As(err, &what):
		return explain(what.error) + "\n" + what.advice
	case errors.As(err, &p):
		s := p.Detail + " (" + p.Code
		if p.Reason != "" {
			s += ", " + p.Reason
		}
		if s += ")"; p.Code == httpapi.CodeUnauthenticated {
			s += "\nShow a key with DEED_KEY or --key @FILE; `deed key create` makes one."
		}
		return s
	case errors.As(err, &gone):
		return err.Error() + "\nStart one with `deed serve`, or name another with --server, or read a file directly with --store sqlite:PATH."
	}
	return err.Error()
}

// app is one run of the command line.
type app struct {
	domains []deed.Domain
	in      io.Reader
	out     io.Writer // data
	talk    io.Writer // everything else
	code    int

	json    bool
	server  string
	store   string
	config  string
	key     string // of this program's user, at the server
	verbose bool
	views   string // DSN of a store for documents; "" = the same
	node    string
	lease   time.Duration
	keep    time.Duration // of records of commands; 0 = for ever

	askSwitch bool    // documents of a new version wait to be asked before they are shown
	tell      telling // of a server
	creates   bool    // a store that is not there is made
	shows     string  // the view that has to show what the log says; everyView = all
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "deed",
		Short: "Run event-sourced applications and look after what they stored",
		Long: `deed runs event-sourced applications and looks after what they stored.

Start with ` + "`deed demo`" + `: it runs the domains of this program on a fresh folder,
with visitors that keep them busy, and says where to look.

Commands that read or change something talk to a running server (--server), or
open a store themselves (--store) when no server has it open.

Every flag can also be set by an environment variable (--server is DEED_SERVER)
or in a file (--config, or deed.json in this folder: {"server": "..."}); a flag
wins over the environment, the environment over the file.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict,
5 denied or over a quota, 6 unavailable, 7 rejected or invalid.`,
		Example: `  deed demo
  deed exec order o-1 create '{"customer":"ann"}'
  deed exec league Striders create '{"name":"Striders","date_incorporated":"2016-04-01"}' --actor ann
  deed command list --state failed
  deed saga list --state stuck
  deed stream order/o-1
  deed events --follow --category order
  deed view order-summaries --where status=Draft --sort -created_at`,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.configure(cmd) },
	}
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "answer in JSON")
	f.StringVar(&a.server, "server", defaultServer, "the server to talk to")
	f.StringVar(&a.store, "store", "", "open a store instead of talking to a server: "+dsnHelp)
	f.StringVar(&a.views, "views", "", "keep views and checkpoints in another store than --store, for example sqlite:views.db")
	f.StringVar(&a.key, "key", "", "the API key or token to show to the server, or @FILE; better set DEED_KEY, which other users of the machine do not see")
	f.StringVar(&a.config, "config", "", "file of settings (default deed.json, if there is one)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log every request")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.demo(), a.serve(), a.exec(), a.bulk(), a.streamCommand(), a.eventsCommand(), a.view(), a.group(), a.blame(), a.query(),
		a.command(), a.sagas(), a.processes(), a.task(), a.topics(), a.subscriptions(), a.queue(), a.receptions(), a.senders(), a.maps(), a.openAPI(), a.asyncAPI(), a.schemas(), a.followers(), a.nodes(), a.deadLetters(), a.keys(), a.backup(), a.check(), a.compact(), a.verify(), a.copy(), a.bench(), a.version(),
	)
	return root
}

func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.talk, &slog.HandlerOptions{Level: level}))
}

// say talks to people.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.talk, format, args...) }

// more says how to go on after a page, if that was not all.
func (a *app) more(next string) {
	if next != "" {
		a.say("There is more: --after %s\n", next)
	}
}

// print writes data for people.
func (a *app) print(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// show writes v as JSON, or has it written for people.
func (a *app) show(v any, people func()) error {
	if !a.json {
		people()
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := programVersion()
			return a.show(map[string]string{"version": v}, func() { a.print("deed %s\n", v) })
		},
	}
}

func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// args makes usage errors of wrong numbers of arguments.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usageError{fmt.Errorf("%w\nUsage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
