package memory

import (
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Broker is an in-process message broker: exchanges, queues and what waits in them. It has no
// goroutines of its own. All methods may be called concurrently.
//
// Locks nest in this order: control, one queue's, the routes'. Two queues are never locked at once,
// and no lock is held while a caller's code runs.
type Broker struct {
	version Version

	consumerTimeout time.Duration
	classic         bool // all queues are

	clock   clock
	routes  routes
	delays  delays
	unique  unique
	entries entries
	faults  faults
	idle    idle

	// control is held by whatever changes exchanges, queues, clients, sessions or subscriptions;
	// publishing, receiving and settling do not take it.
	control sync.Mutex
	clients map[*Client]struct{}
	closed  bool
}

// New makes a broker. One that is not closed is garbage collected once nobody uses it and no
// message in it waits for a time.
func New(options ...Option) *Broker {
	b := &Broker{version: Newest, consumerTimeout: defaultTimeout, clock: clock{epoch: time.Now()}, clients: make(map[*Client]struct{})}
	b.routes.queues = make(map[string]*queue)
	b.routes.replies = make(map[string]*queue)
	b.routes.exchanges = predeclared()
	b.delays.broker = b
	for _, o := range options {
		o.set(b)
	}
	return b
}

// Connect makes a client. If the broker was closed, so is the client.
func (b *Broker) Connect() *Client {
	c := &Client{broker: b, done: make(chan struct{}), onClose: func() {}, subs: make(map[*subscription]struct{})}
	c.session = newSession(c)
	b.control.Lock()
	defer b.control.Unlock()
	b.clients[c] = struct{}{}
	if b.closed {
		b.closeClients(c)
	}
	return c
}

// Close closes all clients, and forgets everything. No goroutine or timer outlives it. Closing
// twice is harmless.
func (b *Broker) Close() {
	b.control.Lock()
	clients := b.allClients()
	b.closed = true
	b.closeClients(clients...)
	for _, queues := range []map[string]*queue{b.routes.queues, b.routes.replies} {
		for _, q := range queues {
			b.remove(q)
		}
	}
	b.delays.stop()
	b.clock.stop()
	b.control.Unlock()
	for _, c := range clients {
		c.wg.Wait()
	}
}

// Cut ends the sessions of all clients, see [Client.Cut].
func (b *Broker) Cut() {
	b.control.Lock()
	defer b.control.Unlock()
	b.cut(func() {}, b.allClients()...)
}

// Restart does what a restart of the broker does: all sessions end as by Cut,
// and transient messages are gone, as private queues are. Other queues and
// messages stay, delayed ones too, and what was in hand is redelivered.
func (b *Broker) Restart() {
	b.control.Lock()
	defer b.control.Unlock()
	b.cut(func() {
		for _, q := range b.routes.queues {
			q.mu.Lock()
			forgets := b.version == RabbitMQ43 && q.ready.order == classic
			mistakes := b.version == RabbitMQ40 && q.ready.order == classic && q.purged
			gaps := b.version != RabbitMQ43 && q.ready.order == classic && !mistakes
			q.purged = false
			if mistakes {
				q.ready.closeGaps()
			}
			q.ready.filter(func(e *entry) bool {
				if forgets { // what was given back in order
					e.redelivered = e.failedDeliveries > 0
				}
				e.redelivered = e.redelivered || mistakes
				if e.props.Transient && gaps && !e.redelivered {
					q.ready.level(e.level).leaveGap(e)
				}
				return !e.props.Transient
			})
			q.expire() // what transient messages stood before
			q.armExpiry()
			q.unlock()
		}
		b.delays.filter(func(d *delayed) bool { return !d.record.props.Transient })
	}, b.allClients()...)
}

func (b *Broker) allClients() []*Client {
	clients := make([]*Client, 0, len(b.clients))
	for c := range b.clients {
		clients = append(clients, c)
	}
	return clients
}

// cut ends the sessions of clients, calls meanwhile, and gives the clients new sessions. The
// control lock is held, here and below.
func (b *Broker) cut(meanwhile func(), clients ...*Client) {
	var ended []*session
	for _, c := range clients {
		ended = append(ended, c.session)
		c.session = newSession(c)
		c.cuts++
	}
	b.endSessions(adapters.ErrSessionLost, ended...)
	meanwhile()
	for _, c := range clients {
		for s := range c.subs {
			s.restore()
		}
	}
}

// closeClients closes clients that are not closed yet.
func (b *Broker) closeClients(clients ...*Client) {
	var ended []*session
	clients = slices.DeleteFunc(clients, func(c *Client) bool { return c.closed.Load() })
	for _, c := range clients {
		c.closed.Store(true)
		close(c.done)
		for s := range c.subs {
			s.end(adapters.ErrClosed)
		}
		ended = append(ended, c.session)
		delete(b.clients, c)
	}
	b.endSessions(adapters.ErrClosed, ended...)
}

// detach ends a consumer. What is in hand stays there, but for d.
func (b *Broker) detach(c *consumer, d *delivery) {
	q := c.queue
	q.mu.Lock()
	q.detach(c)
	if d != nil {
		if e := d.release(); e != nil {
			q.ready.requeue(e)
		}
	}
	drained := c.unackedCount == 0
	q.unlock()
	if drained {
		delete(c.session.consumers, c)
	}
	b.afterDetach(q, true)
}

// giveBack is detach for a consumer whose messages in hand are requeued, too.
func (b *Broker) giveBack(c *consumer) {
	q := c.queue
	q.mu.Lock()
	q.detachLost(c, adapters.ErrSessionLost)
	q.unlock()
	delete(c.session.consumers, c)
	c.cancel(adapters.ErrSessionLost)
	b.afterDetach(q, true)
}

// cancel ends the consumer that was about to receive d without its subscription,
// which is restored. It takes the control lock itself, as does forget.
func (b *Broker) cancel(c *consumer, d *delivery) {
	b.control.Lock()
	defer b.control.Unlock()
	if c.sub.err == nil && c.sub.restoring == nil && c.sub.current.Load() == c {
		b.detach(c, d)
		c.sub.restore()
	}
}

// forget drops a consumer that has gone and has nothing left to settle.
func (b *Broker) forget(c *consumer) {
	if c.limit != nil {
		c.limit.Stop()
	}
	b.control.Lock()
	defer b.control.Unlock()
	delete(c.session.consumers, c)
}
