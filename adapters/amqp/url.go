package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

func init() {
	adapters.Register("amqp", open)
	adapters.Register("amqps", open)
}

func open(ctx context.Context, u *url.URL) (adapters.Driver, error) {
	cfg, err := configOf(u)
	if err != nil {
		return nil, err
	}
	d, err := Connect(ctx, cfg)
	if err != nil {
		return nil, err // not d, which would be a non-nil interface
	}
	return d, nil
}

// ParseURL returns the Config that a URL means (see the package documentation), which can be
// changed before it is given to [Connect]. Errors never quote the URL.
func ParseURL(rawURL string) (Config, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return Config{}, invalid("the URL does not parse%s", encodingHint)
	}
	return configOf(u)
}

// encodingHint says what may be wrong with a URL that reads oddly.
const encodingHint = " (in names and passwords, characters such as / # ? % [ ] are percent-encoded, as url.UserPassword does it)"

func configOf(u *url.URL) (Config, error) {
	var cfg Config
	switch {
	case strings.Contains(u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "@"):
		// What precedes it may be the rest of a password, which no error may repeat.
		return cfg, invalid("the URL has an @ after the host%s", encodingHint)
	case u.Scheme != "amqp" && u.Scheme != "amqps":
		return cfg, invalid("the scheme is not amqp or amqps")
	case u.Host == "" || u.Opaque != "":
		return cfg, invalid("the URL has no host")
	case u.Fragment != "":
		return cfg, invalid("the URL has a fragment")
	}
	if u.Scheme == "amqps" {
		cfg.TLS = new(tls.Config)
	}
	cfg.Addresses = []string{u.Host}
	if cfg.VHost = strings.TrimPrefix(u.Path, "/"); strings.Contains(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		return cfg, invalid("the URL's path has several parts; a slash in a vhost's name is %%2F")
	}
	if user := u.User; user != nil {
		password, _ := user.Password()
		fixed := Credentials{Username: user.Username(), Password: NewSecret(password)}
		cfg.Credentials = func(context.Context) (Credentials, error) { return fixed, nil }
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return cfg, invalid("the URL's query does not parse")
	}
	for name, values := range query {
		if err := cfg.parameter(name, values); err != nil {
			return cfg, err
		}
	}
	if err := cfg.certificates(query); err != nil {
		return cfg, err
	}
	return cfg, nil
}

// parameter sets what one query parameter says. Those for TLS belong together: see certificates.
func (c *Config) parameter(name string, values []string) (err error) {
	switch last := values[len(values)-1]; name {
	case "address":
		c.Addresses = append(c.Addresses, values...)
	case "insecure_host":
		c.AllowInsecure = append(c.AllowInsecure, values...)
	case "management":
		c.Management = last
	case "migrating":
		c.Migrating = append(c.Migrating, values...)
	case "name":
		c.Name = last
	case "queue_type":
		c.QueueType = QueueType(last)
	case "watermill_uuid":
		if c.WatermillUUID, err = strconv.ParseBool(last); err != nil {
			return invalid("the URL's watermill_uuid is neither true nor false")
		}
	case "retry_connect":
		if c.RetryConnect, err = strconv.ParseBool(last); err != nil {
			return invalid("the URL's retry_connect is neither true nor false")
		}
	case "heartbeat":
		if c.Heartbeat, err = time.ParseDuration(last); err != nil || c.Heartbeat <= 0 {
			return invalid("the URL's heartbeat is not a duration, such as 10s")
		}
	case "ca_file", "cert_file", "key_file", "server_name":
		if c.TLS == nil {
			return invalid("the URL's parameter %s needs amqps", name)
		}
	default:
		return invalid("the URL's parameter %q is not known (known: address, ca_file, cert_file, heartbeat, insecure_host, key_file, management, migrating, name, queue_type, retry_connect, server_name, watermill_uuid)", clip(name))
	}
	return nil
}

func (c *Config) certificates(query url.Values) error {
	if c.TLS == nil {
		return nil
	}
	c.TLS.ServerName = query.Get("server_name")
	if file := query.Get("ca_file"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return invalid("the URL's ca_file: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return invalid("the URL's ca_file has no certificate in it")
		}
	}
	cert, key := query.Get("cert_file"), query.Get("key_file")
	if cert == "" && key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return invalid("the URL's cert_file and key_file: %w", err)
	}
	c.TLS.Certificates = []tls.Certificate{pair}
	return nil
}
