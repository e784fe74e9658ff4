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

// named is the brokers that are shared by name, each while it has clients.
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
	bare := url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, OmitHost: u.OmitHost}
	if *u != bare || !validName.MatchString(name) {
		return nil, fmt.Errorf("memory: open: %w: the URL has more than a name of letters, digits, '.', '_' and '-'", adapters.ErrInvalid)
	}
	if name == "" {
		b := New()
		c := b.Connect()
		c.onClose = b.Close
		return c, nil
	}
	namedMu.Lock()
	defer namedMu.Unlock()
	b := named[name]
	if b == nil || !b.inUse() {
		b = New()
		named[name] = b
	}
	c := b.Connect()
	c.onClose = func() { release(name, b) }
	return c, nil
}

// release closes a named broker if it lost its last client.
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
