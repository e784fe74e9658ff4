package kit

import (
	"errors"
	"fmt"
	"sync"

	"github.com/motifmq/motif/adapters"
)

// Copies is a message on its way to several queues, for an adapter whose publisher sends each its
// copy: see [Routes]. Its methods may be called concurrently.
type Copies struct {
	mandatory bool
	done      func(error)

	mu     sync.Mutex
	left   int
	found  bool // a queue that was not gone
	stored bool // a copy is, for certain
	err    error
}

// NewCopies returns a message on its way to n queues, at least one. done is called once, by the
// last Resolve, with what became of the message.
func NewCopies(n int, mandatory bool, done func(error)) *Copies {
	return &Copies{left: n, mandatory: mandatory, done: done}
}

// Resolve notes what became of one copy: it is stored, failed with err, or, if gone is set, had no
// queue any more. It reports whether that was the last one.
//
// Of several errors the message's is the first, but for ErrUnconfirmed, which promises least. If a
// copy is stored, the message's error wraps ErrUnconfirmed as well, or is ErrNacked: others say
// that nothing is. A mandatory message is ErrUnroutable if all queues were gone.
func (c *Copies) Resolve(gone bool, err error) (last bool) {
	c.mu.Lock()
	c.left--
	c.found = c.found || !gone
	c.stored = c.stored || !gone && err == nil
	if err != nil && (c.err == nil || errors.Is(err, adapters.ErrUnconfirmed)) {
		c.err = err
	}
	last, err = c.left == 0, c.err
	switch {
	case err == nil && !c.found && c.mandatory:
		err = adapters.ErrUnroutable
	case err != nil && c.stored && !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrNacked):
		err = fmt.Errorf("%w: in some of its queues: %w", adapters.ErrUnconfirmed, err)
	}
	c.mu.Unlock()
	if last {
		c.done(err)
	}
	return last
}
