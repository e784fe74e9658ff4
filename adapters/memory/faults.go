package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Op is what a client does when a [Fault] strikes.
type Op uint8

const (
	OnPublish   Op = iota // each message of a Publish or PublishAsync
	OnSubscribe           // Subscribe, Declare, Get, Unbind, the methods of an Inspector, and each attempt to restore a subscription
	OnDeliver             // a Receive that is about to return a message
	OnSettle              // a Settle
)

// Effect is what a [Fault] does.
type Effect uint8

const (
	// Nothing but the fault's Delay.
	Nothing Effect = iota

	// Refuse: the call fails with ErrUnavailable and has done nothing. A message
	// that was to be settled is still in hand. Not OnDeliver.
	Refuse

	// DropConfirm: the message is stored, but its publisher gets
	// ErrUnconfirmed. OnPublish only.
	DropConfirm

	// CutSession cuts the client's session, as [Client.Cut] does. A Publish has
	// stored its message and returns ErrUnconfirmed, a Receive goes on in the
	// next session, a Settle returns ErrStaleDelivery, and what else subscribes
	// fails with ErrUnavailable.
	CutSession

	// CancelConsumer: the broker cancels the consumer. What it has not received
	// goes back, what is in hand can be settled, and the subscription is restored.
	// OnDeliver only, and the message that was to be received goes back as well.
	CancelConsumer
)

var effectOps = [...][]Op{
	Nothing:        {OnPublish, OnSubscribe, OnDeliver, OnSettle},
	Refuse:         {OnPublish, OnSubscribe, OnSettle},
	DropConfirm:    {OnPublish},
	CutSession:     {OnPublish, OnSubscribe, OnDeliver, OnSettle},
	CancelConsumer: {OnDeliver},
}

// Fault is something that goes wrong, to see how your code copes.
type Fault struct {
	On   Op
	Name string // the endpoint or queue it is about; "" = all

	Skip  int // lets so many pass first
	Times int // strikes so often and is then gone; 0 means until it is removed

	// Delay passes before the effect. For a Publish it delays the confirm: the message is stored at
	// once, and if ctx ends meanwhile that is ErrUnconfirmed. Everything else waits for the delay,
	// and does not happen if ctx ends first. The delay ends when the fault is removed.
	Delay time.Duration
	Do    Effect
}

// Inject sets a fault, and returns a function that removes it. If several faults match, the first
// injected strikes, and only that counts it. Inject panics if the effect makes no sense for the
// operation.
func (b *Broker) Inject(f Fault) (remove func()) {
	if int(f.Do) >= len(effectOps) || !slices.Contains(effectOps[f.Do], f.On) {
		panic(fmt.Sprintf("motif: memory: fault with effect %d on operation %d", f.Do, f.On))
	}
	s := &injectedFault{Fault: f, removed: make(chan struct{})}
	b.faults.mu.Lock()
	defer b.faults.mu.Unlock()
	b.faults.list = append(b.faults.list, s)
	b.faults.any.Store(true)
	return sync.OnceFunc(func() {
		b.faults.mu.Lock()
		defer b.faults.mu.Unlock()
		b.faults.remove(s)
		close(s.removed)
	})
}

// faults is the faults that are set.
type faults struct {
	any  atomic.Bool // so that looking costs next to nothing while there are none
	mu   sync.Mutex
	list []*injectedFault
}

// injectedFault is a fault, and how often it has matched.
type injectedFault struct {
	Fault
	matched int
	removed chan struct{} // closed when it is removed, not when it struck often enough
}

// hit returns the fault that strikes now, or nil.
func (f *faults) hit(on Op, names ...string) *injectedFault {
	if !f.any.Load() {
		return nil
	}
	return f.find(on, names)
}

func (f *faults) find(on Op, names []string) *injectedFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.list {
		if s.On != on || s.Name != "" && !slices.Contains(names, s.Name) {
			continue
		}
		if s.matched++; s.matched <= s.Skip {
			continue
		}
		if s.matched == s.Skip+s.Times {
			f.remove(s)
		}
		return s
	}
	return nil
}

// remove removes s. The lock is held.
func (f *faults) remove(s *injectedFault) {
	f.list = slices.DeleteFunc(f.list, func(o *injectedFault) bool { return o == s })
	f.any.Store(len(f.list) > 0)
}

// fail applies f to a call that subscribes, declares or settles. If it returns an error the call
// must not go on.
func (c *Client) fail(ctx context.Context, verb string, f *injectedFault) error {
	if err := c.pause(ctx, f.Delay, f.removed); err != nil {
		return fmt.Errorf("memory: %s: %w", verb, err)
	}
	switch f.Do {
	case Refuse:
		return fmt.Errorf("memory: %s: refused: %w", verb, adapters.ErrUnavailable)
	case CutSession:
		c.Cut()
		return fmt.Errorf("memory: %s: %w", verb, adapters.ErrUnavailable)
	}
	return nil
}
