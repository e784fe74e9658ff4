package amqptest

import (
	"net"
	"sync"
	"time"
)

// A link is one connection through a proxy: its two halves.
type link struct {
	proxy *Proxy
	ends  [2]*net.TCPConn // by the direction that leads to it: the broker's, the client's
	gone  chan struct{}   // closed with the link
	once  sync.Once
	lossy bool // bytes of it were swallowed; under the proxy's lock
}

// connect serves one client, from its first byte to its last.
func (p *Proxy) connect(client *net.TCPConn) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	broker, err := dialer.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	l := &link{proxy: p, ends: [2]*net.TCPConn{broker.(*net.TCPConn), client}, gone: make(chan struct{})}
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.listener == nil { // Down came in between
		l.reset()
	}
	p.mu.Unlock()

	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(ToBroker) })
	pumps.Go(func() { l.pump(ToClient) })
	pumps.Wait()

	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// end closes both halves: a connection with one of them is of no use to AMQP.
func (l *link) end() {
	l.once.Do(func() {
		close(l.gone)
		for _, end := range l.ends {
			_ = end.Close()
		}
	})
}

// reset is end with the bytes on their way thrown away, and a RST.
func (l *link) reset() {
	for _, end := range l.ends {
		_ = end.SetLinger(0)
	}
	l.end()
}

// pump carries the bytes of one direction.
func (l *link) pump(d Direction) {
	defer l.end()
	buffer := make([]byte, 32<<10)
	for {
		n, err := l.ends[1-d].Read(buffer)
		if n > 0 && !l.pass(d, buffer[:n]) || err != nil {
			return
		}
	}
}

// pass does to some bytes what the rules say. It returns false when the link
// has ended.
func (l *link) pass(d Direction, b []byte) bool {
	delayed := false
	for len(b) > 0 {
		r, changed := l.look(d)
		switch {
		case r.stalled[d]:
			if !l.wait(changed, nil) {
				return false
			}
			continue
		case r.swallowed[d]:
			return true
		case r.latency > 0 && !delayed:
			timer := time.NewTimer(r.latency)
			if !l.wait(nil, timer.C) {
				timer.Stop()
				return false
			}
			delayed = true
			continue // the rules may be others by now
		}
		some := b
		if r.slice > 0 {
			some = b[:min(r.slice, len(b))]
		}
		some, last := l.spend(d, some)
		if _, err := l.ends[d].Write(some); err != nil {
			return false
		}
		if last {
			l.proxy.Cut()
			return false
		}
		b = b[len(some):]
	}
	return true
}

// look returns the rules as they are, and a channel that is closed when they
// are no longer so. A link about to lose bytes is marked while the rules hold.
func (l *link) look(d Direction) (rules, <-chan struct{}) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rules.swallowed[d] && !p.rules.stalled[d] {
		l.lossy = true
	}
	return p.rules, p.changed
}

// spend returns as much of b as the budget allows, and whether that was its
// end.
func (l *link) spend(d Direction, b []byte) (some []byte, last bool) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.rules.budget[d]
	if left == nil {
		return b, false
	}
	some = b[:min(*left, len(b))]
	if *left -= len(some); *left > 0 {
		return some, false
	}
	p.rules.budget[d] = nil
	return some, true
}

// wait waits for one of two events, and returns false if the link ended first.
func (l *link) wait(changed <-chan struct{}, timer <-chan time.Time) bool {
	select {
	case <-changed:
		return true
	case <-timer:
		return true
	case <-l.gone:
		return false
	}
}
