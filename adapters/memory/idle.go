package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

// WaitIdle returns when no message is in flight: no queue holds one that a consumer has not settled
// or is going to get, and none waits for its delay. What waits in a queue without a consumer is not
// in flight, as are dead letters, unless it is one of queues; what was taken with Get is, until it
// is settled. A subscription that is being restored counts as a consumer of every queue.
//
// Nothing is measured: it looks when something has changed, so that in a testing/synctest bubble a
// retry after an hour is waited for in no time. If ctx ends first, the error says what is in
// flight, and wraps ctx.Err().
func (b *Broker) WaitIdle(ctx context.Context, queues ...string) error {
	b.idle.waiting.Add(1)
	defer b.idle.waiting.Add(-1)
	for {
		changed, seen := b.idle.next()
		busy := b.inFlight(queues)
		if busy == "" && b.idle.quiet(seen) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("memory: waiting until nothing is in flight, but there is: %s: %w", cmp.Or(busy, "one on its way"), ctx.Err())
		}
	}
}

// WaitIdle is that of the client's broker: all clients count, so that others need not be given.
func (c *Client) WaitIdle(ctx context.Context, queues []string, _ ...adapters.Driver) error {
	return c.broker.WaitIdle(ctx, queues...)
}

// idle is what WaitIdle waits on. While nobody does it costs a look at waiting.
type idle struct {
	waiting atomic.Int32
	moving  atomic.Int32 // dead letters that have left their queue and are in no other yet

	mu      sync.Mutex
	changes uint64        // since somebody waits
	changed chan struct{} // closed at the next one; nil while nobody waits for it
}

// note says that a message may have come or gone.
func (i *idle) note() {
	if i.waiting.Load() == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.changes++
	if i.changed != nil {
		close(i.changed)
		i.changed = nil
	}
}

// next returns what is closed at the next change, and how many there were.
func (i *idle) next() (<-chan struct{}, uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.changed == nil {
		i.changed = make(chan struct{})
	}
	return i.changed, i.changes
}

// quiet reports whether nothing has changed since seen. Queues are looked at one after the other: a
// message that went from one not looked at yet to one that was is a change.
func (i *idle) quiet(seen uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changes == seen && i.moving.Load() == 0
}

// inFlight says in words what is in flight, or "". What waits in queues is, also if nobody consumes
// them.
func (b *Broker) inFlight(consumed []string) string {
	var found []string
	b.delays.mu.Lock()
	if n := len(b.delays.waiting); n > 0 {
		found = append(found, fmt.Sprintf("%d delayed", n))
	} else if b.delays.routing {
		found = append(found, "one whose delay is over")
	}
	b.delays.mu.Unlock()

	b.control.Lock()
	defer b.control.Unlock()
	restoring := false
	for c := range b.clients {
		for s := range c.subs {
			restoring = restoring || s.restoring != nil
		}
	}
	for _, queues := range []map[string]*queue{b.routes.queues, b.routes.replies} {
		for _, name := range slices.Sorted(maps.Keys(queues)) {
			q := queues[name]
			q.mu.Lock()
			ready, unacked := q.ready.n, q.unacked
			if len(q.consumers) == 0 && !restoring && !slices.Contains(consumed, name) {
				ready = 0
			}
			q.mu.Unlock()
			if ready+unacked > 0 {
				found = append(found, fmt.Sprintf("%d waiting and %d in hand of queue %q", ready, unacked, name))
			}
		}
	}
	return strings.Join(found, ", ")
}
