package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/deed-dev/deed/internal/broker"
)

// A cluster is brokers to connect to, and as whom.
type cluster struct {
	broker.Common
	Brokers   []string `json:"brokers"`             // HOST:PORT of some of them
	Mechanism string   `json:"mechanism,omitempty"` // by which the password is shown: plain (the default), scram-sha-256 or scram-sha-512
}

// Mechanisms of showing a password.
const (
	saslPlain = "plain"
	scram256  = "scram-sha-256"
	scram512  = "scram-sha-512"
)

func (s *cluster) complete() error {
	if len(s.Brokers) == 0 || len(s.Brokers) > 100 {
		return errors.New(`brokers is a list of up to 100 addresses, for example ["kafka.internal:9092"]`)
	}
	for i, address := range s.Brokers {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			host, port = address, "9092"
		}
		if host == "" || port == "" || strings.ContainsAny(host, "/@ ,") {
			return fmt.Errorf("brokers has %q, which is no HOST:PORT", address)
		}
		s.Brokers[i] = net.JoinHostPort(host, port)
	}
	if err := s.CheckCommon(); err != nil {
		return err
	}
	if m := s.Mechanism; m != "" && (s.User == "" || !slices.Contains([]string{saslPlain, scram256, scram512}, m)) {
		return fmt.Errorf("mechanism is %s, %s or %s, and needs a user", saslPlain, scram256, scram512)
	}
	return nil
}

// Places implements broker.Settings.
func (s *cluster) Places() []string { return s.Brokers }

// mechanism is how the client shows who it is; nil if it does not.
func (s *cluster) mechanism() sasl.Mechanism {
	switch {
	case s.User == "":
		return nil
	case s.Mechanism == scram256:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism()
	case s.Mechanism == scram512:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism()
	}
	return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()
}

// client makes a client with further options, and finds out whether a broker answers.
func (s *cluster) client(ctx context.Context, hosts *broker.Hosts, more ...kgo.Opt) (*kgo.Client, error) {
	secured, err := s.TLS.Config()
	if err != nil {
		return nil, err
	}
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(s.Brokers...), kgo.ClientID("deed"), kgo.DisableClientMetrics(), kgo.MetadataMinAge(newsEvery),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			return connect(ctx, hosts, secured, network, address)
		}),
	}, more...)
	if m := s.mechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("no broker answers, or none lets it in: %w", err)
	}
	return client, nil
}

// connect connects to a broker, which may be one that another has named.
func connect(ctx context.Context, hosts *broker.Hosts, config *tls.Config, network, address string) (net.Conn, error) {
	c, err := hosts.DialContext(ctx, network, address)
	if err != nil || config == nil {
		return c, err
	}
	config = config.Clone()
	host, _, _ := net.SplitHostPort(address) // it was connected to
	config.ServerName = cmp.Or(config.ServerName, host)
	secured := tls.Client(c, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secured, nil
}
