package memory

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Client is one client of a [Broker]: an [adapters.Driver] with every ability,
// and an AsyncPublisher, Getter, Unbinder, Canceller, Inspector and HealthReporter.
type Client struct {
	broker  *Broker
	closed  atomic.Bool
	done    chan struct{} // closed with the client
	onClose func()
	wg      sync.WaitGroup // of the goroutines that restore subscriptions

	// Under the broker's control lock:
	session *session
	cuts    uint64 // sessions before this one
	subs    map[*subscription]struct{}

	maxPriorities maxPriorities
}

var (
	_ adapters.Driver         = (*Client)(nil)
	_ adapters.AsyncPublisher = (*Client)(nil)
	_ adapters.Getter         = (*Client)(nil)
	_ adapters.Unbinder       = (*Client)(nil)
	_ adapters.Canceller      = (*Client)(nil)
	_ adapters.Inspector      = (*Client)(nil)
	_ adapters.HealthReporter = (*Client)(nil)
)

// Broker returns the client's broker, for a client that was opened by URL.
func (c *Client) Broker() *Broker { return c.broker }

// Health implements [adapters.HealthReporter]. The one connection, to this process, is up until the
// client is closed. It is never blocked.
func (c *Client) Health() adapters.Health {
	c.broker.control.Lock()
	defer c.broker.control.Unlock()
	h := adapters.Connection{Role: "all", Up: !c.closed.Load(), Generation: 1 + c.cuts}
	if h.Up {
		h.Address, h.Broker = "memory", fmt.Sprintf("the process, as RabbitMQ %s", c.broker.version)
	}
	if c.cuts > 0 {
		h.LastError = adapters.ErrSessionLost
	}
	return adapters.Health{Connections: []adapters.Connection{h}}
}

// Features implements [adapters.Driver].
func (c *Client) Features() adapters.Features {
	return adapters.Features{Adapter: "memory", Ability: adapters.AllV1 | adapters.CanCancel | adapters.CanUnique, MaxDelay: maxDelay}
}

// Declare implements [adapters.Driver].
func (c *Client) Declare(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(c.check(ctx, "declare"), s.Validate()); err != nil {
		return err
	}
	if s.Kind == adapters.Reply {
		return fmt.Errorf("memory: declare: %w: a reply address needs a subscription", adapters.ErrInvalid)
	}
	return c.change(ctx, "declare", s, func() error {
		if s.Private() {
			return c.broker.declareExchange(s.Endpoint)
		}
		_, err := c.declare(s)
		return err
	})
}

// Subscribe implements [adapters.Driver].
func (c *Client) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if err := cmp.Or(c.check(ctx, "subscribe"), s.ValidateSubscribe()); err != nil {
		return nil, err
	}
	sub := newSubscription(c, s)
	if err := c.change(ctx, "subscribe", s, sub.start); err != nil {
		return nil, err
	}
	return sub, nil
}

// Get implements [adapters.Getter].
func (c *Client) Get(ctx context.Context, s adapters.Source) (d adapters.Delivery, err error) {
	if err := cmp.Or(c.check(ctx, "get"), s.ValidateGet()); err != nil {
		return d, err
	}
	var holder *consumer
	var got dequeued
	err = c.change(ctx, "get", s, func() error {
		q, err := c.declare(s)
		if err != nil {
			return err
		}
		if q.spec.SingleActive && q.ready.order != classic { // which RabbitMQ lets pass
			return fmt.Errorf("memory: get: %w: queue %q has a single active consumer", adapters.ErrInvalid, q.name)
		}
		holder = newConsumer(q, c.session)
		holder.stopped = true
		if got = q.get(holder); got.entry == nil {
			return adapters.ErrEmpty
		}
		c.session.consumers[holder] = struct{}{}
		if limit := c.broker.timeout(q, adapters.Source{}); limit > 0 {
			holder.limit = time.AfterFunc(limit, func() { c.broker.getTimedOut(holder) })
		}
		return nil
	})
	if err != nil {
		return d, err
	}
	return holder.receive(got), nil
}

// Unbind implements [adapters.Unbinder].
func (c *Client) Unbind(ctx context.Context, s adapters.Source) error {
	if err := cmp.Or(c.check(ctx, "unbind"), s.Validate()); err != nil {
		return err
	}
	if s.Private() {
		return fmt.Errorf("memory: unbind: %w: a private source", adapters.ErrInvalid)
	}
	return c.change(ctx, "unbind", s, func() error {
		c.broker.unbind(s)
		return nil
	})
}

// Cancel implements [adapters.Canceller].
func (c *Client) Cancel(ctx context.Context, to adapters.Endpoint, id string) error {
	if err := cmp.Or(c.check(ctx, "cancel"), adapters.Publication{To: to}.Validate()); err != nil {
		return err
	}
	return c.change(ctx, "cancel", adapters.Source{Endpoint: to}, func() error {
		if !c.broker.delays.cancel(to, id) {
			return fmt.Errorf("memory: cancel: %w: a delayed message %q to %s", adapters.ErrNotFound, id, to)
		}
		return nil
	})
}

// Cut ends the client's session, as a lost connection does: what is in hand
// goes back to the queues, private queues are gone, and the subscriptions go on
// in a new session before Cut returns, unless a [Fault] keeps them from it.
func (c *Client) Cut() {
	c.broker.control.Lock()
	defer c.broker.control.Unlock()
	if !c.closed.Load() {
		c.broker.cut(func() {}, c)
	}
}

// Close implements [adapters.Driver]. It has nothing to wait for, so ctx does not matter.
func (c *Client) Close(context.Context) error {
	c.broker.control.Lock()
	c.broker.closeClients(c)
	c.broker.control.Unlock()
	c.wg.Wait()
	c.onClose()
	return nil
}

// change runs an operation on s with the control lock held.
func (c *Client) change(ctx context.Context, verb string, s adapters.Source, do func() error) error {
	if f := c.broker.faults.hit(OnSubscribe, s.Name, s.QueueName()); f != nil {
		if err := c.fail(ctx, verb, f); err != nil {
			return err
		}
	}
	c.broker.control.Lock()
	defer c.broker.control.Unlock()
	if c.closed.Load() {
		return adapters.ErrClosed
	}
	return do()
}

// pause waits for d, or until enough is closed. It returns an error if ctx or the client ends
// first.
func (c *Client) pause(ctx context.Context, d time.Duration, enough <-chan struct{}) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-enough:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return adapters.ErrClosed
	}
}

// check returns an error if no operation may begin: because the client is closed, or ctx has ended.
func (c *Client) check(ctx context.Context, verb string) error {
	if c.closed.Load() {
		return adapters.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %s: %w", verb, err)
	}
	return nil
}
