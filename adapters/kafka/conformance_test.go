package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/conformance"
)

// broker is the node that all tests of the package share; nil where there is none, and that is
// allowed.
var broker *node.Node

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "motif-kafka")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	broker, err = node.Start(context.Background(), dir)
	if errors.Is(err, node.ErrMissing) && os.Getenv("MOTIF_BROKER") == "skip" {
		broker, err = nil, nil
	}
	if err != nil {
		return 1, err
	}
	code = m.Run()
	if broker != nil {
		err = broker.Kill()
	}
	return code, err
}

// needBroker skips a test where there is no broker, which MOTIF_BROKER allows.
func needBroker(t *testing.T) {
	t.Helper()
	if broker == nil {
		t.Skip("Kafka is missing, and MOTIF_BROKER=skip")
	}
}

// TestConformance runs the suite; for make conformance it writes what it reports to the file that
// MOTIF_REPORT names.
func TestConformance(t *testing.T) {
	needBroker(t)
	if file := os.Getenv("MOTIF_REPORT"); file != "" {
		report(t, file)
		return
	}
	conformance.Run(t, openHarness, features)
}

func report(t *testing.T, file string) {
	r, err := conformance.Check(t.Context(), openHarness, features)
	must(t, err)
	r.Adapter, r.About = "Kafka", "adapters/kafka: one node of Kafka "+cmp.Or(os.Getenv("MOTIF_KAFKA"), node.Newest)+", share groups."
	if !r.Passed() {
		t.Error(r.Summary())
	}
	for _, c := range r.Results {
		if c.Outcome == conformance.Fail {
			t.Errorf("%s: %q", c.ID, c.Why)
		}
	}
	out, err := os.Create(file)
	must(t, err)
	must(t, conformance.Matrix{r}.WriteJSON(out))
	must(t, out.Close())
}

func openHarness(context.Context) (*conformance.Harness, error) { return newWires().harness(), nil }

// wires are connections to the broker that can be cut and stand still.
type wires struct {
	mu     sync.Mutex
	conns  map[*conn]struct{}
	frozen chan struct{} // closed when they no longer are; nil if they are not
}

func newWires() *wires { return &wires{conns: map[*conn]struct{}{}} }

func (w *wires) connect(ctx context.Context) (adapters.Driver, error) { return w.driver(ctx) }

func (w *wires) driver(ctx context.Context) (*Driver, error) {
	u, err := url.Parse(broker.URL())
	if err != nil {
		return nil, err
	}
	c, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	c.options = append(c.options, kgo.Dialer(w.dial))
	return connect(ctx, c)
}

// dial returns one end of a pipe, which keeps to deadlines also while what is behind it stands
// still.
func (w *wires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	outer, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	c := &conn{Conn: near, far: far, outer: outer, over: make(chan struct{})}
	w.mu.Lock()
	w.conns[c] = struct{}{}
	w.mu.Unlock()
	go w.relay(c, outer, far)
	go w.relay(c, far, outer)
	return c, nil
}

// relay passes on what comes, but while the connections stand still.
func (w *wires) relay(c *conn, to io.Writer, from io.Reader) {
	defer c.Close()
	p := make([]byte, 64<<10)
	for {
		n, err := from.Read(p)
		w.mu.Lock()
		frozen := w.frozen
		w.mu.Unlock()
		if frozen != nil {
			select {
			case <-frozen:
			case <-c.over:
			}
		}
		if _, failed := to.Write(p[:n]); err != nil || failed != nil {
			return
		}
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

func restart(ctx context.Context) error {
	if err := broker.Stop(ctx); err != nil {
		return err
	}
	return broker.Restart(ctx)
}

func (w *wires) harness() *conformance.Harness {
	return &conformance.Harness{
		Connect: w.connect,
		Cut:     w.cut,
		Restart: restart,
		Freeze:  w.freeze,
		Delete:  w.delete,
		Secret:  node.Password,
	}
}

// delete deletes a queue behind the adapter's back.
func (w *wires) delete(ctx context.Context, queue string) error {
	d, err := newWires().driver(ctx)
	if err != nil {
		return err
	}
	_, err = d.admin.DeleteTopic(ctx, queueTopic(queue))
	return errors.Join(err, d.Close(ctx))
}

// conn is a connection that can be cut, and stands still with its wires.
type conn struct {
	net.Conn
	far, outer net.Conn
	once       sync.Once
	over       chan struct{}
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.over)
		_ = c.far.Close()
		_ = c.outer.Close()
	})
	return c.Conn.Close()
}
