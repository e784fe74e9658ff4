package amqp

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

// QueueType is the type that durable queues are declared as.
type QueueType string

const (
	// Quorum queues are replicated where the broker is a cluster, and survive the loss of a node.
	Quorum QueueType = "quorum"

	// Classic queues live on one node.
	Classic QueueType = "classic"
)

// Config says how to reach a broker and how to use it. The zero value of every field but Addresses
// is a good choice.
type Config struct {
	// Addresses are the nodes of one broker, as host:port or host. They are tried in turn.
	Addresses []string

	// Resolve, if set, returns the addresses in place of Addresses. It is called at every connect.
	Resolve func(context.Context) ([]string, error)

	VHost string // "/" if empty

	// TLS turns TLS on. The broker's certificate is verified against the name in the address unless
	// the config says otherwise, and the version is TLS 1.2 at least. The config is copied.
	TLS *tls.Config

	// Credentials is called at every connect, and again before the credentials expire: an open
	// connection is then told the new password (connection.update-secret) and stays open. The user
	// must stay the same. Without Credentials a client certificate logs in (SASL EXTERNAL) if there
	// is one, and otherwise guest, which RabbitMQ accepts from the same machine only.
	Credentials func(context.Context) (Credentials, error)

	// AllowInsecure names the hosts to which the password may be sent without TLS. To all others,
	// except the loopback, it is not.
	AllowInsecure []string

	// RetryConnect makes Connect wait for a broker that is not up yet, as long as ctx allows. A
	// broker that refuses the login three times in a row is up. Without it Connect tries each
	// address once.
	RetryConnect bool

	// Management is the URL of the broker's management API, as in
	// "https://broker.example.com:15671". It is asked for what AMQP does not say: see
	// Driver.Inspect, Queues and Bindings, which are otherwise unsupported, or leave that out. TLS
	// and AllowInsecure apply to it, too. It is also asked whether a policy deletes
	// what is delayed. Each time is a new request.
	Management string

	// ManagementCredentials is called for each request to the management API. Without it that is
	// Credentials, or guest. The user needs the tag management.
	ManagementCredentials func(context.Context) (Credentials, error)

	Name string // of the connection, as shown by the broker's tools

	// Heartbeat is how often each side shows that it is alive (10 s). A broker that is silent for
	// one and a half times as long is given up.
	Heartbeat time.Duration

	WriteTimeout time.Duration // for buffered bytes to be written (15 s); suspended while the broker blocks publishers
	DialTimeout  time.Duration // for connecting to one address, login included (10 s)
	BackoffMin   time.Duration // the first wait between attempts to reconnect (100 ms)
	BackoffMax   time.Duration // the longest wait (5 s); six times that after a refused login

	// QueueType is the type of durable queues. The default is quorum, except for queues with a
	// MaxLength that refuse publishes: a quorum queue exceeds its limit by some messages, and once
	// full refuses until a fifth of it is free. Quorum makes those quorum queues, too; Classic
	// makes all queues classic except those in which delayed messages wait. Auto-delete and private
	// queues are always classic, and so are queues with priorities before RabbitMQ 4.3, or with
	// more than 31 of them, because RabbitMQ has no others.
	QueueType QueueType

	// Migrating names queues that are about to be moved to other properties, see Driver.Migrate.
	// They are used as they stand, are waited for while they are missing, and are published to over
	// an exchange that Driver.PrepareMigration has made. While that leads nowhere, for some
	// moments, a publish waits, as long as its ctx allows, one after the other, asynchronous ones
	// included.
	Migrating []string

	MaxBody     int // largest payload in bytes (16 MiB, the default limit of RabbitMQ 4)
	MaxInFlight int // publishes of the driver without a confirm (1024); the next one waits

	// WatermillUUID sends each message's id a second time, in the header _watermill_message_uuid,
	// for receivers that use watermill-amqp, which looks for an id there only. A small message then
	// takes the broker a tenth longer. Messages from watermill-amqp are understood in any case.
	WatermillUUID bool

	// AllowReplyTo reports whether a message may be published to Endpoint{Reply, address}, besides
	// direct reply addresses and server-named queues. An address is the name of a queue, or an
	// existing exchange and a routing key, as in "replies/orders". It is the caller's choice:
	// whoever may send a request could otherwise have the reply published to any queue.
	AllowReplyTo func(address string) bool

	Logger  *slog.Logger // default: the bus's, see Driver.SetLogger; without that nothing is logged
	OnEvent func(Event)  // called when something happens; must not block
}

