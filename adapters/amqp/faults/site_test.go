package faults

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
)

// site is a virtual host, and a user with a password that nobody must see.
type site struct {
	*amqptest.VHost
	x              *trial
	user, password string
	gone           bool // there is nothing left to look for

	mu    sync.Mutex
	other *amqp091.Connection // of another client
}

var users atomic.Int64

// shared returns a virtual host on the node that the rows share.
func (x *trial) shared() *site { return x.site(amqptest.Shared(x.t)) }

// node returns a node of the row's own.
func (x *trial) node(o amqptest.Options) (*amqptest.Node, *site) {
	n := amqptest.Private(x.t, o)
	return n, x.site(n.VHost)
}

func (x *trial) site(v *amqptest.VHost) *site {
	s := &site{VHost: v, x: x, user: fmt.Sprintf("user-%d", users.Add(1)), password: x.secret()}
	x.must(v.AddUser(x.soon(), s.user, s.password), "adding a user")
	x.must(v.SetPermissions(x.soon(), s.user, ".*", ".*", ".*"), "giving it permissions")
	x.sites = append(x.sites, s)
	return s
}

// url is the site's address, with the password.
func (s *site) url() string { return s.URLFor(s.user, s.password) }

// config is for clients that notice soon when something is wrong.
func (s *site) config(client string) amqp.Config {
	cfg, err := amqp.ParseURL(s.url())
	s.x.must(err, "the site's URL")
	cfg.Name = client
	cfg.Heartbeat, cfg.WriteTimeout, cfg.DialTimeout = s.x.heartbeat, 3*s.x.heartbeat/2, 3*time.Second
	cfg.BackoffMin, cfg.BackoffMax = 50*time.Millisecond, 500*time.Millisecond
	cfg.Logger = s.x.log.logger(client)
	return cfg
}

// through is a change of a client's config: it goes through a proxy.
func through(p *amqptest.Proxy) func(*amqp.Config) {
	return func(c *amqp.Config) { c.Addresses = []string{p.Addr()} }
}

// watch is a change of a client's config: its events are kept.
func watch(w *watcher) func(*amqp.Config) {
	return func(c *amqp.Config) { c.OnEvent = w.add }
}

// connect returns a recorded driver, to be closed at the end.
func (s *site) connect(client string, changes ...func(*amqp.Config)) full {
	d, _ := s.driver(client, changes...)
	return d
}

// driver returns a recorded driver, and what is behind it.
func (s *site) driver(client string, changes ...func(*amqp.Config)) (full, *amqp.Driver) {
	cfg := s.config(client)
	for _, change := range changes {
		change(&cfg)
	}
	d, err := amqp.Connect(s.x.soon(), cfg)
	s.x.must(err, "connecting "+client)
	s.x.mu.Lock()
	s.x.drivers = append(s.x.drivers, d)
	s.x.mu.Unlock()
	r := history.Record(s.x.wrap(d), s.x.h, client)
	s.x.atEnd(r.Close)
	return r, d
}

// raw returns a new channel of somebody else's client.
func (s *site) raw() *amqp091.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other == nil || s.other.IsClosed() {
		c, err := amqp091.Dial(s.URL)
		s.x.must(err, "connecting another client")
		s.other = c
		s.x.atEnd(func(context.Context) error {
			if err := c.Close(); !errors.Is(err, amqp091.ErrClosed) {
				return err
			}
			return nil
		})
	}
	ch, err := s.other.Channel()
	s.x.must(err, "a channel of another client")
	return ch
}

// send publishes to a queue as another client does, and puts it into the
// history.
func (s *site) send(ch *amqp091.Channel, queue, id string, p amqp091.Publishing) {
	p.MessageId, p.DeliveryMode = id, amqp091.Persistent
	e := history.Event{Op: history.PublishInvoke, Client: "raw", ID: id, Attempt: 1, To: onQueue(queue), Publish: s.x.h.Number()}
	s.x.h.Add(e)
	x := s.x
	x.must(ch.Confirm(false), "confirm mode")
	c, err := ch.PublishWithDeferredConfirm("", queue, false, false, p)
	x.must(err, "publishing "+id)
	ok, err := c.WaitContext(x.soon())
	x.must(err, "publishing "+id)
	if !ok {
		x.fatalf("publishing %s: refused", id)
	}
	e.Op = history.PublishOK
	x.h.Add(e)
}

// collect takes what is left out of the queues and puts it into the history.
func (s *site) collect() error {
	if s.gone {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	queues, err := s.Queues(ctx)
	if err != nil || len(queues) == 0 {
		return err
	}
	c, err := amqp091.Dial(s.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	for _, q := range queues {
		if err := s.empty(ch, q.Name); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnds waits until the broker knows that no client is there any more, and has given back what
// they had; not for long, for somebody may have left one.
func (s *site) awaitEnds() {
	if s.gone {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		connections, err := s.Connections(ctx)
		if err != nil || len(connections) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// empty takes all out of a queue. What is known to be there comes by itself,
// which is much faster than to ask for each.
func (s *site) empty(ch *amqp091.Channel, queue string) error {
	q, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil)
	if err != nil {
		return err
	}
	if q.Messages > 10 {
		deliveries, err := ch.Consume(queue, "end", true, false, false, false, nil)
		if err != nil {
			return err
		}
		for range q.Messages {
			s.x.h.Add(left(queue, <-deliveries))
		}
		if err := ch.Cancel("end", false); err != nil {
			return err
		}
		for d := range deliveries {
			s.x.h.Add(left(queue, d))
		}
	}
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil || !ok {
			return err
		}
		s.x.h.Add(left(queue, d))
	}
}

// left makes an event of a message that was in a queue at the end.
func left(queue string, d amqp091.Delivery) history.Event {
	e := history.Event{Op: history.Left, Client: "end", ID: d.MessageId, Attempt: 1, Queue: queue}
	if text, ok := d.Headers["motif-attempt"].(string); ok {
		if n, err := strconv.Atoi(text); err == nil {
			e.Attempt = n
		}
	}
	if strings.HasPrefix(queue, "motif.delay.") {
		e.Queue = "" // on its way to another
	}
	return e
}

// watcher keeps a driver's events.
type watcher struct {
	x      *trial
	mu     sync.Mutex
	events []amqp.Event
}

func (x *trial) watcher() *watcher { return &watcher{x: x} }

func (w *watcher) add(e amqp.Event) {
	w.mu.Lock()
	w.events = append(w.events, e)
	w.mu.Unlock()
	w.x.shown(e)
}

// count returns how many events of a kind there were, of one role if a role is
// named.
func (w *watcher) count(kind amqp.EventKind, role string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind && (role == "" || e.Role == role) {
			n++
		}
	}
	return n
}

// await waits for the n-th event of a kind.
func (w *watcher) await(kind amqp.EventKind, role string, n int) {
	w.x.await(fmt.Sprintf("%s %s, for the %d. time", role, kind, n), func() bool { return w.count(kind, role) >= n })
}

// limited returns a node with narrow limits: 8 channels to a connection, and
// messages of 1 MiB.
func (x *trial) limited() *site {
	_, s := x.node(amqptest.Options{Settings: map[string]string{"channel_max": "8", "max_message_size": "1048576"}})
	return s
}
