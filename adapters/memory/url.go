package memory

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"sync"

	"github.com/motifmq/motif/adapters"
)

func init() {
	adapters.Register("memory", open)
}

// named are the brokers that are shared by name, each while it has clients.
var (
	namedMu sync.Mutex
	named   = map[string]*Broker{}
)

var validName = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)

func open(ctx context.Context, u *url.URL) (adapters.Driver, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memory: open: %w", err)
	}
	name := u.Opaque + u.Host
	bare := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, OmitHost: u.OmitHost, RawQuery: u.RawQuery}
	if *u != bare || !validName.MatchString(name) {
		return nil, fmt.Errorf("memory: open: %w: the URL has more than a query and a name of letters, digits, '.', '_' and '-'", adapters.ErrInvalid)
	}
	wanted, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	if name == "" {
		b := New(wanted.options()...)
		c := b.Connect()
		c.onClose = b.Close
		return c, nil
	}
	namedMu.Lock()
	defer namedMu.Unlock()
	b := named[name]
	if b == nil || !b.inUse() {
		b = New(wanted.options()...)
		named[name] = b
	} else if wanted.version != "" && wanted.version != b.version || wanted.classic && !b.classic {
		return nil, fmt.Errorf("memory: open: broker %q imitates RabbitMQ in another way: %w", name, adapters.ErrMismatch)
	}
	c := b.Connect()
	c.onClose = func() { release(name, b) }
	return c, nil
}

// urlOptions is what a URL says about the broker that it opens.
type urlOptions struct {
	version Version // "" = whatever there is, or the newest
	classic bool
}

// parseURL reads the query of a URL.
func parseURL(u *url.URL) (w urlOptions, err error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return w, fmt.Errorf("memory: open: %w: the URL's query does not parse", adapters.ErrInvalid)
	}
	for name, values := range query {
		switch last := values[len(values)-1]; {
		case name == "rabbitmq":
			w.version = Version(last)
			if err := w.version.validate(); err != nil {
				return w, err
			}
		case name == "queue_type" && last == "classic":
			w.classic = true
		case name == "queue_type":
			return w, fmt.Errorf("memory: open: %w: the URL's queue_type can only be classic", adapters.ErrInvalid)
		default:
			return w, fmt.Errorf("memory: open: %w: the URL has an unknown parameter (known: rabbitmq, queue_type)", adapters.ErrInvalid)
		}
	}
	return w, nil
}

func (w urlOptions) options() (options []Option) {
	if w.version != "" {
		options = append(options, RabbitMQ(w.version))
	}
	if w.classic {
		options = append(options, ClassicQueues())
	}
	return options
}

// release closes a named broker that has lost its last client.
func release(name string, b *Broker) {
	namedMu.Lock()
	defer namedMu.Unlock()
	if b.inUse() {
		return
	}
	b.Close()
	if named[name] == b {
		delete(named, name)
	}
}

func (b *Broker) inUse() bool {
	b.control.Lock()
	defer b.control.Unlock()
	return len(b.clients) > 0
}
