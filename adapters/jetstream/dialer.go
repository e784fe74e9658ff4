package jetstream

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

// dialer has nats.Connect, which knows no ctx, end with one: the lookup, the connecting, and then
// the greeting, which fails because the connection is closed.
type dialer struct {
	ctx    context.Context
	greets []func() bool // each stops what would close a connection
}

// Dial implements [nats.CustomDialer]. It tries the addresses of a host in any order, as nats.go
// does.
func (d *dialer) Dial(network, address string) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, _ := net.DefaultResolver.LookupHost(ctx, host)
	if len(found) == 0 {
		found = []string{host} // the error is of the attempt
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	each := net.Dialer{Timeout: dialTimeout / time.Duration(len(found))}
	for _, one := range found {
		if conn, err = each.DialContext(ctx, network, net.JoinHostPort(one, port)); err == nil {
			d.greets = append(d.greets, context.AfterFunc(d.ctx, func() { _ = conn.Close() }))
			return conn, nil
		}
	}
	return nil, err
}

// done is called when nats.Connect has returned.
func (d *dialer) done() {
	for _, stop := range d.greets {
		stop()
	}
}
