package nats

import (
	"errors"
	"maps"
	"net"
	"net/url"
	"strings"

	"github.com/deed-dev/deed/internal/broker"
)

// servers are those of NATS to connect to, one of them, and as whom.
type servers struct {
	broker.Common
	URL   string `json:"url"` // of one server or of several, by commas: nats://HOST:4222 or tls://HOST:4222
	Token string `json:"token,omitempty"`
	Creds string `json:"creds,omitempty"` // the text of a credentials file: a JWT and its seed
}

func (s *servers) complete() error {
	if err := s.completeURL(); err != nil {
		return err
	}
	if err := s.CheckCommon(); err != nil {
		return err
	}
	ways := 0
	for _, way := range []string{s.User, s.Token, s.Creds} {
		if way != "" {
			ways++
		}
	}
	if ways > 1 {
		return errors.New("has several of user, token and creds: it takes one")
	}
	return nil
}

// completeURL takes a user out of the address, and gives it a port.
func (s *servers) completeURL() error {
	var all []string
	for text := range strings.SplitSeq(s.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("url is no address of a NATS server, for example nats://nats.internal:4222")
		}
		if u.User != nil {
			password, both := u.User.Password()
			if !both {
				return errors.New("url has a user without a password: a token is a setting of its own")
			}
			s.User, s.Password, u.User = u.User.Username(), password, nil
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), "4222")
		}
		if u.Scheme == "tls" && s.TLS == nil {
			s.TLS = &broker.TLS{}
		}
		all = append(all, u.Scheme+"://"+u.Host)
	}
	s.URL = strings.Join(all, ",")
	return nil
}

// Places implements broker.Settings.
func (s *servers) Places() (all []string) {
	for text := range strings.SplitSeq(s.URL, ",") {
		_, host, _ := strings.Cut(text, "://")
		all = append(all, host)
	}
	return all
}

// Secrets implements broker.Settings.
func (s *servers) Secrets() map[string]*string {
	all := map[string]*string{"token": &s.Token, "creds": &s.Creds}
	maps.Copy(all, s.Common.Secrets())
	return all
}
