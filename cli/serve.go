package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/store"
)

// grace is how long requests may take to end when the program stops.
const grace = 10 * time.Second

func (a *app) serve() *cobra.Command {
	var addr string
	var hosts []string
	var inboxDir string
	var subscriptions, senders, consumers string
	var who access
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the program's domains over HTTP",
		Example: `  deed serve
  deed serve --store sqlite:/var/lib/shop/deed.db --addr :8080
  deed serve --inbox /var/spool/shop       # take commands in as files, too
  deed serve --auth keys                   # whoever asks needs a key, see deed key
  deed serve --keep-commands 720h          # see deed compact
  deed serve --oidc-issuer https://id.example.com --oidc-audience shop`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkInbox(inboxDir); err != nil {
				return err
			}
			dsn := a.store
			if dsn == "" {
				dsn = "sqlite:deed.db"
			}
			s, err := a.listen(cmd.Context(), dsn, addr, hosts, who)
			if err != nil {
				return err
			}
			a.say("deed serves %s on %s\n", hidden(dsn), s.url)
			a.warn(s.running.store)
			a.announce(cmd.Context(), s.guard, dsn)
			if err := a.subscribe(cmd.Context(), s.rt, subscriptions); err != nil {
				return errors.Join(err, s.running.stop())
			}
			if err := a.welcome(cmd.Context(), s.rt, senders); err != nil {
				return errors.Join(err, s.running.stop())
			}
			return a.withConsumers(cmd.Context(), s, consumers, func(ctx context.Context) error { return a.withInbox(ctx, s, inboxDir) })
		},
	}
	cmd.Flags().StringVar(&addr, "addr", "localhost:8080", "address to listen on")
	a.tell.flags(cmd)
	cmd.Flags().StringVar(&inboxDir, "inbox", "", "folder to take commands in from, which has to be there: DIR/<aggregate>.<command>/<command id>.json")
	cmd.Flags().StringVar(&subscriptions, "subscriptions", "", "file of subscriptions that are made or changed when the program starts: a JSON list, each with topic, name, target ...")
	cmd.Flags().StringVar(&senders, "senders", "", "file of senders that are made or changed when the program starts: a JSON list, each with reception, name, format, proof ...")
	cmd.Flags().StringVar(&consumers, "consumers", "", "file of consumers of brokers whose messages become commands: a JSON list, each with name, reception, from ...")
	cmd.Flags().StringVar(&a.node, "node", "", "name of this process among those that share the store (default: host, process id and something random)")
	cmd.Flags().DurationVar(&a.lease, "lease", 6*time.Second, "after which others take over from a node that is silent")
	cmd.Flags().BoolVar(&a.askSwitch, "ask-switch", false, "have views that are rebuilt because of a new version wait for deed view switch")
	cmd.Flags().DurationVar(&a.keep, "keep-commands", 0, "how long to keep records of commands that nobody needs, for example 720h; then the id of a command is as good as new (default: for ever)")
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "name under which the server is reached, for example through a proxy; may be repeated (default: this machine's only, on a loopback address)")
	who.flags(cmd.Flags())
	return cmd
}

// names returns the hosts that a server on an address answers to: on a loopback
// address those of this machine, so that no page in a browser can reach it
// under a name of its own; elsewhere any, unless some are given.
func names(addr net.Addr, given []string) []string {
	ip := net.IP{}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		ip = tcp.IP
	}
	if !ip.IsLoopback() && len(given) == 0 {
		return nil
	}
	out := []string{"localhost", "127.0.0.1", "::1", ip.String()}
	for _, h := range given {
		out = append(out, strings.ToLower(h))
	}
	return out
}

// warn says what a server without further precautions is not.
func (a *app) warn(s store.Store) {
	if reason := store.VolatileReason(s); reason != "" {
		a.say("NOT DURABLE: %s\n", reason)
	}
}

// A server is a runtime behind a listener.
type server struct {
	*running
	guard guard
	url   string
	http  *http.Server
	done  chan error
	end   context.CancelFunc // of requests without an end, such as the live tail
}

// listen starts the domains and serves them.
func (a *app) listen(ctx context.Context, dsn, addr string, hosts []string, who access) (*server, error) {
	tokens, err := who.tokens()
	if err != nil {
		return nil, err
	}
	if addr == "" { // would be any port, on all addresses
		return nil, usageError{errors.New("--addr is empty: say where to listen, for example --addr localhost:8080")}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w; choose another address with --addr HOST:PORT, for example --addr localhost:8081", err)
	}
	r, err := a.start(ctx, dsn, false, false, a.logger())
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	g := who.guard(r.store, tokens)
	s := &server{running: r, guard: g, url: "http://" + ln.Addr().String(), done: make(chan error, 1)}
	s.http = httpapi.NewServer(httpapi.New(r.rt, httpapi.Options{Logger: a.logger(), Version: programVersion(), Hosts: names(ln.Addr(), hosts), Auth: g.Authenticator, Keys: g.keys}))
	base, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	s.http.BaseContext = func(net.Listener) context.Context { return base }
	go func() { s.done <- s.http.Serve(ln) }()
	return s, nil
}

// until serves until ctx is done, then lets what has begun end.
func (s *server) until(ctx context.Context) error {
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-s.done:
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	stop := time.AfterFunc(200*time.Millisecond, s.end) // tails have no end of their own
	defer stop.Stop()
	err := s.http.Shutdown(stopping)
	s.end()
	return errors.Join(failed, err, s.running.stop())
}
