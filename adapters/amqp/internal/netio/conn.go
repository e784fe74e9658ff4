// Package netio has a net.Conn whose writes never block: they are gathered in a buffer that one
// goroutine writes to the socket.
package netio

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// HighWater is how many bytes may wait to be written before WaitRoom makes publishers wait.
	HighWater = 1 << 20

	// LargeMessage is the size from which a message must find room before it is written.
	LargeMessage = HighWater / 16

	maxKeptBuffer = 2 * HighWater   // capacity of a buffer that is kept after use
	minLoan       = 4 << 10         // size from which bytes are lent; smaller ones cost less to copy
	lingerTime    = 2 * time.Second // for the last bytes to leave after Close
)

// Conn coalesces writes. Write only appends to a buffer, which one goroutine writes to the socket:
// what many goroutines write during a system call leaves together in the next one. The system call
// is most of what a small message costs.
//
// Write therefore never blocks, and nobody waits for a socket while holding one of amqp091's locks,
// which is how a frozen broker hangs that client for good. Whoever has much to write asks for room
// first (see [Conn.WaitRoom]) and can give up waiting.
//
// What is large is not copied but lent: see [Conn.Lend].
type Conn struct {
	net.Conn
	raw     net.Conn      // the socket, where Conn is TLS over it
	timeout time.Duration // for bytes to make progress

	mu          sync.Mutex
	before      net.Buffers // what is written before pending: some of it lent, the rest in base
	beforeSize  int         // in bytes
	base        []byte      // the whole buffer that pending is the end of, if before is not empty
	pending     []byte
	spare       []byte
	lent        chan struct{} // closed once what is lent is given back; nil if nothing is lent
	lentTaken   bool          // it is being written
	recalled    bool          // it is to be given back though it is being written
	room        chan struct{} // closed when there is room; nil if there is
	err         error         // why nothing more is written
	closing     bool
	blocked     bool      // the broker announced that it will not read for a while
	deadlineSet time.Time // when the write deadline was last set; zero if there is none

	readFirst  bool   // owned by the goroutine that reads
	firstBytes string // the first bytes received

	wake chan struct{} // of capacity 1
	done chan struct{} // closed with the socket
}

// NewConn returns a Conn that writes to c. raw is the socket itself, where c is TLS over it. A
// write that makes no progress for timeout ends the connection.
func NewConn(c, raw net.Conn, timeout time.Duration) *Conn {
	conn := &Conn{Conn: c, raw: raw, timeout: timeout, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go conn.writeLoop()
	return conn
}

// Write buffers p. It returns an error once the connection is closing or has failed.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if err := c.refusal(); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	c.pending = append(c.pending, p...)
	c.noteRoom()
	c.mu.Unlock()
	c.wakeWriter()
	return len(p), nil
}

// refusal returns why nothing more is written, or nil. c.mu is held.
func (c *Conn) refusal() error {
	if c.err == nil && c.closing {
		return net.ErrClosed
	}
	return c.err
}

// noteRoom notes whether there is room. c.mu is held.
func (c *Conn) noteRoom() {
	if c.beforeSize+len(c.pending) > HighWater && c.room == nil {
		c.room = make(chan struct{})
	}
}

// Read reads from the socket. An error fails the whole connection: a broker that cannot be heard
// will not read either.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.Abort(err)
	}
	if !c.readFirst {
		c.readFirst = true
		c.mu.Lock()
		c.firstBytes = string(p[:min(n, 8)])
		c.mu.Unlock()
	}
	return n, err
}

// Greeting returns the first bytes received, which show what kind of server answered, or "".
func (c *Conn) Greeting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.firstBytes
}

// SetDeadline does nothing. amqp091 calls it to clear the handshake's deadline, and may do so after
// its heartbeats have set the next one. A broker that froze before its next word would then never
// be found out.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// Close makes the writing goroutine flush what is buffered, for at most lingerTime, and then close
// the socket. It does not wait for either; see [Conn.Done].
func (c *Conn) Close() error {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		c.setDeadline(time.Now())
	}
	c.mu.Unlock()
	c.wakeWriter()
	return nil
}

// Abort closes the socket now. What is still buffered is lost, and err is what Write returns from
// then on.
func (c *Conn) Abort(err error) {
	c.mu.Lock()
	c.stop(err)
	c.mu.Unlock()
	_ = c.raw.Close() // interrupts a write in progress; TLS would say goodbye first
	c.wakeWriter()
}

// stop refuses all further writes. c.mu is held.
func (c *Conn) stop(err error) {
	if c.err == nil {
		c.err = err
	}
	c.before, c.beforeSize, c.pending = nil, 0, nil
	if !c.lentTaken { // else the goroutine that writes gives it back
		c.giveBack()
	}
	c.signalRoom()
}

// signalRoom wakes those who wait for room. c.mu is held.
func (c *Conn) signalRoom() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// WaitRoom returns a channel that is closed once there is room in the buffer, or nil if there is
// room now.
func (c *Conn) WaitRoom() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.room
}

// Alive reports whether the connection still takes writes.
func (c *Conn) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err == nil && !c.closing
}

// SetBlocked suspends the write deadline while the broker has announced that it will not read. A
// broker that freezes meanwhile is still found out, by its missing heartbeats.
func (c *Conn) SetBlocked(blocked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = blocked
	if !c.closing {
		c.setDeadline(time.Now())
	}
}

// setDeadline sets the deadline of a write that begins now, unless one is being interrupted. c.mu
// is held.
func (c *Conn) setDeadline(now time.Time) {
	switch c.deadlineSet = now; {
	case c.recalled:
	case c.closing:
		_ = c.SetWriteDeadline(now.Add(lingerTime))
	case c.blocked:
		c.deadlineSet = time.Time{}
		_ = c.SetWriteDeadline(time.Time{})
	default:
		_ = c.SetWriteDeadline(now.Add(c.timeout))
	}
}

func (c *Conn) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// batch is what is written at once.
type batch struct {
	before net.Buffers
	last   []byte
	base   []byte // the buffer that last is the end of
}

// writeLoop is the goroutine that writes to the socket.
func (c *Conn) writeLoop() {
	defer close(c.done)
	defer func() { _ = c.Conn.Close() }() // nobody is left to be told of an error
	for {
		b, ok := c.nextBatch()
		if !ok {
			return
		}
		if b.last == nil {
			<-c.wake
			runtime.Gosched() // lets others who are about to write join this batch
			continue
		}
		if err := c.write(b); err != nil {
			c.Abort(err)
			return
		}
		c.mu.Lock()
		if cap(b.base) <= maxKeptBuffer {
			c.spare = b.base[:0]
		}
		c.mu.Unlock()
	}
}

// nextBatch returns what is to be written now, or nothing if there is nothing yet. It returns false
// once nothing more will come.
func (c *Conn) nextBatch() (b batch, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return b, !c.closing && c.err == nil
	}
	b = batch{before: c.before, last: c.pending, base: c.pending}
	if len(b.before) > 0 {
		b.base, c.lentTaken = c.base, c.lent != nil
	}
	c.before, c.beforeSize, c.base = nil, 0, nil
	c.pending, c.spare = c.spare, nil
	c.signalRoom()
	// Setting a deadline costs about as much as appending a message, so not every time.
	if now := time.Now(); !c.closing && !c.blocked && now.Sub(c.deadlineSet) > c.timeout/4 {
		c.setDeadline(now)
	}
	return b, true
}

// Done returns a channel that is closed once the socket is.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Buffered returns the number of bytes that wait to be written.
func (c *Conn) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beforeSize + len(c.pending)
}
