package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/jetstream"
	"github.com/deed-dev/deed/store/mem"
	"github.com/deed-dev/deed/store/postgres"
	"github.com/deed-dev/deed/store/sqlite"
)

const dsnHelp = "sqlite:PATH, postgres://USER@HOST/DATABASE, nats://HOST, or mem: for a store in memory"

// openStore opens the store that a DSN names.
func openStore(ctx context.Context, dsn string, mustExist bool) (store.Store, error) {
	scheme, path, _ := strings.Cut(dsn, ":")
	switch {
	case scheme == "sqlite" && path != "":
		return sqlite.Open(strings.TrimPrefix(path, "//"), &sqlite.Options{MustExist: mustExist})
	case scheme == "postgres" || scheme == "postgresql":
		return postgres.Open(ctx, dsn, nil)
	case scheme == "nats" || scheme == "tls":
		servers, opts, err := natsOptions(dsn)
		if err != nil {
			return nil, usageError{err}
		}
		return openJetStream(servers, opts)
	case scheme == "mem":
		return mem.New(), nil
	}
	return nil, usageError{fmt.Errorf("--store %q: use %s", dsn, dsnHelp)}
}

// natsSettings is what stands behind the question mark of a NATS DSN.
type natsSettings struct {
	jetstream.Options
	system string // servers, with a user of the system account
}

// natsOptions reads "nats://user:password@a:4222,nats://b:4222?replicas=3".
func natsOptions(dsn string) (servers string, o natsSettings, err error) {
	servers, query, _ := strings.Cut(dsn, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return "", o, fmt.Errorf("--store: %w", err)
	}
	for name, values := range q {
		v := values[0]
		switch name {
		case "name":
			o.Name = v
		case "replicas":
			if o.Replicas, err = strconv.Atoi(v); err != nil {
				return "", o, fmt.Errorf("--store: replicas=%q is no number", v)
			}
		case "tags":
			o.Tags = strings.Split(v, ",")
		case "sync":
			o.SyncAlways = v == "always"
		case "limited":
			o.Limited = v == "true"
		case "system":
			o.system = v
		default:
			return "", o, fmt.Errorf("--store: %q is no setting of a nats:// store, which has name, replicas, tags, sync=always, limited=true and system", name)
		}
	}
	return servers, o, nil
}

func openJetStream(servers string, o natsSettings) (store.Store, error) {
	if o.system != "" {
		nc, err := nats.Connect(o.system)
		if err != nil {
			return nil, fmt.Errorf("%w: the system account: %w", store.ErrUnavailable, err)
		}
		defer nc.Close() // it is asked when the store is opened
		o.System = nc
	}
	return jetstream.Open(servers, &o.Options)
}
