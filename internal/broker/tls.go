package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// TLS says how a connection is secured; the zero value is what the machine has.
// Certificates are given as text (PEM), not as files: who puts a subscription
// is not to read the files of the server.
type TLS struct {
	CA         string `json:"ca,omitempty"`   // whom the broker's certificate is to be signed by; default: those that the machine trusts
	Cert       string `json:"cert,omitempty"` // to show to the broker, with Key
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"` // that the certificate has to have; default: the host
}

// Config returns what it says, nil if t is nil.
func (t *TLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(t.CA)) {
			return nil, errors.New("tls.ca has no certificate in the form of PEM")
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("tls has one of cert and key: it takes both, or none")
	}
	if t.Cert != "" {
		pair, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key))
		if err != nil {
			return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
