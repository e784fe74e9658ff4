package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

const (
	// deliveryLimit is x-delivery-limit. RabbitMQ 4 drops or dead-letters a
	// message after 20 deliveries unless told otherwise, and a shutdown or lost connection is a
	// delivery too. -1 would mean no limit, but only from 4.0 on, where the queue
	// of an older broker that has something else would be a mismatch.
	deliveryLimit = math.MaxInt32

	// maxExpiry is the most milliseconds that RabbitMQ takes as a time to live.
	maxExpiry = math.MaxUint32

	maxDeclared = 1024 // sources that are declared again after a reconnect
)

// Declare implements [adapters.Driver].
func (d *Driver) Declare(ctx context.Context, s adapters.Source) error {
	if err := d.checkCall(ctx, "declare", validateSource(s)); err != nil {
		return err
	}
	if s.Kind == adapters.Reply {
		return invalid("declare: a reply address needs a subscription")
	}
	err := d.retryOnChannel(ctx, s.QueueName(), func(conn *connection, ch *amqp091.Channel) error { return conn.declare(ch, s, s.Kind.IsExchange()) })
	if err != nil {
		return fmt.Errorf("amqp: declare %s: %w", sourceName(s), err)
	}
	d.rememberDeclared(s)
	return nil
}

// Unbind implements [adapters.Unbinder].
func (d *Driver) Unbind(ctx context.Context, s adapters.Source) error {
	if err := d.checkCall(ctx, "unbind", validateSource(s)); err != nil {
		return err
	}
	if s.Private() {
		return invalid("unbind: a private source")
	}
	err := d.retryOnChannel(ctx, s.QueueName(), func(_ *connection, ch *amqp091.Channel) error {
		for _, key := range union(routingKeys(s), s.Keys) { // as others spell them, or this package did once
			if err := ch.QueueUnbind(s.QueueName(), key, s.Name, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(sentinel(err), adapters.ErrNotFound) { // no queue or exchange, no binding
		return fmt.Errorf("amqp: unbind %s: %w", sourceName(s), err)
	}
	d.forgetBindings(s)
	return nil
}

// retryOnChannel runs f with a channel of its own. If the session is lost meanwhile it
// runs it again in the next one: f must not mind. It is about a queue or exchange.
func (d *Driver) retryOnChannel(ctx context.Context, about string, f func(*connection, *amqp091.Channel) error) error {
	sup := d.publisher
	defer func() {
		if sup != d.publisher {
			d.releaseChannel(sup)
		}
	}()
	return d.withConnection(ctx, &sup, about, func(conn *connection) error {
		return conn.withChannel(ctx, func(ch *amqp091.Channel) error { return f(conn, ch) })
	})
}

// settlingTime is how long a quorum queue that is declared may not work yet: RabbitMQ knows it
// before that. Who declares it is not told so, but of two processes the second one is. To consume
// then costs the connection, and to bind has publishers nacked: of 150 who came together
// 54, 51 and 5 on 3.10, 4.0 and 4.3, and 20 ms later none, but on a busy machine some of 3.10 after
// 50, and one after 150. So it is also a multiple of what declarations take just now. A queue that is
// empty, and that nobody consumes, may be new.
func (conn *connection) settlingTime() time.Duration {
	least := 150 * time.Millisecond
	if conn.version.atLeast(quickQueues) {
		least = 50 * time.Millisecond
	}
	return max(least, min(3*time.Duration(conn.supervisor.driver.declareTook.Load()), time.Second))
}

// noteDeclareTime notes how long a declaration took: the longest of the last ones.
func (d *Driver) noteDeclareTime(t time.Duration) {
	last := d.declareTook.Load()
	d.declareTook.CompareAndSwap(last, max(int64(t), last-last/8))
}

// declare makes what s describes exist, or finds out whether it does. If it is to be used at
// once it waits until that is possible.
func (conn *connection) declare(ch *amqp091.Channel, src adapters.Source, use bool) error {
	if src.Passive {
		_, err := conn.passive(ch, src.QueueName())
		return err
	}
	if src.Kind.IsExchange() {
		if err := conn.declareExchange(ch, src.Endpoint); err != nil {
			return err
		}
	}
	if src.Private() {
		return nil // but for its queue
	}
	if src.Queue.DeadLetter != "" {
		if _, err := conn.declareQueue(ch, src.Queue.DeadLetter, adapters.QueueSpec{}); err != nil {
			return err
		}
	}
	fresh, err := conn.declareQueue(ch, src.QueueName(), src.Queue)
	if err != nil {
		return err
	}
	if fresh && use {
		sleep(conn.ctx, conn.settlingTime())
	}
	return bind(ch, src.QueueName(), src)
}

// declarePrivate makes a queue that only this connection can use, and that goes
// with its consumer, and returns the name that the broker gives it. Nobody can guess that.
func declarePrivate(ch *amqp091.Channel, s adapters.Source) (string, error) {
	q, err := ch.QueueDeclare("", false, true, true, false, amqp091.Table{"x-queue-type": string(Classic)})
	if err != nil || s.Kind == adapters.Reply {
		return q.Name, err
	}
	return q.Name, bind(ch, q.Name, s)
}

func bind(ch *amqp091.Channel, queue string, s adapters.Source) error {
	for _, key := range routingKeys(s) {
		if err := ch.QueueBind(queue, key, s.Name, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// routingKeys returns the routing keys with which s is bound to its exchange.
func routingKeys(s adapters.Source) []string {
	if s.Kind == adapters.Fanout {
		return []string{""}
	}
	return boundKeys(s)
}

// boundKeys returns the keys of s as they are bound. RabbitMQ (4.3.5) counts each '#' of a
// pattern, also those that mean nothing beside another.
func boundKeys(s adapters.Source) []string {
	if s.Kind != adapters.Topic {
		return s.Keys
	}
	normal := make([]string, len(s.Keys))
	for i, key := range s.Keys {
		normal[i] = adapters.NormalPattern(key)
	}
	return normal
}

// declareQueue also reports whether the queue may be new.
func (conn *connection) declareQueue(ch *amqp091.Channel, name string, q adapters.QueueSpec) (fresh bool, err error) {
	kind := conn.queueType(name, q)
	is, err := conn.declareOnce(ch, name, q.AutoDelete, queueArguments(q, kind))
	switch {
	case err == nil:
		conn.supervisor.driver.rememberSpec(name, q)
		if kind == Quorum && is.Messages == 0 && is.Consumers == 0 {
			conn.supervisor.driver.forgetFirst(name)
			return true, nil
		}
	case conn.keepOtherType(name, q, err), conn.isStarting(name, err):
		return false, errDeclareAgain
	}
	return false, err
}

// declareOnce waits for others of this driver that declare the same queue. A
// quorum queue is known to RabbitMQ (3.10) before it works: whoever is told meanwhile that it exists,
// and consumes, makes the broker close the connection, and a publish is refused.
func (conn *connection) declareOnce(ch *amqp091.Channel, name string, autoDelete bool, args amqp091.Table) (q amqp091.Queue, err error) {
	done, err := conn.supervisor.driver.declaring.lock(conn.ctx, name)
	if err != nil {
		return q, err
	}
	defer done()
	start := time.Now()
	defer func() { conn.supervisor.driver.noteDeclareTime(time.Since(start)) }()
	return ch.QueueDeclare(name, true, autoDelete, false, false, args)
}

// nameLocks are locks, one for each name that is in use.
type nameLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is no longer
}

// lock waits for a name, as long as ctx allows, and returns what gives it back.
func (n *nameLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		n.mu.Lock()
		other, held := n.held[name]
		if !held {
			break
		}
		n.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	defer n.mu.Unlock()
	if n.held == nil {
		n.held = make(map[string]chan struct{})
	}
	mine := make(chan struct{})
	n.held[name] = mine
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.held, name)
		close(mine)
	}, nil
}

// queueArguments are what two declarations of a queue have to agree in.
func queueArguments(q adapters.QueueSpec, kind QueueType) amqp091.Table {
	args := amqp091.Table{"x-queue-type": string(kind)}
	switch {
	case kind == Quorum: // and 0 is what a queue without priorities has
		args["x-delivery-limit"] = deliveryLimit - int64(q.MaxPriority)
	case q.MaxPriority > 0:
		args["x-max-priority"] = int64(q.MaxPriority)
	}
	if q.MessageTTL > 0 {
		args["x-message-ttl"] = milliseconds(q.MessageTTL)
	}
	if q.MaxLength > 0 {
		args["x-max-length"] = int64(q.MaxLength)
		args["x-overflow"] = "reject-publish"
		if q.Overflow == adapters.DropHead {
			args["x-overflow"] = "drop-head"
		}
	}
	if q.DeadLetter != "" {
		args["x-dead-letter-exchange"] = ""
		args["x-dead-letter-routing-key"] = q.DeadLetter
		if kind == Quorum && (q.MaxLength == 0 || q.Overflow == adapters.RejectPublish) {
			// A dead letter leaves its queue when the next one has it, not before.
			// RabbitMQ wants to hear about overflow for that, also without a limit.
			args["x-dead-letter-strategy"] = "at-least-once"
			args["x-overflow"] = "reject-publish"
		}
	}
	return args
}

// queueType is the type of a queue, priorities aside.
func (c *Config) queueType(q adapters.QueueSpec) QueueType {
	if q.AutoDelete || c.QueueType == "" && q.MaxLength > 0 && q.Overflow == adapters.RejectPublish {
		return Classic
	}
	return cmp.Or(c.QueueType, Quorum)
}

// queueType is the type that a queue of this name is declared as.
func (conn *connection) queueType(name string, q adapters.QueueSpec) QueueType {
	kind := conn.supervisor.driver.cfg.queueType(q)
	if kind == Quorum && q.MaxPriority > 0 {
		return conn.priorityQueueType(name, q)
	}
	return kind
}

// milliseconds rounds up: a time to live must not become none.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// validateSource is s.Validate and what only RabbitMQ minds.
func validateSource(s adapters.Source) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("amqp: %w", err)
	}
	if milliseconds(s.Queue.MessageTTL) > maxExpiry {
		return invalid("message TTL %v, at most %v is possible", s.Queue.MessageTTL, maxExpiry*time.Millisecond)
	}
	return nil
}

// sourceName names s in an error message. Validated names are short enough.
func sourceName(s adapters.Source) string {
	switch {
	case s.Kind == adapters.Reply:
		return "a reply address"
	case s.Group == "":
		return s.String()
	}
	return fmt.Sprintf("%s for group %q", s.Endpoint, s.Group)
}

// rememberDeclared notes what to declare again in the next session, in case that the
// broker comes back without it.
func (d *Driver) rememberDeclared(s adapters.Source) {
	if s.Passive {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.declared) >= maxDeclared {
		clear(d.declared) // who publishes there finds out, and declares it
	}
	name := sourceName(s)
	s.Keys = union(boundKeys(s), d.declared[name].Keys) // bindings add up
	d.declared[name] = s
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// forgetBindings takes the bindings of s from what is remembered.
func (d *Driver) forgetBindings(s adapters.Source) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, gone := sourceName(s), boundKeys(s)
	old, ok := d.declared[name]
	old.Keys = slices.DeleteFunc(slices.Clone(old.Keys), func(key string) bool { return slices.Contains(gone, key) })
	if ok && len(old.Keys) > 0 {
		d.declared[name] = old
	} else {
		delete(d.declared, name)
	}
}

// redeclare declares in a new session what was declared before. What fails is
// logged: whoever uses it gets the error.
func (d *Driver) redeclare(conn *connection) {
	d.mu.Lock()
	sources := make([]adapters.Source, 0, len(d.declared))
	for _, src := range d.declared {
		sources = append(sources, src)
	}
	d.mu.Unlock()
	for _, src := range sources {
		if !conn.alive() {
			return
		}
		err := errDeclareAgain
		for errors.Is(err, errDeclareAgain) {
			err = conn.withChannel(d.ctx, func(ch *amqp091.Channel) error { return conn.declare(ch, src, false) })
		}
		if err != nil {
			d.cfg.Logger.Warn("motif: declaring again", "source", sourceName(src), "error", err)
		}
	}
}
