package cli

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/client"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/split"
)

// running is a runtime at work.
type running struct {
	rt     *deed.Runtime
	store  store.Store
	cancel context.CancelFunc
	ended  chan error
}

// start opens a store and runs the program's domains on it, to serve or as a
// guest.
func (a *app) start(ctx context.Context, dsn string, mustExist, guest bool, log *slog.Logger) (*running, error) {
	s, err := a.openBoth(ctx, dsn, mustExist)
	if err != nil {
		return nil, err
	}
	tell, allowed, err := a.tell.domain()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	rt, err := deed.New(s, deed.Config{Domains: append(slices.Clip(a.domains), tell), Logger: log, Node: a.node, Lease: a.lease, Callbacks: allowed.callbacks, Deliveries: allowed.deliveries, Targets: a.tell.targets(), Guest: guest, KeepCommands: a.keep, AskSwitch: a.askSwitch})
	if err != nil {
		if _, bad := errors.AsType[deed.Invalid](err); bad || errors.Is(err, errors.ErrUnsupported) {
			err = usageError{err} // it is what a flag asks for
		}
		return nil, errors.Join(err, s.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{rt: rt, store: s, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- rt.Run(ctx) }()
	return r, nil
}

// openBoth opens a store, and another one for documents if there is to be one.
func (a *app) openBoth(ctx context.Context, dsn string, mustExist bool) (store.Store, error) {
	log, err := openStore(ctx, dsn, mustExist)
	if err != nil || a.views == "" {
		return log, err
	}
	docs, err := openStore(ctx, a.views, mustExist)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return split.New(log, docs), nil
}

// everyView stands for all views.
const everyView = "*"

// settle waits until a view, or all of them, show what the log says: what is
// read next is all that there will be. It reports false of a view that event
// handlers write, which do not run here.
func (r *running) settle(ctx context.Context, view string) (bool, error) {
	if view == "" {
		return true, nil
	}
	head, err := r.store.Head(ctx)
	if err != nil {
		return false, err
	}
	if view == everyView {
		return true, unpaused(r.rt.WaitFor(ctx, deed.Receipt{Position: string(head)}))
	}
	for _, v := range r.rt.Describe().Views {
		switch {
		case v.Name == view && v.Follower == "":
			return false, nil
		case v.Name == view:
			return true, unpaused(r.rt.WaitForView(ctx, view, head))
		}
	}
	return true, nil // whoever asks for it hears that there is none
}

// unpaused passes over that something which was waited for is paused, which
// somebody wants, or of another version, which the program that serves rebuilds.
func unpaused(err error) error {
	if errors.Is(err, deed.ErrPaused) || errors.Is(err, deed.ErrOtherVersion) {
		return nil
	}
	return err
}

// stop ends the runtime and closes the store.
func (r *running) stop() error {
	r.cancel()
	return errors.Join(<-r.ended, r.store.Close())
}

// connect returns a client of the server, or of a store opened for the
// occasion, and what to do at the end.
func (a *app) connect(ctx context.Context) (*client.Client, func() error, error) {
	if a.store == "" {
		c := client.New(a.server)
		var err error
		if c.Key, err = a.secret(); err != nil {
			return nil, nil, err
		}
		return c, func() error { return nil }, nil
	}
	level := slog.LevelError
	if a.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(a.talk, &slog.HandlerOptions{Level: level}))
	r, err := a.start(ctx, a.store, !a.creates, true, log)
	if err != nil {
		return nil, nil, err
	}
	if all, err := r.settle(ctx, a.shows); err != nil {
		return nil, nil, errors.Join(err, r.stop())
	} else if !all {
		a.say("The view %s is written by event handlers, which run where the store is served: what follows is what they have written there.\n", a.shows)
	}
	// Whoever can open the store may do anything with it: nothing is checked.
	h := httpapi.New(r.rt, httpapi.Options{Logger: log, Version: programVersion(), Keys: auth.NewKeys(r.store)})
	return client.In(h), r.stop, nil
}

// with calls f with a client.
func (a *app) with(ctx context.Context, f func(*client.Client) error) (err error) {
	c, done, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return f(c)
}
