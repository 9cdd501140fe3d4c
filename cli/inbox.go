package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/deed-dev/deed/internal/inbox"
)

// checkInbox makes sure, before anything is started, that a folder can be taken
// in from; "" = none is to be.
func checkInbox(dir string) error {
	if dir == "" {
		return nil
	}
	if err := inbox.Check(dir); err != nil {
		return usageError{fmt.Errorf("--inbox: %w", err)}
	}
	return nil
}

// withInbox serves until ctx is done, and looks after a folder of files
// meanwhile, unless dir is "".
func (a *app) withInbox(ctx context.Context, s *server, dir string) error {
	if dir == "" {
		return s.until(ctx)
	}
	in, err := inbox.New(dir, inbox.Commands(s.rt.Describe()), inbox.Dispatcher{Runtime: s.rt}, inbox.Options{Logger: a.logger()})
	if err != nil {
		stopped, stop := context.WithCancel(ctx)
		stop()
		return errors.Join(usageError{err}, s.until(stopped))
	}
	a.say("deed takes commands in from %s\n", dir)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	var folder sync.WaitGroup
	folder.Go(func() { failed = in.Run(watching) })
	err = s.until(afterwards(ctx, folder.Wait)) // the store is closed when nobody asks any more
	stop()                                      // if it was the server that failed
	folder.Wait()
	return errors.Join(err, failed)
}
