// Package postgres keeps everything in a schema of a PostgreSQL database, 13
// or newer. Several programs may use the same schema at once.
//
// The position of an event comes from a one-row table whose row is locked until
// the commit: positions are handed out in the order of commits, so a reader
// who has seen one has seen everything before it. A sequence cannot promise
// that, and neither can transaction ids. The lock would make many small appends
// slow, so each process puts everything that waits into one transaction (group
// commit), and each append gets its own verdict.
//
// It works behind a pooler in transaction mode: nothing depends on a session.
// Notifications, which do, are hints; without them readers look now and then.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/internal/groupcommit"
)

// Options adjust a Store. The zero Options are fine.
type Options struct {
	// Schema holds the tables, so that several installations can share a
	// database. Default: the parameter "schema" of a URL, or "deed".
	Schema string
	// Timeout is how long the server may take for one transaction; then it
	// counts as unavailable. Default: 15 s.
	Timeout time.Duration
	// LockTimeout is how long an append waits for others that hold the head of
	// the log, at most half of Timeout. Default: 5 s.
	LockTimeout time.Duration
	// MustExist refuses to create an installation.
	MustExist bool
	// Dial makes connections; default: a net.Dialer. Tests disturb them.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// A Store is a [store.Store] in a PostgreSQL database.
type Store struct {
	pool    *pgxpool.Pool
	opts    Options
	pooled  bool   // there is a pooler in between
	unsafe  string // why the server may lose what it acknowledged, or ""
	commit  string // what synchronous_commit must be
	names   names
	known   known // belongs to the goroutine that appends
	recent  recent
	appends *groupcommit.Queue[*appending]
	writes  *groupcommit.Queue[*writing]
	all     sync.WaitGroup
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	stopped chan struct{} // closed when nobody works any more
	once    sync.Once

	head    atomic.Uint64 // the highest position known to be committed
	waiting atomic.Int64  // how many wait for the head to move
	hinted  atomic.Bool   // notifications arrive
	hasOwn  atomic.Bool   // the schema of programs' own tables is there
	mu      sync.Mutex
	grown   chan struct{} // closed and replaced when the head moves
	moved   chan struct{} // asks for others to be notified
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Open connects to the database named by a URL (postgres://user@host/db, with
// several hosts and target_session_attrs=read-write for a server with standbys)
// or a list of settings ("host=... dbname=..."), and creates or migrates its
// schema.
func Open(ctx context.Context, dsn string, opts *Options) (_ *Store, err error) {
	s := &Store{grown: make(chan struct{}), moved: make(chan struct{}, 1), stopped: make(chan struct{})}
	s.appends = groupcommit.New[*appending](s.stopped, errClosed)
	s.writes = groupcommit.New[*writing](s.stopped, errClosed)
	if opts != nil {
		s.opts = *opts
	}
	cfg, err := s.configure(dsn)
	if err != nil {
		return nil, err
	}
	if err = s.connect(ctx, cfg); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.pool.Close()
		}
	}()
	if err := s.settings(ctx); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	if err := s.names.load(ctx, s); err != nil {
		return nil, s.failure(err)
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.all.Go(func() { serve(s, s.appends, s.appendBatch) })
	s.all.Go(func() { serve(s, s.writes, s.writeBatch) })
	s.all.Go(s.notify)
	s.all.Go(s.listen)
	return s, nil
}

// connect opens a pool. Statements are prepared once in each connection; but
// behind a pooler, which gives the connection to others in between, they are
// sent every time. A pooler shows by the number it gives the server process.
func (s *Store) connect(ctx context.Context, cfg *pgxpool.Config) error {
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		var pid uint32
		err := c.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid)
		s.pooled = pid != c.Conn().PgConn().PID()
		return err
	})
	pool.Close()
	if err != nil {
		return fmt.Errorf("%w: postgres: %w", store.ErrUnavailable, err)
	}
	if s.pooled {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	} else {
		cfg.AfterConnect = s.prepare
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// prepare gives a connection the settings of all transactions.
func (s *Store) prepare(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('lock_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $2, false),
		set_config('default_transaction_isolation', 'read committed', false), set_config('default_transaction_read_only', 'off', false),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' WHEN 'local' THEN 'on'
			ELSE current_setting('synchronous_commit') END, false)`, millis(s.opts.LockTimeout), millis(s.patience(0)))
	return err
}

// configure reads the DSN.
func (s *Store) configure(dsn string) (*pgxpool.Config, error) {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" && s.opts.Schema == "" {
		s.opts.Schema = u.Query().Get("schema")
	}
	dsn = WithoutSchema(dsn)
	if s.opts.Schema == "" {
		s.opts.Schema = "deed"
	}
	if !schemaName.MatchString(s.opts.Schema) {
		return nil, fmt.Errorf("postgres: schema %q: use small letters, digits and _, at most 63", s.opts.Schema)
	}
	if s.opts.Timeout <= 0 {
		s.opts.Timeout = 15 * time.Second
	}
	if s.opts.LockTimeout <= 0 {
		s.opts.LockTimeout = 5 * time.Second
	}
	s.opts.LockTimeout = min(s.opts.LockTimeout, s.opts.Timeout/2) // so that the server answers first
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err) // pgx hides passwords
	}
	cfg.MaxConns = max(cfg.MaxConns, 8)
	if s.opts.Dial != nil {
		cfg.ConnConfig.DialFunc = s.opts.Dial
	}
	if len(cfg.ConnConfig.Fallbacks) > 0 && cfg.ConnConfig.ValidateConnect == nil {
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // of several hosts, the one that takes appends
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	if _, set := cfg.ConnConfig.RuntimeParams["application_name"]; !set {
		cfg.ConnConfig.RuntimeParams["application_name"] = "deed"
	}
	return cfg, nil
}

// settings asks the server whether it keeps what it acknowledges.
func (s *Store) settings(ctx context.Context) error {
	var sync, commit, pages, encoding string
	err := s.pool.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
		current_setting('server_encoding')`).Scan(&sync, &commit, &pages, &encoding)
	if err != nil {
		return s.failure(err)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("postgres: the database has encoding %s, which cannot hold all names: use one created with ENCODING 'UTF8'", encoding)
	}
	if s.commit = commit; commit == "off" || commit == "local" {
		s.commit = "on" // asked for in every transaction
	}
	if sync != "on" || pages != "on" {
		s.unsafe = fmt.Sprintf("PostgreSQL with fsync=%s and full_page_writes=%s: a power cut loses acknowledged events", sync, pages)
	}
	return nil
}

