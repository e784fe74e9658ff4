package amqptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// soon is when nothing is what we expect: longer only makes the test surer.
const soon = 30 * time.Millisecond

// echo starts a server that sends back what it gets, and a proxy to it.
func echo(t *testing.T) *Proxy {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return ProxyTo(t, "amqp://"+l.Addr().String())
}

// client is a connection through a proxy.
type client struct {
	*testing.T
	net.Conn
}

func try(t *testing.T, p *Proxy) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(t.Context(), "tcp", p.Addr())
}

func connect(t *testing.T, p *Proxy) client {
	t.Helper()
	conn, err := try(t, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client{t, conn}
}

func (c client) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.Fatal(err)
	}
}

// expect waits for text to come, and nothing else.
func (c client) expect(text string) {
	c.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c.Conn, got); err != nil || string(got) != text {
		c.Fatalf("%q, %v; want %q", got, err, text)
	}
}

// expectNothing sees that nothing comes for a while.
func (c client) expectNothing() {
	c.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	defer c.SetReadDeadline(time.Time{}) //nolint:errcheck // then the next read says so
	got := make([]byte, 100)
	n, err := c.Read(got)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		c.Fatalf("%q, %v; want nothing", got[:n], err)
	}
}

func (c client) expectReset() {
	c.Helper()
	if got, err := io.ReadAll(c.Conn); !errors.Is(err, syscall.ECONNRESET) {
		c.Fatalf("%q, %v; want a reset", got, err)
	}
}

func TestProxyPasses(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	big := strings.Repeat("0123456789abcdef", 64<<10)
	go c.Write([]byte(big)) //nolint:errcheck // expect sees it
	c.expect(big)
	if n := p.Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	_ = c.Close()
	eventually(t, "no connection", func() bool { return p.Connections() == 0 })
}

func TestProxyCut(t *testing.T) {
	p := echo(t)
	one, two := connect(t, p), connect(t, p)
	one.send("a")
	one.expect("a")
	two.send("b")
	two.expect("b")
	p.Cut()
	one.expectReset()
	two.expectReset()
	again := connect(t, p)
	again.send("c")
	again.expect("c")
}

func TestProxyDownAndUp(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	c.send("a")
	c.expect("a")
	p.Down()
	p.Down()
	c.expectReset()
	if _, err := try(t, p); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while down: %v", err)
	}
	for range 2 {
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
	}
	c = connect(t, p)
	c.send("b")
	c.expect("b")
}

func TestProxyStall(t *testing.T) {
	for _, directions := range [][]Direction{{ToBroker}, {ToClient}, {ToBroker, ToClient}} {
		p := echo(t)
		c := connect(t, p)
		c.send("a")
		c.expect("a")
		p.Stall(directions...)
		c.send("b")
		c.expectNothing()
		later := connect(t, p)
		later.send("c")
		later.expectNothing()
		p.Heal()
		c.expect("b")
		later.expect("c")
	}
}

func TestProxyStallBlocksTheSender(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	p.Stall(ToBroker)
	_ = c.SetWriteDeadline(time.Now().Add(10 * soon))
	if n, err := c.Write(make([]byte, 16<<20)); err == nil {
		t.Errorf("%d bytes went into an unplugged cable", n)
	}
}

func TestProxyBlackhole(t *testing.T) {
	p := echo(t)
	c, idle := connect(t, p), connect(t, p)
	idle.send("a")
	idle.expect("a")
	p.Blackhole(ToBroker)
	c.send(strings.Repeat("x", 16<<20)) // does not block
	c.expectNothing()
	p.Heal()
	c.expectReset()
	idle.send("b")
	idle.expect("b")
}

func TestProxyLatency(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	const latency = 50 * time.Millisecond
	p.Latency(latency)
	start := time.Now()
	c.send("a")
	c.expect("a")
	if took := time.Since(start); took < 2*latency {
		t.Errorf("there and back in %s", took)
	}
}

func TestProxySlice(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	p.Slice(1)
	c.send("abcdef")
	c.expect("abcdef")
}

func TestProxyLimitBytes(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	p.LimitBytes(ToBroker, 3)
	c.send("abcdef")
	got, err := io.ReadAll(c.Conn)
	if !errors.Is(err, syscall.ECONNRESET) || !bytes.HasPrefix([]byte("abc"), got) {
		t.Errorf("%q, %v", got, err)
	}
	c = connect(t, p) // once
	c.send("abcdef")
	c.expect("abcdef")
}

func TestProxyClose(t *testing.T) {
	p := echo(t)
	p.Stall(ToBroker, ToClient)
	c := connect(t, p)
	c.send("a")
	eventually(t, "a connection", func() bool { return p.Connections() == 1 })
	p.Close()
	p.Close()
	c.expectReset()
	if err := p.Up(); err != nil {
		t.Error(err)
	}
	if _, err := try(t, p); err == nil {
		t.Error("accepts connections after Close")
	}
}

func TestProxyURL(t *testing.T) {
	p := echo(t)
	const address = "amqp://user:p%40ss@broker.example:1234/a%2Fb?heartbeat=5"
	if got, want := p.URL(address), "amqp://user:p%40ss@"+p.Addr()+"/a%2Fb?heartbeat=5"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := NewProxy("amqp://user:secret@h:port/"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}

func TestAMQPThroughAProxy(t *testing.T) {
	v := Shared(t)
	p := ProxyTo(t, v.URL)
	p.Slice(1)
	conn := dial(t, p.URL(v.URL))
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	ch := channel(t, conn)
	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 1000)
	if err := ch.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: body}); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume("q", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := <-deliveries; !slices.Equal(d.Body, body) {
		t.Errorf("%d bytes arrived", len(d.Body))
	}
	p.LimitBytes(ToBroker, 500) // in the middle of the body
	_ = ch.PublishWithContext(t.Context(), "", "q", false, false, amqp.Publishing{Body: body})
	if err := <-closed; err == nil {
		t.Error("closed in order, in the middle of a message")
	}
	if q, err := v.Queue(t.Context(), "q"); err != nil || q.Ready != 0 {
		t.Errorf("half a message arrived: %+v, %v", q, err)
	}
}