// withDefaults returns a copy of c with defaults for zero values, or what is wrong with c.
func (c Config) withDefaults() (Config, error) {
	c.VHost = cmp.Or(c.VHost, "/")
	c.Name = cmp.Or(c.Name, "motif")
	c.Heartbeat = cmp.Or(c.Heartbeat, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 15*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 10*time.Second)
	c.BackoffMin = cmp.Or(c.BackoffMin, 100*time.Millisecond)
	c.BackoffMax = cmp.Or(c.BackoffMax, max(5*time.Second, c.BackoffMin))
	c.MaxBody = cmp.Or(c.MaxBody, 16<<20)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 1024)
	if c.Logger == nil {
		c.Logger = slog.New(newSwapHandler())
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	c.Addresses = slices.Clone(c.Addresses)
	c.AllowInsecure = slices.Clone(c.AllowInsecure)
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS12)
	}
	return c, c.validate()
}

func (c *Config) validate() error {
	switch {
	case len(c.Addresses) == 0 && c.Resolve == nil:
		return invalid("no address")
	case c.QueueType != "" && c.QueueType != Quorum && c.QueueType != Classic:
		return invalid("queue type %q", string(c.QueueType))
	case c.Heartbeat < time.Second:
		return invalid("heartbeat of %v, must be at least 1s", c.Heartbeat)
	case c.MaxBody < 0 || c.MaxInFlight < 1 || c.WriteTimeout < 0 || c.DialTimeout < 0:
		return invalid("a negative limit or timeout")
	case c.BackoffMin <= 0 || c.BackoffMax < c.BackoffMin:
		return invalid("backoff from %v to %v", c.BackoffMin, c.BackoffMax)
	case len(c.VHost) > adapters.MaxNameBytes || len(c.Name) > 4096:
		return invalid("a name is too long")
	}
	if err := c.checkManagement(); err != nil {
		return err
	}
	return c.checkAddresses(c.Addresses)
}

// checkAddresses adds missing ports to addresses, or returns what is wrong with one.
func (c *Config) checkAddresses(addresses []string) error {
	for i, address := range addresses {
		host, port, err := c.splitAddress(address)
		if err != nil {
			return err
		}
		addresses[i] = net.JoinHostPort(host, port)
		if c.TLS == nil && !isLoopback(host) && !slices.Contains(c.AllowInsecure, host) {
			return invalid("a login without TLS at %q: use amqps, or allow it with insecure_host=%s in the URL, or Config.AllowInsecure", clip(host), url.QueryEscape(clip(host)))
		}
	}
	return nil
}

// addresses returns the current nodes.
func (c *Config) addresses(ctx context.Context) ([]string, error) {
	if c.Resolve == nil {
		return c.Addresses, nil
	}
	addresses, err := c.Resolve(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("amqp: %w: resolving the broker's addresses: %w", adapters.ErrUnavailable, err)
	case len(addresses) == 0:
		return nil, fmt.Errorf("amqp: %w: the broker's name resolves to no address", adapters.ErrUnavailable)
	}
	addresses = slices.Clone(addresses)
	return addresses, c.checkAddresses(addresses)
}

// splitAddress splits an address into host and port. Its errors quote nothing that it does not
// understand, which may be a URL with a password.
func (c *Config) splitAddress(address string) (host, port string, err error) {
	host, port = address, ""
	if strings.Contains(address, ":") && (!strings.HasPrefix(address, "[") || !strings.HasSuffix(address, "]")) {
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", "", invalid("an address is not host:port")
		}
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.ContainsAny(host, "@/ ?#") || strings.ContainsAny(port, "@/ ?#") {
		return "", "", invalid("an address is not host:port")
	}
	if port == "" {
		if port = "5672"; c.TLS != nil {
			port = "5671"
		}
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hasCertificate reports whether there is a client certificate to log in with.
func (c *Config) hasCertificate() bool {
	return c.TLS != nil && (len(c.TLS.Certificates) > 0 || c.TLS.GetClientCertificate != nil)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("amqp: %w: "+format, append([]any{adapters.ErrInvalid}, args...)...)
}

// clip shortens s for an error message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
