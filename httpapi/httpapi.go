// Package httpapi serves a runtime over HTTP: commands, states, streams, the
// log, views, followers and dead letters, as JSON. Package docs/http.md says
// what each route does.
package httpapi

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/internal/inbound"
	"github.com/deed-dev/deed/internal/schema"
)

// Options adjust a handler. The zero Options are fine.
type Options struct {
	Logger  *slog.Logger // of requests; default: slog.Default()
	MaxBody int64        // bytes in the body of a request; default 1 MiB
	Version string       // of the program, as /v1 reports it

	// Hosts are the names under which the server is reached; requests that name
	// another host are refused, so that no page can reach a server on the
	// machine it is looked at with by giving that a name of its own. None = any.
	Hosts []string

	// Auth finds out who asks; each route then takes those only who may use it.
	// nil = access is not checked: anybody may ask anything.
	Auth auth.Authenticator

	// Keys are the API keys that /v1/keys looks after; nil = none. Without Auth
	// anybody who reaches the handler could make themselves a key.
	Keys *auth.Keys
}

type api struct {
	rt      *deed.Runtime
	log     *slog.Logger
	opts    Options
	metrics *metrics
	senders *inbound.Senders

	viewRoles  map[string][]string // who may read which view; none = readers
	queryRoles map[string][]string // who may ask which query; none = readers
	machines   bool                // there are processes or sagas
	most       int                 // instances that are asked something at once

	openapi, asyncapi func() ([]byte, error) // the documents
}

// New returns the handler of a runtime's HTTP API.
func New(rt *deed.Runtime, opts Options) http.Handler { return newAPI(rt, opts).handler() }

func newAPI(rt *deed.Runtime, opts Options) *api {
	opts.MaxBody = cmp.Or(opts.MaxBody, 1<<20)
	a := &api{
		rt: rt, log: cmp.Or(opts.Logger, slog.Default()), opts: opts, metrics: newMetrics(rt), senders: inbound.NewSenders(rt),
		viewRoles: viewRoles(rt), queryRoles: queryRoles(rt), machines: len(rt.Describe().Machines) > 0, most: maxMany,
	}
	a.openapi = sync.OnceValues(func() ([]byte, error) { return schema.Text(newDescriber(a).document()) })
	a.asyncapi = sync.OnceValues(func() ([]byte, error) { return AsyncAPI(rt, opts.Version) })
	return a
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		mux.Handle(r.pattern, a.guarded(r))
	}
	// A page of another site must not be able to ask commands.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(a.handle(func(http.ResponseWriter, *http.Request) error {
		return problem(http.StatusForbidden, CodeForbidden, "the request comes from a page of another site")
	}))
	return a.observe(a.recover(a.named(guard.Handler(canonical(a, mux)))))
}

// named refuses requests for another host.
func (a *api) named(next http.Handler) http.Handler {
	if len(a.opts.Hosts) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !slices.Contains(a.opts.Hosts, strings.ToLower(strings.Trim(host, "[]"))) {
			a.fail(w, r, problem(http.StatusForbidden, CodeForbidden, "this server is not "+short(host)+": allow the name with --host"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

type handler func(w http.ResponseWriter, r *http.Request) error

func (a *api) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			a.fail(w, r, err)
		}
	})
}

// nowhere answers what no route does.
func (a *api) nowhere(_ http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead {
		return problem(http.StatusMethodNotAllowed, CodeMethodNotAllowed, "use GET or POST")
	}
	return problem(http.StatusNotFound, CodeNotFound, "there is no such route: GET /v1 lists what there is")
}

// canonical refuses paths that a router or proxy would read in different
// ways, before the mux tidies them up with a redirect.
func canonical(a *api, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for segment := range strings.SplitSeq(strings.TrimPrefix(r.URL.Path, "/"), "/") {
			if segment == "." || segment == ".." || segment == "" && r.URL.Path != "/" {
				a.fail(w, r, deed.Invalid{Detail: "the path has an empty part, or . or .. in it"})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// NewServer returns a server with the timeouts that a public server needs.
// Answers may take long: the live tail has no end.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}
