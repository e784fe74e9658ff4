package memory

import (
	"cmp"
	"context"
	"iter"

	"github.com/motifmq/motif/adapters"
)

// Inspect implements [adapters.Inspector].
func (c *Client) Inspect(ctx context.Context, name string) (info adapters.QueueInfo, err error) {
	err = c.with(ctx, "inspect", name, nil, func(q *queue) error {
		info = q.inspect()
		return nil
	})
	return info, err
}

// Queues implements [adapters.Inspector]. Private queues are among them, those of reply addresses
// are not. All are looked at before the first one is yielded.
func (c *Client) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	return func(yield func(adapters.QueueInfo, error) bool) {
		var all []adapters.QueueInfo
		err := c.check(ctx, "list queues")
		if err == nil {
			err = c.change(ctx, "list queues", adapters.Source{}, func() error {
				for _, q := range c.broker.routes.queues {
					all = append(all, q.inspect())
				}
				return nil
			})
		}
		if err != nil {
			yield(adapters.QueueInfo{}, err)
			return
		}
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Browse implements [adapters.Inspector]. It changes nothing.
func (c *Client) Browse(ctx context.Context, name string, limit int) (found []adapters.Delivery, err error) {
	err = c.with(ctx, "browse", name, adapters.ValidateBrowse(name, limit), func(q *queue) error {
		found = q.browse(limit)
		return nil
	})
	for i := range found {
		found[i].Message.SetContext(context.WithoutCancel(ctx))
	}
	return found, err
}

// Bindings implements [adapters.Inspector].
func (c *Client) Bindings(ctx context.Context, name string) (bound []adapters.Binding, err error) {
	err = c.with(ctx, "list bindings", name, nil, func(q *queue) error {
		for b := range q.bindings {
			bound = append(bound, adapters.Binding{Exchange: b.exchange, Key: b.key})
		}
		return nil
	})
	return bound, err
}

// Purge implements [adapters.Inspector].
func (c *Client) Purge(ctx context.Context, name string) (n int, err error) {
	err = c.with(ctx, "purge", name, nil, func(q *queue) error {
		n = q.purge()
		return nil
	})
	return n, err
}

// Delete implements [adapters.Inspector]. It checks and deletes in one step.
func (c *Client) Delete(ctx context.Context, name string, only adapters.Condition) error {
	return c.with(ctx, "delete", name, nil, func(q *queue) error {
		if err := only.Unmet(q.inspect()); err != nil {
			return err
		}
		c.broker.deleteQueue(q)
		return nil
	})
}

// with runs do on a queue, with the control lock held.
func (c *Client) with(ctx context.Context, verb, name string, valid error, do func(*queue) error) error {
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name}}
	if err := cmp.Or(c.check(ctx, verb), valid, s.Validate()); err != nil {
		return err
	}
	return c.change(ctx, verb, s, func() error {
		q := c.broker.routes.queues[name]
		if q == nil {
			return notFound("queue", name)
		}
		return do(q)
	})
}

func (q *queue) inspect() adapters.QueueInfo {
	q.mu.Lock()
	defer q.unlock()
	q.expire()
	info := adapters.QueueInfo{Name: q.name, Ready: q.ready.n, Unacked: q.unacked, Consumers: len(q.consumers)}
	if head := q.ready.peek(); head != nil {
		info.Oldest = head.props.Timestamp
	}
	return info
}

// purge empties the queue of what is ready, and returns how much that was. A classic queue of 4.0
// of which nobody holds a message then takes all that comes for delivered, which shows after the
// next restart.
func (q *queue) purge() int {
	q.mu.Lock()
	defer q.unlock()
	q.expire()
	if q.unacked == 0 {
		q.purged = true
	}
	return q.drop()
}

// browse returns copies, which are made before the lock is released: what is acknowledged is used
// again for other messages.
func (q *queue) browse(limit int) (found []adapters.Delivery) {
	q.mu.Lock()
	defer q.unlock()
	q.expire()
	now, size, left := q.broker.clock.now(), 0, q.ready.n
	q.ready.each(func(e *entry) bool {
		if e.expires > 0 && e.expires <= now { // once it is the next, it expires
			left--
			return true
		}
		if size += len(e.payload); len(found) == limit || size > adapters.MaxBrowseBytes && len(found) > 0 {
			return false
		}
		left--
		d := newDelivery(e.payload)
		t := e.dequeuedFrom(q)
		t.remaining = left
		found = append(found, adapters.Delivery{})
		t.fill(&found[len(found)-1], &d.message)
		return true
	})
	return found
}

// each yields the entries in the order in which they would be delivered, and leaves them in their
// places: each is taken, and put back at the end.
func (b *backlog) each(yield func(*entry) bool) {
	turn := b.turn
	var undo []func()
	defer func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
			b.n++
		}
		b.turn = turn
	}()
	for e := b.peek(); e != nil; e = b.peek() {
		l := &b.requeued
		if l.head != e {
			l = &b.levels[e.level].fresh
		}
		if l.head == e {
			undo = append(undo, func() { l.prepend(e) })
		} else {
			back := &b.levels[e.level].requeued
			undo = append(undo, func() { back.push(e) })
		}
		b.pop(e)
		if !yield(e) {
			return
		}
	}
}
