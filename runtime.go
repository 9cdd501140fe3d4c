package deed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/wire"
	"github.com/deed-dev/deed/store"
)

// Config adjusts a Runtime. The zero value, with Domains, is ready to use.
type Config struct {
	Domains      []Domain
	Logger       *slog.Logger     // default: slog.Default()
	Journal      Journal          // which outcomes of commands are recorded; default: all
	Retries      int              // of a command that other writers overtook; default 10
	CachedStates int              // states of entities kept in memory, per aggregate; default 10,000
	KeepCommands time.Duration    // how long records of commands are kept that nobody needs, see [Runtime.Compact]; 0 = for ever
	Poll         time.Duration    // how often followers look for themselves, should a wake-up be lost; default 1 s, 5 s on a shared store
	Now          func() time.Time // the clock that commands are stamped with; default: time.Now

	// AskSwitch has documents that are built anew because of a projection's Version
	// wait to be asked before readers see them, see [Rebuilds].
	AskSwitch bool

	// Guest says that the process does not serve, but opens the store for a
	// moment, to ask or to look. Event handlers, processes, sagas and schedules
	// are then left to the program that serves, and so is what nobody waits for:
	// a projection moves from when somebody waits for its view, a stored command
	// is handled when somebody waits for it, and only if no other process can
	// have the store open.
	Guest bool

	// Callbacks says which callbacks a caller may name; nil = none. Whoever
	// allows some has to call them back, with HandleCommand.
	Callbacks func(Callback) error

	// Deliveries says where a caller may have the answers of queries delivered,
	// for example "https://host/path" or "file:name"; nil = nowhere. Whoever allows
	// some has to deliver them, with HandleRun.
	Deliveries func(to string) error

	// Targets are the kinds of places that subscriptions may deliver to, by name.
	// Besides there is "queue": messages that consumers fetch.
	Targets map[string]TargetKind

	// Node names this process among those that share the store, see
	// [Runtime.Nodes]. Default: host, process id and something random.
	Node  string
	Lease time.Duration // after which others take over from a silent node; default 6 s
}

// A Runtime runs domains on a store. It may be used by many goroutines.
type Runtime struct {
	store      store.Store
	cfg        Config
	codec      *wire.Codec
	kinds      map[string]*kind // by name of the aggregate
	views      map[string]*view
	tables     map[string]*view // what is known of Tables
	groups     map[string]*group
	handled    map[wire.Name]bool // events that some event handler handles
	topics     map[string]*topic
	receptions map[string]*reception
	subs       *subscribers
	letters    *letterJobs
	questions  map[string]*question
	changes    *changes
	answers    *answers
	stepwise   map[string]*stepwise // by "noun.verb"
	followers  []engine.Follower
	inline     inlines
	engine     *engine.Engine
	inFlight   sync.Map      // ids of the commands being handled
	slots      chan struct{} // bounds what runs in the background
	waiters    *waiters
	machines   map[string]*definitions // by category and name, for example "$saga/checkout"
	instances  cells[Instance]         // by stream
	runners    runners
	own        *runner // of commands that are waited for, if the process is a guest and alone; else nil

	publicTypes  map[string]reflect.Type // data of the public events of a type
	commandParts int                     // in how many parts nodes share the stored commands
	compacting   sync.Mutex              // held by a compaction
}

// New returns a runtime, or an error that lists how the domains contradict
// themselves. It starts nothing: commands can be asked and streams read, but
// followers only move while Run runs.
func New(s store.Store, cfg Config) (*Runtime, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Retries = cmp.Or(cfg.Retries, 10)
	cfg.CachedStates = cmp.Or(cfg.CachedStates, 10_000)
	nodes := engine.Config{}
	if store.IsShared(s) {
		nodes = cfg.node()
		cfg.Poll = cmp.Or(cfg.Poll, 5*time.Second)
	}
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	rt := &Runtime{
		store: s, cfg: cfg, codec: wire.NewCodec(),
		kinds: map[string]*kind{}, views: map[string]*view{}, tables: map[string]*view{}, groups: map[string]*group{}, stepwise: map[string]*stepwise{}, slots: make(chan struct{}, 4), waiters: newWaiters(),
		machines: map[string]*definitions{}, instances: newCells[Instance](cfg.CachedStates),
		topics: map[string]*topic{}, receptions: map[string]*reception{}, publicTypes: map[string]reflect.Type{},
		handled: map[wire.Name]bool{}, questions: map[string]*question{}, changes: newChanges(s), answers: newAnswers(),
	}
	rt.subs = &subscribers{rt: rt, running: map[string]string{}, idle: map[string]bool{}}
	rt.letters = &letterJobs{rt: rt, name: newEventID().String(), kick: make(chan struct{}, 1), active: map[string]bool{}}
	if err := rt.registerAll(); err != nil {
		return nil, err
	}
	if err := rt.checkKeeping(); err != nil {
		return nil, err
	}
	nodes.Store, nodes.Followers, nodes.Logger, nodes.Poll, nodes.Guest = s, rt.followers, cfg.Logger, cfg.Poll, cfg.Guest
	nodes.Notices = rt.notice
	e, err := engine.New(nodes)
	if err != nil {
		return nil, fmt.Errorf("deed: %w", err)
	}
	rt.engine = e
	return rt, nil
}

