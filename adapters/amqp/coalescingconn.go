package amqp

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	highWater     = 1 << 20         // bytes waiting to be written, past which publishers wait
	largeMessage  = highWater / 16  // bytes of a message for which there must be room
	maxKeptBuffer = 2 * highWater   // capacity of a buffer that is kept after use
	lingerTime    = 2 * time.Second // for the last bytes to leave at Close
)

// coalescingConn is the connection as it is written to. Write only appends to a
// buffer, which one goroutine writes to the socket: what many goroutines write
// while a system call is under way leaves together in the next, which is most
// of what a small message costs.
//
// So Write never blocks, and nobody waits for a socket with one of amqp091's
// locks held, which is how a frozen broker hangs that client for good. Whoever
// has much to write asks for room first, and can give up waiting (see [coalescingConn.waitRoom]).
type coalescingConn struct {
	net.Conn
	raw     net.Conn      // the socket, where Conn is TLS over it
	timeout time.Duration // for bytes to make progress

	mu          sync.Mutex
	pending     []byte
	spare       []byte
	room        chan struct{} // closed when there is room; nil if there is
	err         error         // why nothing more is written
	closing     bool
	blocked     bool      // the broker said that it will not read for a while
	deadlineSet time.Time // when the write deadline was set last; zero: there is none

	readFirst  bool   // of the goroutine that reads
	firstBytes string // what came first

	wake chan struct{} // of capacity 1
	done chan struct{} // closed when the socket is
}

func newCoalescingConn(c, raw net.Conn, timeout time.Duration) *coalescingConn {
	conn := &coalescingConn{Conn: c, raw: raw, timeout: timeout, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go conn.writeLoop()
	return conn
}

// Write takes p, or returns why nothing is taken any more.
func (c *coalescingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if err := c.err; err != nil || c.closing {
		c.mu.Unlock()
		if err == nil {
			err = net.ErrClosed
		}
		return 0, err
	}
	c.pending = append(c.pending, p...)
	if len(c.pending) > highWater && c.room == nil {
		c.room = make(chan struct{})
	}
	c.mu.Unlock()
	c.wakeWriter()
	return len(p), nil
}

// Read fails the whole connection when it fails: a broker that is not heard
// from will not read either.
func (c *coalescingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.abort(err)
	}
	if !c.readFirst {
		c.readFirst = true
		c.mu.Lock()
		c.firstBytes = string(p[:min(n, 8)])
		c.mu.Unlock()
	}
	return n, err
}

// greeting returns the first bytes that came, which tell what it is that answers, or "".
func (c *coalescingConn) greeting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.firstBytes
}

// SetDeadline does nothing. amqp091 calls it to take the handshake's deadline away, and may
// do so after its heartbeats have set the next one: then a broker that freezes
// before it says another word would never be found out.
func (c *coalescingConn) SetDeadline(time.Time) error { return nil }

// Close lets the goroutine write what is left, for a moment, and then close the
// socket. It does not wait for that.
func (c *coalescingConn) Close() error {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		c.deadlineSet = time.Now()
		_ = c.SetWriteDeadline(c.deadlineSet.Add(lingerTime))
	}
	c.mu.Unlock()
	c.wakeWriter()
	return nil
}

// abort closes the socket now. What was not written is lost.
func (c *coalescingConn) abort(err error) {
	c.mu.Lock()
	c.stop(err)
	c.mu.Unlock()
	_ = c.raw.Close() // also ends a write that is under way; TLS would say goodbye first
	c.wakeWriter()
}

// stop refuses everything from now on. The lock is held.
func (c *coalescingConn) stop(err error) {
	if c.err == nil {
		c.err = err
	}
	c.pending = nil
	c.signalRoom()
}

// signalRoom lets those in who wait for room. The lock is held.
func (c *coalescingConn) signalRoom() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// waitRoom returns a channel that is closed once there is room for more, or nil if
// there is.
func (c *coalescingConn) waitRoom() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room
}

// alive reports whether what is written still leaves.
func (c *coalescingConn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && !c.closing
}

// setBlocked suspends the write deadline while the broker has said that it
// will not read. It is still found out if it freezes: it goes on sending
// heartbeats.
func (c *coalescingConn) setBlocked(blocked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = blocked
	if c.closing {
		return
	}
	c.deadlineSet = time.Time{}
	_ = c.SetWriteDeadline(c.deadline(time.Now()))
}

// deadline returns the deadline of a write that begins now. The lock is held.
func (c *coalescingConn) deadline(now time.Time) time.Time {
	if c.blocked {
		return time.Time{}
	}
	c.deadlineSet = now
	return now.Add(c.timeout)
}

func (c *coalescingConn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop is the goroutine that writes.
func (c *coalescingConn) writeLoop() {
	defer close(c.done)
	defer func() { _ = c.Conn.Close() }() // nothing is to be said about it any more
	for {
		buf, ok := c.nextBatch()
		if !ok {
			return
		}
		if buf == nil {
			<-c.wake
			runtime.Gosched() // who is about to write as well gets to do it before
			continue
		}
		if _, err := c.Conn.Write(buf); err != nil {
			c.abort(err)
			return
		}
		c.mu.Lock()
		if cap(buf) <= maxKeptBuffer {
			c.spare = buf[:0]
		}
		c.mu.Unlock()
	}
}

// nextBatch returns what is to be written now, nil if there is nothing yet, or false
// if there will be nothing more.
func (c *coalescingConn) nextBatch() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return nil, !c.closing && c.err == nil
	}
	buf := c.pending
	c.pending, c.spare = c.spare, nil
	c.signalRoom()
	// To set a deadline costs about as much as to append a message: once in a
	// while will do.
	if now := time.Now(); !c.closing && now.Sub(c.deadlineSet) > c.timeout/4 {
		_ = c.SetWriteDeadline(c.deadline(now))
	}
	return buf, true
}
