package broker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Hosts says which hosts may be connected to: those that are named, as HOST,
// HOST:PORT, *.DOMAIN or *. Nobody is named without being asked: brokers stand
// within the network, where whoever may put a subscription need not be allowed
// to connect to everything.
type Hosts struct {
	named  []string // lower case
	dialer net.Dialer
}

// NewHosts allows the named hosts.
func NewHosts(named []string) *Hosts {
	h := &Hosts{}
	for _, name := range named {
		h.named = append(h.named, strings.ToLower(name))
	}
	return h
}

// Allow reports whether an address, HOST:PORT, may be connected to.
func (h *Hosts) Allow(address string) error {
	address = strings.ToLower(address)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address: %w", address, err)
	}
	if slices.ContainsFunc(h.named, func(name string) bool {
		domain, any := strings.CutPrefix(name, "*")
		return name == host || name == address || any && (domain == "" || strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain))
	}) {
		return nil
	}
	return fmt.Errorf("connections to the broker %s are not allowed by this server: whoever runs it names brokers with --broker-hosts", address)
}

// DialContext connects to an address that is allowed. All connections are made
// here: brokers name further addresses of theirs.
func (h *Hosts) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := h.Allow(address); err != nil {
		return nil, err
	}
	return h.dialer.DialContext(ctx, network, address)
}