func (rt *Runtime) registerAll() error {
	type listed struct {
		Part
		domain string
	}
	var parts []listed
	for _, d := range rt.cfg.Domains {
		for _, p := range d.Parts {
			parts = append(parts, listed{p, d.Name})
		}
	}
	slices.SortStableFunc(parts, func(a, b listed) int { return cmp.Compare(a.order(), b.order()) })
	errs := []error{rt.addRunner(), declareMessages(rt.codec)}
	for _, p := range parts {
		if err := p.register(rt); err != nil {
			errs = append(errs, fmt.Errorf("deed: domain %s: %w", p.domain, err))
		}
	}
	errs = append(errs, rt.addInstances(), rt.addQueries())
	if err := rt.codec.Check(); err != nil {
		errs = append(errs, fmt.Errorf("deed: %w", err))
	}
	return errors.Join(errs...)
}

func (rt *Runtime) addFollower(f engine.Follower) error {
	if err := checkName("follower", f.Name); err != nil {
		return err
	}
	if slices.ContainsFunc(rt.followers, func(g engine.Follower) bool { return g.Name == f.Name }) {
		return fmt.Errorf("two followers (projections, event handlers) are named %q", f.Name)
	}
	rt.followers = append(rt.followers, f)
	return nil
}

// Run moves the followers (projections and event handlers) until ctx is done,
// then returns nil. Call it once. It returns an error only if it could not
// start.
func (rt *Runtime) Run(ctx context.Context) error {
	for _, v := range rt.views {
		if v.follower != "" {
			continue // the engine's generations have their own collections
		}
		if err := v.prepare(ctx, 0); err != nil && ctx.Err() == nil {
			return fmt.Errorf("deed: indexes of view %s: %w", v.name, err)
		}
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	if !rt.cfg.Guest {
		beside.Go(func() { rt.startSchedules(ctx) })
		beside.Go(func() { rt.letters.run(ctx) })
	}
	if len(rt.topics) > 0 {
		beside.Go(func() { rt.subs.run(ctx) })
	}
	if rt.own != nil {
		beside.Go(func() { rt.own.work(ctx) })
	}
	if err := rt.engine.Run(ctx); err != nil {
		return err
	}
	<-ctx.Done()              // even if there is no follower
	for range cap(rt.slots) { // wait for what runs in the background, and let nothing begin
		rt.slots <- struct{}{}
	}
	return nil
}

// WaitFor returns when every follower has taken in what a command recorded,
// so that views show it.
func (rt *Runtime) WaitFor(ctx context.Context, r Receipt) error {
	if r.Position == "" {
		return nil
	}
	for _, p := range store.Cursor(r.Position).Positions() {
		if err := rt.engine.WaitAll(ctx, p); err != nil {
			return fmt.Errorf("deed: %w", err)
		}
	}
	return nil
}

// Store is the store the runtime runs on.
func (rt *Runtime) Store() store.Store { return rt.store }

// background runs something that nobody waits for, a few at a time; more than
// that are dropped.
func (rt *Runtime) background(f func(context.Context)) {
	select {
	case rt.slots <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-rt.slots }()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		f(ctx)
	}()
}

func (rt *Runtime) decode(rec store.Record) (any, error) {
	e, err := rt.codec.Decode(wire.Name{Category: store.Category(rec.Stream), Type: rec.Type}, rec.Data)
	if err != nil {
		return nil, fmt.Errorf("deed: %s@%d: %w", rec.Stream, rec.Version, err)
	}
	return e, nil
}

// understand is the event of a record, and its circumstances.
func (rt *Runtime) understand(rec store.Record) (Meta, any, error) {
	e, err := rt.decode(rec)
	if err != nil {
		return Meta{}, nil, err
	}
	m, err := metaOf(rec)
	return m, e, err
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
