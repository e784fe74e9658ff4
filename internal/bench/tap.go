package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
)

// A tap is between a client and the broker. It counts connections, the
// channels that are open on them and the consumers that begin, and can cut them all.
type tap struct {
	listener net.Listener
	broker   string

	mu       sync.Mutex
	conns    map[net.Conn]int // channels, by the client's side
	consumes *counter         // of consumers that are awaited, or nil
	children sync.WaitGroup
}

// newTap returns a tap to the broker of an AMQP URL, and the URL to use
// instead.
func newTap(ctx context.Context, amqpURL string) (*tap, string, error) {
	u, err := url.Parse(amqpURL)
	if err != nil {
		return nil, "", err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	t := &tap{listener: l, broker: u.Host, conns: make(map[net.Conn]int)}
	t.children.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			t.children.Go(func() { t.pass(ctx, client) })
		}
	})
	u.Host = l.Addr().String()
	return t, u.String(), nil
}

func (t *tap) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	var d net.Dialer
	broker, err := d.DialContext(ctx, "tcp", t.broker)
	if err != nil {
		return
	}
	defer broker.Close()
	t.add(client, 0)
	defer t.remove(client)
	t.children.Go(func() {
		defer client.Close()
		methods(bufio.NewReader(io.TeeReader(broker, client)), func(method uint32) {
			if method == 60<<16|21 { // basic.consume-ok
				t.consumed()
			}
		})
	})
	from := bufio.NewReader(io.TeeReader(client, broker))
	if _, err := from.Discard(len("AMQP0091")); err != nil {
		return
	}
	methods(from, func(method uint32) {
		switch method {
		case 20<<16 | 10: // channel.open
			t.add(client, 1)
		case 20<<16 | 40, 20<<16 | 41: // channel.close, or its answer
			t.add(client, -1)
		}
	})
}

// methods calls got with the class and number of each method, until nothing more comes.
func methods(from *bufio.Reader, got func(uint32)) {
	for { // frame by frame
		var head [11]byte // type, channel, size, and of a method its class and number
		if _, err := io.ReadFull(from, head[:7]); err != nil {
			return
		}
		rest := int(binary.BigEndian.Uint32(head[3:7])) + 1 // the frame's end
		if head[0] == 1 {
			if _, err := io.ReadFull(from, head[7:]); err != nil {
				return
			}
			rest -= 4
			got(binary.BigEndian.Uint32(head[7:]))
		}
		if _, err := from.Discard(rest); err != nil {
			return
		}
	}
}

func (t *tap) add(client net.Conn, channels int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[client] += channels
}

func (t *tap) remove(client net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, client)
}

func (t *tap) count() (connections, channels int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.conns {
		channels += n
	}
	return len(t.conns), channels
}

// awaitConsumers counts n consumers from now on.
func (t *tap) awaitConsumers(n int) *counter {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.consumes = countDown(n)
	return t.consumes
}

func (t *tap) consumed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.consumes != nil {
		t.consumes.one()
	}
}

// cut ends all connections; new ones pass.
func (t *tap) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for client := range t.conns {
		_ = client.Close()
	}
}

func (t *tap) close() {
	_ = t.listener.Close()
	t.cut()
	t.children.Wait()
}
