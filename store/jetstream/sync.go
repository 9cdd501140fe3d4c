package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/deed-dev/deed/store"
)

// Volatile says what may be lost if it is not known that the servers sync
// before they acknowledge.
func (s *Store) Volatile() string { return s.volatile }

// Shared says that several processes may use the store.
func (s *Store) Shared() bool { return true }

const (
	notKnown = "JetStream, and nobody has said that its servers sync every write (sync_interval: always): a power cut may lose the acknowledged events of minutes"
	notSo    = "JetStream, and the server %s does not sync every write (sync_interval: always): a power cut may lose the acknowledged events of minutes"
)

// askHowTheySync decides what Volatile says. An account cannot see how its
// servers sync, only the system account can.
func (s *Store) askHowTheySync(ctx context.Context) error {
	if s.opts.System == nil {
		if !s.opts.SyncAlways {
			s.volatile = notKnown
		}
		return nil
	}
	hosts, err := s.hosts(ctx)
	if err != nil {
		return err
	}
	syncs, err := s.syncs(ctx, hosts)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if always, answered := syncs[h]; !answered {
			s.volatile = notKnown
		} else if !always {
			s.volatile = fmt.Sprintf(notSo, h)
			break
		}
	}
	if s.opts.SyncAlways && s.volatile != "" && s.volatile != notKnown {
		return fmt.Errorf("%w: SyncAlways was promised, but: %s", store.ErrUnavailable, s.volatile)
	}
	if s.opts.SyncAlways {
		s.volatile = ""
	}
	return nil
}

// hosts returns the names of the servers that keep a copy of our streams.
func (s *Store) hosts(ctx context.Context) ([]string, error) {
	js, err := jetstream.New(s.nc)
	if err != nil {
		return nil, fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
	}
	var names []string
	for _, stream := range []string{s.subjects.log(), s.subjects.docs()} {
		st, err := js.Stream(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("%w: jetstream: %w", store.ErrUnavailable, err)
		}
		c := st.CachedInfo().Cluster
		if c == nil || c.Leader == "" { // no cluster
			names = append(names, s.nc.ConnectedServerName())
			continue
		}
		names = append(names, c.Leader)
		for _, r := range c.Replicas {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// syncs asks all servers whether they sync always, until the hosts have
// answered, for a second at most.
func (s *Store) syncs(ctx context.Context, hosts []string) (map[string]bool, error) {
	nc := s.opts.System
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("%w: jetstream: the system account: %w", store.ErrUnavailable, err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", inbox, []byte("{}")); err != nil {
		return nil, fmt.Errorf("%w: jetstream: the system account: %w", store.ErrUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	syncs := map[string]bool{}
	waiting := func(h string) bool { _, ok := syncs[h]; return !ok }
	for slices.ContainsFunc(hosts, waiting) {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break // what is missing is not known
		}
		var a struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				Config struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"data"`
		}
		if json.Unmarshal(m.Data, &a) == nil && a.Server.Name != "" {
			syncs[a.Server.Name] = a.Data.Config.SyncAlways
		}
	}
	return syncs, nil
}
