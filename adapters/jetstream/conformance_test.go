package jetstream

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance"
)

func TestMain(m *testing.M) {
	ackWait = 5 * time.Second // what a dead client holds comes so late
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	root := t.TempDir()
	open := func(context.Context) (*conformance.Harness, error) {
		b, err := newBroker(root)
		if err != nil {
			return nil, err
		}
		return b.harness(), nil
	}
	conformance.Run(t, open, features)
}

// The login of the brokers.
const (
	user     = "motif"
	password = "s3cr3t-passw0rd"
)

// broker is a server in this process.
type broker struct {
	dir string

	mu     sync.Mutex
	server *server.Server
}

// wires are connections to a broker that can be cut and stand still.
type wires struct {
	broker *broker

	mu     sync.Mutex
	conns  map[*conn]struct{}
	frozen chan struct{} // closed when they no longer are; nil if they are not
}

func newBroker(root string) (*broker, error) {
	dir, err := os.MkdirTemp(root, "")
	if err != nil {
		return nil, err
	}
	b := &broker{dir: dir}
	return b, b.start()
}

func (b *broker) stop(context.Context) error {
	b.server.Shutdown()
	b.server.WaitForShutdown()
	return nil
}

func (b *broker) start() error {
	s, err := server.NewServer(&server.Options{
		Username: user, Password: password,
		ServerName: "test", StoreDir: b.dir, JetStream: true, DontListen: true, MaxPayload: maxPayload, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the server does not start")
	}
	b.server = s
	return nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server.InProcessConn()
}

// InProcessConn implements nats.InProcessConnProvider.
func (w *wires) InProcessConn() (net.Conn, error) {
	inner, err := w.broker.InProcessConn()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &conn{Conn: inner, wires: w, more: make(chan struct{}, 1), over: make(chan struct{})}
	w.conns[c] = struct{}{}
	go c.write()
	return c, nil
}

// wait waits while the connections stand still.
func (w *wires) wait() {
	w.mu.Lock()
	frozen := w.frozen
	w.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (w *wires) cut(context.Context) error {
	w.mu.Lock()
	conns := w.conns
	w.conns = map[*conn]struct{}{}
	w.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	return nil
}

func (w *wires) freeze(context.Context) (thaw func() error, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = make(chan struct{})
	return func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		close(w.frozen)
		w.frozen = nil
		return nil
	}, nil
}

func (b *broker) restart(ctx context.Context) error {
	if err := b.stop(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.start()
}

func (b *broker) harness() *conformance.Harness {
	w := &wires{broker: b, conns: map[*conn]struct{}{}}
	return &conformance.Harness{
		Connect: func(ctx context.Context) (adapters.Driver, error) {
			c, err := parseURL(&url.URL{Scheme: "nats", Host: "test", User: url.UserPassword(user, password)})
			if err != nil {
				return nil, err
			}
			c.options = append(c.options, nats.InProcessServer(w))
			return connect(ctx, c)
		},
		Close:   b.stop,
		Cut:     w.cut,
		Restart: b.restart,
		Freeze:  w.freeze,
		Delete:  b.delete,
		Secret:  password,
	}
}

// delete deletes a queue behind the adapter's back.
func (b *broker) delete(ctx context.Context, queue string) error {
	nc, err := nats.Connect("", nats.InProcessServer(b), nats.UserInfo(user, password))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return js.DeleteStream(ctx, nameQueue(queue).stream())
}

// conn is a connection with a buffer for what is written, as the system's have.
type conn struct {
	net.Conn
	wires *wires

	mu     sync.Mutex
	buffer bytes.Buffer
	more   chan struct{}
	over   chan struct{}
	closed bool
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.buffer.Write(p)
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *conn) write() {
	for {
		select {
		case <-c.more:
		case <-c.over:
			return
		}
		c.wires.wait()
		c.mu.Lock()
		p := bytes.Clone(c.buffer.Bytes())
		c.buffer.Reset()
		c.mu.Unlock()
		if _, err := c.Conn.Write(p); err != nil {
			return
		}
	}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wires.wait()
	return n, err
}

func (c *conn) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	if !was {
		close(c.over)
	}
	return c.Conn.Close()
}
