package amqptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// A Proxy is a network between clients and a broker, which breaks on demand.
// What it is told counts for the connections that there are and for those that
// come, until it is told otherwise. Its methods may be called concurrently.
type Proxy struct {
	addr   string // ours, on loopback
	target string

	ctx   context.Context // of what the proxy does on its own account
	close context.CancelFunc

	mu       sync.Mutex
	rules    rules
	changed  chan struct{} // closed and replaced when the rules change
	listener net.Listener  // nil while down
	links    map[*link]struct{}
	running  sync.WaitGroup
}

// rules are what the proxy does to bytes, beside passing them on.
type rules struct {
	stalled   [2]bool
	swallowed [2]bool
	budget    [2]*int // what may still pass before all is cut; nil is any number
	latency   time.Duration
	slice     int // most bytes at a time; 0 is any number
}

// A Direction is one of the two in which bytes go.
type Direction int

// The two directions.
const (
	ToBroker Direction = iota
	ToClient
)

// NewProxy starts a proxy that forwards to the broker of an AMQP URL.
func NewProxy(amqpURL string) (*Proxy, error) {
	u, err := url.Parse(amqpURL)
	if err != nil {
		return nil, errors.New("not a URL") // the error has it, with the password
	}
	port := u.Port()
	if port == "" {
		port = "5672"
	}
	own, err := freePort()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{
		ctx:     ctx,
		close:   cancel,
		addr:    net.JoinHostPort("127.0.0.1", strconv.Itoa(own)),
		target:  net.JoinHostPort(u.Hostname(), port),
		changed: make(chan struct{}),
		links:   map[*link]struct{}{},
	}
	if err := p.Up(); err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// Addr is the host and port to connect to.
func (p *Proxy) Addr() string { return p.addr }

// URL returns the AMQP URL with the proxy as its host.
func (p *Proxy) URL(amqpURL string) string {
	u, err := url.Parse(amqpURL)
	if err != nil {
		return "amqp://" + p.addr
	}
	u.Host = p.addr
	return u.String()
}

// Up accepts connections, after Down.
func (p *Proxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || p.listener != nil {
		return nil
	}
	var config net.ListenConfig
	l, err := config.Listen(p.ctx, "tcp", p.addr)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
	return nil
}

// Down cuts all connections and refuses new ones, as a host does whose broker
// is not running.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.cut()
}

// Cut resets all connections, at both ends and without a goodbye. New ones are
// accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for l := range p.links {
		l.reset()
	}
}

// Stall lets nothing through any more, as an unplugged cable: what is sent
// waits, a sender who sends much blocks, and after Heal it all arrives.
func (p *Proxy) Stall(directions ...Direction) {
	p.change(func(r *rules) {
		for _, d := range directions {
			r.stalled[d] = true
		}
	})
}

// Blackhole takes what is sent and loses it, as does a firewall that forgot
// the connection, or a host that is gone: nobody blocks, nobody hears anything.
// Connections that lost something are cut by Heal.
func (p *Proxy) Blackhole(directions ...Direction) {
	p.change(func(r *rules) {
		for _, d := range directions {
			r.swallowed[d] = true
		}
	})
}

// Latency delays whatever is sent, in either direction, by d. What arrives
// while something is delayed waits and goes on as one, so that throughput falls
// with latency as it does on a real network.
func (p *Proxy) Latency(d time.Duration) { p.change(func(r *rules) { r.latency = d }) }

// Slice passes on at most n bytes at a time.
func (p *Proxy) Slice(n int) { p.change(func(r *rules) { r.slice = n }) }

// LimitBytes lets n more bytes through in one direction, all connections
// counted together, and then does what Cut does, once.
func (p *Proxy) LimitBytes(d Direction, n int) {
	p.change(func(r *rules) { r.budget[d] = &n })
}

// Heal ends what Stall, Blackhole, Latency, Slice and LimitBytes began.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.lossy {
			l.reset()
		}
	}
	p.rules = rules{}
	p.announce()
}

func (p *Proxy) change(f func(*rules)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.rules)
	p.announce()
}

func (p *Proxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Connections returns how many are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close ends everything, and returns when it has ended.
func (p *Proxy) Close() {
	p.close()
	p.Down()
	p.running.Wait()
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(client.(*net.TCPConn)) })
	}
}