// Volatile says what a server with careless settings may lose.
func (s *Store) Volatile() string { return s.unsafe }

// Shared says that several processes may use the store.
func (s *Store) Shared() bool { return true }

// Schema is the schema that holds the tables.
func (s *Store) Schema() string { return s.opts.Schema }

// sql puts the schema into a query: a pooler keeps no search path.
func (s *Store) sql(query string) string { return strings.ReplaceAll(query, "{}", s.opts.Schema) }

// Close waits for what is being written, and disconnects.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.cancel()
		s.all.Wait()
		close(s.stopped)
		s.pool.Close()
		s.announce(0)
	})
	return nil
}

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

func (s *Store) usable(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return errClosed
	}
	return ctx.Err()
}

// within bounds how long the server may take to answer a reader. Close ends it.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// failure gives an error of the server or the network its meaning.
func (s *Store) failure(err error) error {
	switch {
	case err == nil, isStatement(err), errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrUnknown), errors.Is(err, store.ErrCorrupt),
		errors.Is(err, store.ErrInvalid), errors.Is(err, store.ErrNotFound):
		return err
	case s.ctx != nil && s.ctx.Err() != nil:
		return errClosed
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: postgres: %w", store.ErrUnavailable, err)
}

// WithoutSchema returns a DSN that other programs understand.
func WithoutSchema(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn
	}
	q := u.Query()
	q.Del("schema")
	u.RawQuery = q.Encode()
	return u.String()
}

// Drop deletes an installation: the schema and all that is in it.
func Drop(ctx context.Context, dsn string, opts *Options) error {
	s := &Store{}
	if opts != nil {
		s.opts = *opts
	}
	cfg, err := s.configure(dsn)
	if err != nil {
		return err
	}
	c, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	_, err = c.Exec(ctx, "DROP SCHEMA IF EXISTS "+s.opts.Schema+", "+s.ownSchema()+" CASCADE")
	return errors.Join(err, c.Close(ctx))
}
