package amqp

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	wireHighWater = 1 << 20            // bytes waiting to be written, past which publishers wait
	wireLarge     = wireHighWater / 16 // bytes of a message for which there must be room
	wireKeep      = 2 * wireHighWater  // capacity of a buffer that is kept after use
	wireLinger    = 2 * time.Second    // for the last bytes to leave at Close
)

// wire is the connection as it is written to. Write only appends to a
// buffer, which one goroutine writes to the socket: what many goroutines write
// while a system call is under way leaves together in the next, which is most
// of what a small message costs.
//
// So Write never blocks, and nobody waits for a socket with one of amqp091's
// locks held, which is how a frozen broker hangs that client for good. Whoever
// has much to write asks for room first, and can give up waiting (see [wire.room]).
type wire struct {
	net.Conn
	raw     net.Conn      // the socket, where Conn is TLS over it
	timeout time.Duration // for bytes to make progress

	mu      sync.Mutex
	pending []byte
	spare   []byte
	roomy   chan struct{} // closed when there is room; nil if there is
	err     error         // why nothing more is written
	closing bool
	blocked bool      // the broker said that it will not read for a while
	armed   time.Time // when the write deadline was set last; zero: there is none

	greeted bool   // of the goroutine that reads
	heard   string // what came first

	wake chan struct{} // of capacity 1
	done chan struct{} // closed when the socket is
}

func newWire(c, raw net.Conn, timeout time.Duration) *wire {
	w := &wire{Conn: c, raw: raw, timeout: timeout, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.flush()
	return w
}

// Write takes p, or returns why nothing is taken any more.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	if err := w.err; err != nil || w.closing {
		w.mu.Unlock()
		if err == nil {
			err = net.ErrClosed
		}
		return 0, err
	}
	w.pending = append(w.pending, p...)
	if len(w.pending) > wireHighWater && w.roomy == nil {
		w.roomy = make(chan struct{})
	}
	w.mu.Unlock()
	w.nudge()
	return len(p), nil
}

// Read fails the whole connection when it fails: a broker that is not heard
// from will not read either.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.fail(err)
	}
	if !w.greeted {
		w.greeted = true
		w.mu.Lock()
		w.heard = string(p[:min(n, 8)])
		w.mu.Unlock()
	}
	return n, err
}

// greeting returns the first bytes that came, which tell what it is that answers, or "".
func (w *wire) greeting() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard
}

// SetDeadline does nothing. amqp091 calls it to take the handshake's deadline away, and may
// do so after its heartbeats have set the next one: then a broker that freezes
// before it says another word would never be found out.
func (w *wire) SetDeadline(time.Time) error { return nil }

// Close lets the goroutine write what is left, for a moment, and then close the
// socket. It does not wait for that.
func (w *wire) Close() error {
	w.mu.Lock()
	if !w.closing {
		w.closing = true
		w.armed = time.Now()
		_ = w.SetWriteDeadline(w.armed.Add(wireLinger))
	}
	w.mu.Unlock()
	w.nudge()
	return nil
}

// fail closes the socket now. What was not written is lost.
func (w *wire) fail(err error) {
	w.mu.Lock()
	w.stop(err)
	w.mu.Unlock()
	_ = w.raw.Close() // also ends a write that is under way; TLS would say goodbye first
	w.nudge()
}

// stop refuses everything from now on. The lock is held.
func (w *wire) stop(err error) {
	if w.err == nil {
		w.err = err
	}
	w.pending = nil
	w.relieve()
}

// relieve lets those in who wait for room. The lock is held.
func (w *wire) relieve() {
	if w.roomy != nil {
		close(w.roomy)
		w.roomy = nil
	}
}

// room returns a channel that is closed once there is room for more, or nil if
// there is.
func (w *wire) room() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.roomy
}

// alive reports whether what is written still leaves.
func (w *wire) alive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err == nil && !w.closing
}

// setBlocked suspends the write deadline while the broker has said that it
// will not read. It is still found out if it freezes: it goes on sending
// heartbeats.
func (w *wire) setBlocked(blocked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = blocked
	if w.closing {
		return
	}
	w.armed = time.Time{}
	_ = w.SetWriteDeadline(w.deadline(time.Now()))
}

// deadline returns the deadline of a write that begins now. The lock is held.
func (w *wire) deadline(now time.Time) time.Time {
	if w.blocked {
		return time.Time{}
	}
	w.armed = now
	return now.Add(w.timeout)
}

func (w *wire) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// flush is the goroutine that writes.
func (w *wire) flush() {
	defer close(w.done)
	defer func() { _ = w.Conn.Close() }() // nothing is to be said about it any more
	for {
		buf, ok := w.next()
		if !ok {
			return
		}
		if buf == nil {
			<-w.wake
			runtime.Gosched() // who is about to write as well gets to do it before
			continue
		}
		if _, err := w.Conn.Write(buf); err != nil {
			w.fail(err)
			return
		}
		w.mu.Lock()
		if cap(buf) <= wireKeep {
			w.spare = buf[:0]
		}
		w.mu.Unlock()
	}
}

// next returns what is to be written now, nil if there is nothing yet, or false
// if there will be nothing more.
func (w *wire) next() ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		return nil, !w.closing && w.err == nil
	}
	buf := w.pending
	w.pending, w.spare = w.spare, nil
	w.relieve()
	// To set a deadline costs about as much as to append a message: once in a
	// while will do.
	if now := time.Now(); !w.closing && now.Sub(w.armed) > w.timeout/4 {
		_ = w.SetWriteDeadline(w.deadline(now))
	}
	return buf, true
}
