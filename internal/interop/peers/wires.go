package peers

import (
	"context"
	"net"
	"sync"
	"time"
)

// wires are the connections of one harness to a server that it shares with others.
type wires struct {
	mu    sync.Mutex
	conns []net.Conn
}

// Dial implements nats.CustomDialer and proxy.Dialer.
func (w *wires) Dial(network, address string) (net.Conn, error) {
	c, err := net.DialTimeout(network, address, 5*time.Second) //nolint:noctx // the clients give none
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

// cut ends the connections, as the network does.
func (w *wires) cut(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close() // it may have been closed before
	}
	w.conns = nil
	return nil
}

// opened are clients that are closed again if the last of them cannot be opened.
type opened []interface{ Close() error }

func (o opened) closeIf(err *error) {
	if *err == nil {
		return
	}
	for _, client := range o {
		_ = client.Close()
	}
}
