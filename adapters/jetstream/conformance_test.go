package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	"github.com/motifmq/motif/conformance/trial"
)

func TestMain(m *testing.M) {
	ackWait = 5 * time.Second // what a dead client holds comes so late
	os.Exit(m.Run())
}

// TestConformance runs the suite on an embedded broker; or, for make conformance, on each form of a
// broker, and writes what it reports to the file that MOTIF_REPORT names.
func TestConformance(t *testing.T) {
	if file := os.Getenv("MOTIF_REPORT"); file != "" {
		report(t, file)
		return
	}
	conformance.Run(t, opener(t.TempDir(), inProcess), features)
}

func report(t *testing.T, file string) {
	var reports conformance.Matrix
	for _, f := range []form{inProcess, overTCP, ofThree} {
		r, err := conformance.Check(t.Context(), opener(t.TempDir(), f), features)
		must(t, err)
		r.Adapter, r.About = f.column, "adapters/jetstream: "+f.about
		if !r.Passed() {
			t.Error(r.Summary())
		}
		for _, c := range r.Results {
			if c.Outcome == conformance.Fail {
				t.Errorf("%s: %q", c.ID, c.Why)
			}
		}
		reports = append(reports, r)
	}
	out, err := os.Create(file)
	must(t, err)
	must(t, reports.WriteJSON(out))
	must(t, out.Close())
}

// form is how a broker is run.
type form struct {
	column, about string
	listens       bool
	replicas      int
}

var (
	inProcess = form{"JetStream embedded", "a server in the process, as jetstream:///FOLDER has it.", false, 1}
	overTCP   = form{"JetStream server", "one server, over TCP.", true, 1}
	ofThree   = form{"JetStream cluster", "three servers, with three replicas of all.", true, 3}
)

func opener(root string, f form) conformance.Opener {
	return func(context.Context) (*conformance.Harness, error) {
		b, err := newBroker(root, f)
		if err != nil {
			return nil, err
		}
		return b.harness(), nil
	}
}

// The login of the brokers.
const (
	user     = "motif"
	password = "s3cr3t-passw0rd"
)

// broker is one server in this process, or a cluster of them.
type broker struct {
	form
	options []*server.Options

	mu      sync.Mutex
	servers []*server.Server
}

// wires are connections to a broker that can be cut and stand still.
type wires struct {
	broker *broker

	mu     sync.Mutex
	conns  map[*conn]struct{}
	frozen chan struct{} // closed when they no longer are; nil if they are not
}

func newBroker(root string, f form) (*broker, error) {
	b := &broker{form: f}
	var routes []*url.URL
	for i := range f.replicas {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			return nil, err
		}
		o := &server.Options{
			ServerName: fmt.Sprint("test", i), Host: "127.0.0.1", Username: user, Password: password,
			StoreDir: dir, JetStream: true, DontListen: !f.listens, MaxPayload: maxPayload, NoSigs: true, NoLog: true,
		}
		if f.listens {
			if o.Port, err = trial.FreePort(); err != nil {
				return nil, err
			}
		}
		if f.replicas > 1 {
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1"}
			if o.Cluster.Port, err = trial.FreePort(); err != nil {
				return nil, err
			}
			routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", o.Cluster.Port)})
		}
		b.options = append(b.options, o)
	}
	for _, o := range b.options {
		o.Routes = routes
	}
	return b, b.start()
}

func (b *broker) stop(context.Context) error {
	for _, s := range b.servers {
		s.Shutdown()
	}
	for _, s := range b.servers {
		s.WaitForShutdown()
	}
	return nil
}

// start returns when queues can be made.
func (b *broker) start() error {
	b.servers = nil
	for _, o := range b.options {
		s, err := server.NewServer(o.Clone())
		if err != nil {
			return err
		}
		s.Start()
		b.servers = append(b.servers, s)
	}
	for _, s := range b.servers {
		if !s.ReadyForConnections(time.Minute) {
			return errors.New("the server does not start")
		}
	}
	if b.replicas == 1 {
		return nil
	}
	nc, err := b.client()
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for stop := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "probe", Subjects: []string{"probe"}, Replicas: len(b.options)})
		cancel()
		if err == nil || time.Now().After(stop) {
			return err
		}
	}
}

// url is the broker's address.
func (b *broker) url() *url.URL {
	u := &url.URL{Scheme: "nats", Host: "test", User: url.UserPassword(user, password)}
	if b.listens {
		query := url.Values{"replicas": {fmt.Sprint(len(b.options))}}
		for i, o := range b.options {
			if addr := fmt.Sprint("127.0.0.1:", o.Port); i == 0 {
				u.Host = addr
			} else {
				query.Add("server", addr)
			}
		}
		u.RawQuery = query.Encode()
	}
	return u
}

// client connects past the wires.
func (b *broker) client() (*nats.Conn, error) {
	if b.listens {
		return nats.Connect(fmt.Sprint("nats://127.0.0.1:", b.options[0].Port), nats.UserInfo(user, password))
	}
	return nats.Connect("", nats.InProcessServer(b), nats.UserInfo(user, password))
}

// InProcessConn implements nats.InProcessConnProvider.
func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.servers[0].InProcessConn()
}

// InProcessConn implements nats.InProcessConnProvider.
func (w *wires) InProcessConn() (net.Conn, error) {
	return w.wrap(w.broker.InProcessConn())
}

// Dial implements nats.CustomDialer.
func (w *wires) Dial(network, address string) (net.Conn, error) {
	return w.wrap(net.DialTimeout(network, address, 5*time.Second)) //nolint:noctx // the client gives none
}

func (w *wires) wrap(inner net.Conn, err error) (net.Conn, error) {
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
			c, err := parseURL(b.url())
			if err != nil {
				return nil, err
			}
			if b.listens {
				c.options = append(c.options, nats.SetCustomDialer(w))
			} else {
				c.options = append(c.options, nats.InProcessServer(w))
			}
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
	nc, err := b.client()
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
