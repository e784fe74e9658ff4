package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/motifmq/motif/adapters"
)

func init() {
	for _, scheme := range []string{"kafka", "kafkas"} {
		adapters.Register(scheme, open)
	}
}

// config is what a URL says.
type config struct {
	brokers  []string
	options  []kgo.Opt
	replicas int16 // of topics; -1 = as the broker has it by default
}

func open(ctx context.Context, u *url.URL) (adapters.Driver, error) {
	c, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	return connect(ctx, c)
}

func invalidURL(format string, args ...any) error {
	return fmt.Errorf("kafka: open: %w: the URL %s", adapters.ErrInvalid, fmt.Sprintf(format, args...))
}

// parseURL reads a URL. Its errors do not repeat what it says, which may be a secret.
func parseURL(u *url.URL) (c config, err error) {
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return c, invalidURL("has a query that does not parse")
	case u.Opaque != "" || u.Fragment != "" || u.Host == "" || u.Path != "" && u.Path != "/":
		return c, invalidURL("is not of the form %s://host:port, with further brokers as ?broker=host:port", u.Scheme)
	}
	c = config{brokers: []string{u.Host}, replicas: -1}
	mechanism, roots := "plain", (*x509.CertPool)(nil)
	for name, values := range query {
		last := values[len(values)-1]
		switch {
		case name == "broker":
			for _, b := range values {
				if b == "" || strings.ContainsAny(b, "/@?# ") {
					return c, invalidURL("has a broker that is not host:port")
				}
			}
			c.brokers = append(c.brokers, values...)
		case name == "sasl" && u.User != nil:
			mechanism = last
		case name == "ca" && u.Scheme == "kafkas":
			pem, err := os.ReadFile(last)
			if roots = x509.NewCertPool(); err != nil || !roots.AppendCertsFromPEM(pem) {
				return c, invalidURL("has a ca that is not a file of certificates that can be read")
			}
		case name == "replicas":
			n, err := strconv.ParseInt(last, 10, 16)
			if err != nil || n < 1 {
				return c, invalidURL("has a number of replicas that is not 1 or more")
			}
			c.replicas = int16(n)
		default:
			return c, invalidURL("has a parameter that is not known, or not so (known: broker, sasl with a login, ca with kafkas, replicas)")
		}
	}
	if u.Scheme == "kafkas" {
		c.options = append(c.options, kgo.DialTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	}
	if u.User == nil {
		return c, nil
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	switch mechanism {
	case "plain":
		c.options = append(c.options, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
	case "scram-sha-256":
		c.options = append(c.options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()))
	case "scram-sha-512":
		c.options = append(c.options, kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	default:
		return c, invalidURL("has a sasl that is not plain, scram-sha-256 or scram-sha-512")
	}
	return c, nil
}
