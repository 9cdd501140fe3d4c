package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/deed-dev/deed/store/sqlite"
)

// file is the path of the database that backup and check work on.
func (a *app) file() (string, error) {
	dsn := a.store
	if dsn == "" {
		dsn = "sqlite:deed.db"
	}
	path, ok := strings.CutPrefix(dsn, "sqlite:")
	if !ok || path == "" {
		return "", usageError{fmt.Errorf("--store %q: this command works on SQLite files: sqlite:PATH", dsn)}
	}
	return strings.TrimPrefix(path, "//"), nil
}

func (a *app) backup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy a database to a new file, also while it is in use",
		Example: `  deed backup --store sqlite:deed.db backup-monday.db
  # restore: stop the server, then
  #   cp backup-monday.db deed.db && rm -f deed.db-wal deed.db-shm`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			src, err := a.file()
			if err != nil {
				return err
			}
			p := a.progress("copying")
			err = sqlite.Backup(cmd.Context(), src, given[0], func(done, total int64) { p.at(uint64(done), uint64(total)) })
			p.end()
			if err != nil {
				return err
			}
			info, err := os.Stat(given[0])
			if err != nil {
				return err
			}
			return a.show(map[string]any{"backup": given[0], "bytes": info.Size()},
				func() { a.print("%s: %d bytes\n", given[0], info.Size()) })
		},
	}
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Read a whole database and report what is damaged",
		Long: `Read a whole database, also one that is in use, and report what is damaged:
pages, indexes, checksums of events, streams and documents, gaps in streams. What
was given up (deed compact) is no gap. Exit code 1 if anything is damaged.

On PostgreSQL it reads the whole log, on NATS all documents too: checksums, gaps,
lost messages, and followers that have read more than there is.`,
		Example: `  deed check --store sqlite:deed.db
  deed check --store postgres://deed@db/shop
  deed check --store 'nats://a,nats://b,nats://c'
  deed check --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := a.progress("checking")
			report, err := a.checked(cmd.Context(), p)
			p.end()
			if err != nil {
				return err
			}
			if len(report.Problems) > 0 {
				a.code = exitFailed
			}
			return a.show(report, func() { a.printReport(report) })
		},
	}
}

// checked is the report on a file, or on an installation on a server.
func (a *app) checked(ctx context.Context, p *progress) (sqlite.Report, error) {
	switch scheme, _, _ := strings.Cut(a.store, ":"); scheme {
	case "nats", "tls":
		return a.checkJetStream(ctx, p)
	case "postgres", "postgresql":
		return a.checkPostgres(ctx, p)
	}
	path, err := a.file()
	if err != nil {
		return sqlite.Report{}, err
	}
	return sqlite.Check(ctx, path, p.at)
}

func (a *app) printReport(r sqlite.Report) {
	a.print("%s: %d events in %d streams, %d documents\n", r.Path, r.Events, r.Streams, r.Docs)
	if r.GivenUp > 0 {
		a.print("%d events were given up\n", r.GivenUp)
	}
	for _, p := range r.Problems {
		a.print("  DAMAGED  %s\n", p)
	}
	if r.Omitted > 0 {
		a.print("  and %d more\n", r.Omitted)
	}
	if len(r.Problems) == 0 {
		a.print("sound\n")
		return
	}
	a.say("Restore a backup (deed backup --help), or copy what is readable while it is.\n")
}

// A progress tells people how far something is, if it takes long and somebody
// watches.
type progress struct {
	w     io.Writer // nil = nobody watches
	what  string
	start time.Time
	shown time.Time
}

func (a *app) progress(what string) *progress {
	p := &progress{what: what, start: time.Now()}
	if f, ok := a.talk.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" {
		p.w = f
	}
	return p
}

func (p *progress) at(done, total uint64) {
	if p.w == nil || time.Since(p.shown) < 200*time.Millisecond || time.Since(p.start) < time.Second {
		return
	}
	p.shown = time.Now()
	left := time.Duration(float64(time.Since(p.start)) * (float64(total)/float64(max(done, 1)) - 1)).Round(time.Second)
	fmt.Fprintf(p.w, "\r%s %3d%%, %s left   ", p.what, 100*done/max(total, 1), left)
}

func (p *progress) end() {
	if p.w != nil && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
