package jetstream

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/motifmq/motif/adapters"
)

// silent listens, and passes on who connects, to whom nothing is said.
func silent(t *testing.T, connected func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connected(conn)
		}
	}()
	return l.Addr().String()
}

// With its ctx, Open gives up on a server that is silent, and does not try the others.
func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var connections atomic.Int32
	connected := func(net.Conn) {
		connections.Add(1)
		cancel()
	}
	servers := url.Values{"server": {silent(t, connected), silent(t, connected)}}
	_, err := adapters.Open(ctx, "nats://"+silent(t, connected)+"?"+servers.Encode())
	if !errors.Is(err, context.Canceled) || !errors.Is(err, adapters.ErrUnavailable) {
		t.Errorf("opened with %v", err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d servers were tried", n)
	}
}

// A connection is closed with its ctx while it is made, and not afterwards.
func TestDialer(t *testing.T) {
	others := make(chan net.Conn, 2)
	address := silent(t, func(conn net.Conn) { others <- conn })
	ctx, cancel := context.WithCancel(t.Context())
	made, making := &dialer{ctx: ctx}, &dialer{ctx: ctx}
	conn, err := made.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	other := <-others
	made.done()
	closed, err := making.Dial("tcp", address)
	must(t, err)
	cancel()
	if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("while it is made: %v", err)
	}
	_, err = other.Write([]byte("!"))
	must(t, err)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("after it was made: %v", err)
	}
	if _, err := making.Dial("tcp", address); !errors.Is(err, context.Canceled) {
		t.Errorf("after ctx has ended: %v", err)
	}
}

// A server is found by its name.
func TestHostNames(t *testing.T) {
	s := startServer(t, &server.Options{Username: "u", Password: "p"})
	_, port, err := net.SplitHostPort(s.Addr().String())
	must(t, err)
	carries(t, "nats://u:p@localhost:"+port)
}
