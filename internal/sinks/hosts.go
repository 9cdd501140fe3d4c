package sinks

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"code.dny.dev/ssrf"

	"github.com/deed-dev/deed"
)

// Hosts says which hosts may be called back. Those that are named may be
// anywhere, and are reached on any port unless they are named with one. If any
// is allowed, the others must be on the public internet, on port 80 or 443: that
// is looked at when a connection is made, of the address it is made to, so a
// name cannot be one thing when it is checked and another when it is called.
type Hosts struct {
	named    []string // host or host:port, lower case
	any      bool
	guard    *ssrf.Guardian
	trusting *http.Client // for named hosts
	guarded  *http.Client
}

// NewHosts allows the named hosts and, if any, all that are on the public
// internet.
func NewHosts(named []string, any bool) *Hosts {
	h := &Hosts{any: any, guard: ssrf.New()}
	for _, name := range named {
		h.named = append(h.named, strings.ToLower(name))
	}
	h.trusting, h.guarded = newClient(net.Dialer{}), newClient(net.Dialer{Control: h.guard.Safe})
	return h
}

// Allow reports whether a callback may be named.
func (h *Hosts) Allow(c deed.Callback) error {
	_, err := h.Client(c.URL)
	return err
}

// Client returns the client to call an address with, or an error if it may not
// be called.
func (h *Hosts) Client(address string) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if h.Named(u) {
		return h.trusting, nil
	}
	host, port := placeOf(u)
	if !h.any {
		return nil, deed.Invalid{Detail: fmt.Sprintf("requests to the host %s are not allowed by this server: whoever runs it names hosts with --callback-hosts or --webhook-hosts", host)}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ip = netip.AddrFrom4([4]byte{1, 1, 1, 1}) // any public address will do to check the port
	}
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	if err := h.guard.Safe(network, net.JoinHostPort(ip.String(), port), nil); err != nil {
		return nil, deed.Invalid{Detail: fmt.Sprintf("requests to %s are not allowed by this server, but to hosts that it names (--callback-hosts, --webhook-hosts): %v", net.JoinHostPort(host, port), err)}
	}
	return h.guarded, nil
}

// Named reports whether an address is of one of the named hosts.
func (h *Hosts) Named(u *url.URL) bool {
	host, port := placeOf(u)
	return slices.Contains(h.named, host) || slices.Contains(h.named, net.JoinHostPort(host, port))
}

// placeOf is the host and the port of an address.
func placeOf(u *url.URL) (host, port string) {
	host, port = strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return host, port
}
