package jetstream

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

func init() {
	for _, scheme := range []string{"nats", "tls", "jetstream"} {
		adapters.Register(scheme, open)
	}
}

// config is what a URL says.
type config struct {
	servers  []string
	folder   string // of the server in this process, instead
	listen   string // host and port of that server, for others; "" = nobody
	options  []nats.Option
	replicas int
	sync     bool // the server in this process has each message on the disk before it confirms it
}

func open(ctx context.Context, u *url.URL) (adapters.Driver, error) {
	c, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	return connect(ctx, c)
}

func invalidURL(format string, args ...any) error {
	return fmt.Errorf("jetstream: open: %w: the URL %s", adapters.ErrInvalid, fmt.Sprintf(format, args...))
}

// parseURL reads a URL. Its errors do not repeat what it says, which may be a secret.
func parseURL(u *url.URL) (c config, err error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return c, invalidURL("has a query that does not parse")
	}
	c.replicas = 1
	inProcess := u.Scheme == "jetstream"
	switch {
	case u.Opaque != "" || u.Fragment != "":
		return c, invalidURL("is not of the form %s://...", u.Scheme)
	case inProcess && (u.Host != "" || u.User != nil || u.Path == "" || u.Path == "/"):
		return c, invalidURL("is not of the form jetstream:///folder: a server elsewhere is nats://host")
	case inProcess:
		if c.folder, err = filepath.Abs(filepath.FromSlash(u.Path)); err != nil {
			return c, invalidURL("has a folder that cannot be used: %v", err)
		}
	case u.Host == "" || u.Path != "" && u.Path != "/":
		return c, invalidURL("is not of the form %s://host:port, with further servers as ?server=host:port", u.Scheme)
	default:
		c.servers = []string{u.Scheme + "://" + u.Host}
	}
	if u.User != nil {
		password, has := u.User.Password()
		if has {
			c.options = append(c.options, nats.UserInfo(u.User.Username(), password))
		} else {
			c.options = append(c.options, nats.Token(u.User.Username()))
		}
	}
	for name, values := range query {
		last := values[len(values)-1]
		switch {
		case name == "server" && !inProcess:
			for _, server := range values {
				if server == "" || strings.ContainsAny(server, "/@?# ") {
					return c, invalidURL("has a server that is not host:port")
				}
				c.servers = append(c.servers, u.Scheme+"://"+server)
			}
		case (name == "creds" || name == "ca") && !inProcess && !isReadable(last):
			return c, invalidURL("has a %s that is not a file that can be read", name)
		case name == "creds" && !inProcess:
			c.options = append(c.options, nats.UserCredentials(last))
		case name == "nkey" && !inProcess:
			option, err := nats.NkeyOptionFromSeed(last)
			if err != nil {
				return c, fmt.Errorf("jetstream: open: %w: the file of the URL's nkey: %w", adapters.ErrInvalid, err)
			}
			c.options = append(c.options, option)
		case name == "ca" && !inProcess:
			c.options = append(c.options, nats.RootCAs(last))
		case name == "replicas" && !inProcess:
			if c.replicas, err = strconv.Atoi(last); err != nil || c.replicas < 1 || c.replicas > 5 {
				return c, invalidURL("has a number of replicas that is not 1 to 5")
			}
		case name == "listen" && inProcess:
			c.listen = last
		case name == "sync" && inProcess && (last == "always" || last == "interval"):
			c.sync = last == "always"
		default:
			known := "server, creds, nkey, ca, replicas"
			if inProcess {
				known = "listen, sync=always or interval"
			}
			return c, invalidURL("has a parameter that is not known, or not so (known: %s)", known)
		}
	}
	return c, nil
}

// isReadable reports whether a file can be read now: it is read again for each connection.
func isReadable(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
