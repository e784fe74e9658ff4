package netio

import (
	"errors"
	"net"
	"os"
	"slices"
	"time"
)

// Lend is Write of parts, an odd number of them, in order. Of these the second, the fourth and so
// on are not copied but lent, unless they are small, and have to stay as they are until the
// channel that Lend returns is closed. By then they are written, or never will be. The channel is
// nil if nothing is lent.
//
// One loan is out at a time: whoever lends waits for it, or for [Conn.Recall], before more is lent.
// Nothing is lent to TLS, which copies what it encrypts, and could not go on after a write that was
// interrupted.
func (c *Conn) Lend(parts ...[]byte) (<-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refusal(); err != nil {
		return nil, err
	}
	for i, p := range parts {
		if i%2 == 0 || len(p) < minLoan || c.Conn != c.raw {
			c.pending = append(c.pending, p...)
			continue
		}
		if c.lent == nil {
			c.lent = make(chan struct{})
		}
		if c.base == nil {
			c.base = c.pending
		}
		n := len(c.pending)
		c.before = append(c.before, c.pending[:n:n], p)
		c.beforeSize += n + len(p)
		c.pending = c.pending[n:]
	}
	c.noteRoom()
	c.wakeWriter()
	return c.lent, nil
}

// Recall has what is lent given back: once it returns, it may change. What is not written yet is
// copied, and goes on.
func (c *Conn) Recall() {
	c.mu.Lock()
	lent := c.lent
	switch {
	case lent == nil:
	case c.lentTaken:
		c.recalled = true
		_ = c.SetWriteDeadline(time.Unix(1, 0)) // interrupts the write
	default:
		c.pending = slices.Concat(append(c.before, c.pending)...)
		c.before, c.beforeSize, c.base = nil, 0, nil
		c.giveBack()
	}
	c.mu.Unlock()
	if lent != nil {
		<-lent
	}
}

// giveBack gives back what is lent, if anything is. c.mu is held.
func (c *Conn) giveBack() {
	if c.lent != nil {
		close(c.lent)
		c.lent, c.lentTaken = nil, false
	}
}

// write writes a batch, and gives back what was lent for it.
func (c *Conn) write(b batch) error {
	if len(b.before) == 0 {
		_, err := c.Conn.Write(b.last)
		return err
	}
	rest := append(b.before, b.last)
	_, err := rest.WriteTo(c.Conn)
	c.mu.Lock()
	recalled := c.recalled
	if recalled {
		c.recalled = false
		c.setDeadline(time.Now())
		if errors.Is(err, os.ErrDeadlineExceeded) {
			rest = net.Buffers{slices.Concat(rest...)}
		}
	}
	c.giveBack()
	c.mu.Unlock()
	if recalled && errors.Is(err, os.ErrDeadlineExceeded) {
		_, err = rest.WriteTo(c.Conn)
	}
	return err
}
