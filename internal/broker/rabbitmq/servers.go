package rabbitmq

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/deed-dev/deed/internal/broker"
)

// servers are those of RabbitMQ to connect to, one of them, and as whom.
type servers struct {
	broker.Common
	URL string `json:"url"` // of one server or of several of a cluster, by commas: amqp://HOST:5672/VHOST or amqps://HOST:5671/VHOST
}

func (s *servers) complete() error {
	if err := s.completeURL(); err != nil {
		return err
	}
	return s.CheckCommon()
}

// completeURL takes a user out of the address, and gives it a port.
func (s *servers) completeURL() error {
	var all []string
	for text := range strings.SplitSeq(s.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Hostname() == "" || u.Scheme != "amqp" && u.Scheme != "amqps" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("url is no address of a RabbitMQ server, for example amqps://rabbit.internal:5671/vhost")
		}
		if u.User != nil {
			s.User = u.User.Username()
			s.Password, _ = u.User.Password()
			u.User = nil
		}
		port := "5672"
		if u.Scheme == "amqps" {
			port = "5671"
			if s.TLS == nil {
				s.TLS = &broker.TLS{}
			}
		} else if s.TLS != nil {
			return errors.New("url has to be amqps, or there is no tls")
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), port)
		}
		all = append(all, u.String())
	}
	s.URL = strings.Join(all, ",")
	return nil
}

// Places implements broker.Settings.
func (s *servers) Places() (all []string) {
	for text := range strings.SplitSeq(s.URL, ",") {
		if u, err := url.Parse(text); err == nil {
			all = append(all, u.Host)
		}
	}
	return all
}
