package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/internal/verify"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

func (a *app) verify() *cobra.Command {
	var o verify.Options
	var only string
	var f failovers
	cmd := &cobra.Command{
		Use:   "verify --store DSN",
		Short: "Prove on your own database that it keeps what deed promises",
		Long: `Run the suite that every store has to pass against a database of yours: the
whole contract, races between processes, random histories over connections that
stall and break, and on PostgreSQL late commits, forgotten sessions, a dump and
its restore (with pg_dump and psql, if they are on the PATH). It works in schemas, folders or streams of its own, and
removes them afterwards; what is there already it does not touch.

On NATS the leaders of its streams are asked to step down under load. With --kill
it has your own command stop the server that leads, and with --restart start it
again ({server} is its name): this does touch what else runs on that server.`,
		Example: `  deed verify --store postgres://deed@localhost/shop
  deed verify --store sqlite:/mnt/disk/any.db --histories 200
  deed verify --store postgres://deed@localhost/shop --json > report.json
  deed verify --store 'nats://a,nats://b,nats://c?replicas=3&sync=always' --only ^failover \
    --kill 'ssh {server} systemctl kill -s KILL nats' --restart 'ssh {server} systemctl start nats'`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.place()
			if err != nil {
				return err
			}
			c, isCluster := p.(cluster)
			if err := f.check(isCluster); err != nil {
				return err
			}
			switch p.(type) {
			case cluster:
				o.Extra = f.checks(c)
			case database:
				o.Extra = verify.Postgres()
			}
			if o.Only, err = regexp.Compile(only); err != nil {
				return usageError{fmt.Errorf("--only: %w", err)}
			}
			o.Progress, o.Terminal = a.talk, isTerminal(a.talk)
			r, err := verify.Run(cmd.Context(), hidden(a.store), p, o)
			if err != nil {
				return err
			}
			if err := a.show(r, func() { r.Print(a.out) }); err != nil {
				return err
			}
			if r.Failed > 0 {
				a.code = exitFailed
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&only, "only", "", "only checks whose name matches this regular expression, for example ^races")
	flags.IntVar(&o.Races, "races", 200, "rounds of each race")
	flags.IntVar(&o.Histories, "histories", 20, "random histories of each kind")
	flags.Uint64Var(&o.Seed, "seed", 0, "play the histories of this seed again")
	flags.IntVar(&f.rounds, "failovers", 5, "how often leaders step down, or servers are killed")
	flags.StringVar(&f.kill, "kill", "", "shell command that kills the server {server}")
	flags.StringVar(&f.restart, "restart", "", "shell command that starts it again")
	return cmd
}

// isTerminal reports whether people look at what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

var password = regexp.MustCompile(`(://[^:/@,]*):[^@/,]*@`)

// hidden is a DSN without its passwords.
func hidden(dsn string) string { return password.ReplaceAllString(dsn, "$1@") }

// place is where the suite makes its installations.
func (a *app) place() (verify.Place, error) {
	scheme, path, _ := strings.Cut(a.store, ":")
	switch scheme {
	case "sqlite":
		return folder(filepath.Dir(strings.TrimPrefix(path, "//"))), nil
	case "postgres", "postgresql":
		return database(a.store), nil
	case "nats", "tls":
		servers, o, err := natsOptions(a.store)
		if err != nil {
			return nil, usageError{err}
		}
		return cluster{servers, o}, nil
	case "":
		return nil, usageError{errors.New("verify needs --store: the database to prove it on")}
	}
	return nil, usageError{fmt.Errorf("--store %q: verify works on sqlite:PATH, postgres://USER@HOST/DATABASE and nats://HOST", a.store)}
}

// A folder is a place for SQLite files.
type folder string

func (f folder) Fresh(context.Context) (verify.Installation, error) {
	dir, err := os.MkdirTemp(string(f), "deed-verify-")
	return file(dir), err
}

// A file is a SQLite file in a folder of its own.
type file string

func (f file) Open(context.Context, *verify.Net) (store.Store, error) {
	return sqlite.Open(filepath.Join(string(f), "deed.db"), nil)
}

func (f file) Shared() bool               { return false }
func (f file) Drop(context.Context) error { return os.RemoveAll(string(f)) }

// A database is a place for schemas.
type database string

func (d database) Fresh(context.Context) (verify.Installation, error) {
	return schema{string(d), "deed_verify_" + strings.ToLower(rand.Text()[:12])}, nil
}

// A schema is one of a PostgreSQL database.
type schema struct{ dsn, name string }

func (s schema) Open(ctx context.Context, net *verify.Net) (store.Store, error) {
	o := &postgres.Options{Schema: s.name}
	if net != nil {
		o.Dial = net.Dial
	}
	return postgres.Open(ctx, s.dsn, o)
}

func (s schema) Shared() bool { return true }

// Database implements verify.InPostgres.
func (s schema) Database() verify.Database {
	return verify.Database{DSN: postgres.WithoutSchema(s.dsn), Schema: s.name, Events: "events"}
}

func (s schema) Drop(ctx context.Context) error {
	return postgres.Drop(ctx, s.dsn, &postgres.Options{Schema: s.name})
}

// A cluster is a place for JetStream streams.
type cluster struct {
	servers string
	natsSettings
}

func (c cluster) Fresh(context.Context) (verify.Installation, error) {
	c.Name = "deed-verify-" + strings.ToLower(rand.Text()[:12])
	return streams{c}, nil
}

// Streams are those of an installation in a cluster.
type streams struct{ cluster }

func (s streams) Open(_ context.Context, n *verify.Net) (store.Store, error) {
	o := s.natsSettings
	if n != nil {
		o.Connect = append(slices.Clone(o.Connect), nats.SetCustomDialer(dialer{n}))
	}
	return openJetStream(s.servers, o)
}

func (s streams) Shared() bool { return true }

func (s streams) Drop(ctx context.Context) error { return jetstream.Drop(ctx, s.servers, &s.Options) }

// A dialer makes the connections of a Net for NATS.
type dialer struct{ net *verify.Net }

func (d dialer) Dial(network, addr string) (net.Conn, error) {
	return d.net.Dial(context.Background(), network, addr)
}
