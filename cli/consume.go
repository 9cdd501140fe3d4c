package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/deed-dev/deed/internal/broker"
	"github.com/deed-dev/deed/internal/consume"
)

// withConsumers serves, and takes in what is at the brokers that a file names. It
// stops that before the store is closed.
func (a *app) withConsumers(ctx context.Context, s *server, path string, serve func(context.Context) error) error {
	if path == "" {
		return serve(ctx)
	}
	all, err := a.consumers(s, path)
	if err != nil {
		stopped, stop := context.WithCancel(ctx)
		stop()
		return errors.Join(usageError{fmt.Errorf("--consumers: %w", err)}, serve(stopped))
	}
	consuming, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { all.Run(consuming) })
	err = serve(afterwards(ctx, group.Wait))
	stop() // if it was the server that failed
	group.Wait()
	return err
}

// consumers reads a file of consumers.
func (a *app) consumers(s *server, path string) (*consume.Consumers, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := consume.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s is no list of consumers: %w", path, err)
	}
	return consume.New(s.rt, broker.NewHosts(a.tell.brokers), a.logger(), list)
}
