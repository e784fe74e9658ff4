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
	// deliveryLimit is x-delivery-limit. RabbitMQ 4 drops or dead-letters a message after 20
	// deliveries unless told otherwise, and counts those ended by a shutdown or a lost connection,
	// too. -1 means no limit, but only from 4.0 on; queues of older brokers would then be a
	// mismatch.
	deliveryLimit = math.MaxInt32

	// maxExpiry is the longest time to live that RabbitMQ takes, in milliseconds.
	maxExpiry = math.MaxUint32

	maxDeclared = 1024 // how many sources are declared again after a reconnect

	// mostDeclaring is how many queues are declared at a time on a connection. More of them take as
	// long in all, but each takes longer, and the longer a new queue then has to settle: when a
	// thousand subscriptions come back at once that is two seconds.
	mostDeclaring = 4
)

// Declare implements [adapters.Driver].
func (d *Driver) Declare(ctx context.Context, s adapters.Source) error {
	if err := d.checkCall(ctx, "declare", validateSource(s)); err != nil {
		return err
	}
	if s.Kind == adapters.Reply {
		return invalid("declare: a reply address needs a subscription")
	}
	declare := func(conn *connection) error {
		return conn.withKeptChannel(ctx, func(ch *amqp091.Channel) error { return conn.declare(ch, s, false) })
	}
	if s.Kind.IsExchange() && !s.Private() && !s.Passive && !d.cfg.migrates(s.QueueName()) {
		declare = func(conn *connection) error { return conn.declareGroup(ctx, s) }
	}
	if err := d.retry(ctx, s.QueueName(), declare); err != nil {
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
		for _, key := range union(routingKeys(s), s.Keys) { // also spelled as others, or earlier versions, bound them
			if err := ch.QueueUnbind(s.QueueName(), key, s.Name, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(sentinel(err), adapters.ErrNotFound) { // without a queue or exchange there is no binding
		return fmt.Errorf("amqp: unbind %s: %w", sourceName(s), err)
	}
	d.forgetBindings(s)
	return nil
}

// declareGroup makes the queue of a group exist and then, on another channel, binds it: nobody else
// has to wait for a channel while a queue that is new settles.
func (conn *connection) declareGroup(ctx context.Context, src adapters.Source) error {
	var fresh bool
	err := conn.withKeptChannel(ctx, func(ch *amqp091.Channel) (err error) {
		if fresh, err = conn.declareQueues(ch, src); err == nil && !fresh {
			err = bind(ch, src.QueueName(), src)
		}
		return err
	})
	if err != nil || !fresh {
		return err
	}
	if err := conn.settle(ctx, src.QueueName()); err != nil {
		return err
	}
	return conn.withKeptChannel(ctx, func(ch *amqp091.Channel) error { return bind(ch, src.QueueName(), src) })
}

// retryOnChannel is retry with a channel of its own for f.
func (d *Driver) retryOnChannel(ctx context.Context, about string, f func(*connection, *amqp091.Channel) error) error {
	return d.retry(ctx, about, func(conn *connection) error {
		return conn.withChannel(ctx, func(ch *amqp091.Channel) error { return f(conn, ch) })
	})
}

// retry runs f, and again on the next connection if this one is lost meanwhile: f must be
// idempotent. about is the queue or exchange that f is about.
func (d *Driver) retry(ctx context.Context, about string, f func(*connection) error) error {
	sup := d.publisher
	defer func() {
		if sup != d.publisher {
			d.releaseChannel(sup)
		}
	}()
	return d.withConnection(ctx, &sup, about, f)
}

// settlingTime is how long a declared quorum queue may not work yet: RabbitMQ knows it before it
// works, and lets another process that declares it go on. Consuming then costs the connection, and
// binding has publishers nacked: of 150 processes that came together, 54 on 3.10, 51 on 4.0 and 5
// on 4.3. After 20 ms there were none, except on a busy machine with 3.10, where there were some
// after 50 ms and one after 150. So it is also a multiple of the time that declarations currently
// take. A queue that is empty, and that nobody consumes, may be new.
func (conn *connection) settlingTime() time.Duration {
	least := 150 * time.Millisecond
	if conn.version.atLeast(quickQueues) {
		least = 50 * time.Millisecond
	}
	return max(least, min(5*time.Duration(conn.supervisor.driver.declareTook.Load()), 2*time.Second))
}

// noteDeclareTime notes how long a declaration took. The maximum decays, slowly: most declarations
// are of queues that exist, which is quick even where new ones take long.
func (d *Driver) noteDeclareTime(t time.Duration) {
	last := d.declareTook.Load()
	d.declareTook.CompareAndSwap(last, max(int64(t), last-last/32))
}

// declare makes what src describes exist, or looks whether it does if src is Passive. If it is to
// be used at once, declare waits until it can be.
func (conn *connection) declare(ch *amqp091.Channel, src adapters.Source, use bool) error {
	if src.Passive {
		_, err := conn.passive(ch, src.QueueName())
		return err
	}
	if conn.supervisor.driver.cfg.migrates(src.QueueName()) {
		return conn.declareMigrating(ch, src)
	}
	fresh, err := conn.declareQueues(ch, src)
	if err != nil || src.Private() {
		return err
	}
	if fresh && use {
		_ = conn.settle(conn.ctx, src.QueueName()) // else the connection is lost
	}
	return bind(ch, src.QueueName(), src)
}

// declareQueues makes the exchange and the queues of src exist, and reports whether its queue may
// be new. The queue of a private source is declared by the consumer.
func (conn *connection) declareQueues(ch *amqp091.Channel, src adapters.Source) (fresh bool, err error) {
	if src.Kind.IsExchange() {
		if err := conn.declareExchange(ch, src.Endpoint); err != nil {
			return false, err
		}
	}
	if src.Private() {
		return false, nil
	}
	if src.Queue.DeadLetter != "" {
		if _, err := conn.declareQueue(ch, src.Queue.DeadLetter, adapters.QueueSpec{}); err != nil {
			return false, err
		}
	}
	return conn.declareQueue(ch, src.QueueName(), src.Queue)
}

// declarePrivate declares a queue that only this connection can use and that goes with its
// consumer. It returns the name that the broker chose, which nobody can guess.
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

// boundKeys returns the keys of s as they are bound. RabbitMQ (4.3.5) counts every '#' of a
// pattern, even one that means nothing beside another.
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

// declareQueue declares a queue, and reports whether it may be new.
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

// declareOnce waits for others in this driver that declare the same queue. RabbitMQ (3.10) knows a
// quorum queue before it works: whoever learns meanwhile that it exists, and consumes from it,
// makes the broker close the connection, and a publish is refused.
func (conn *connection) declareOnce(ch *amqp091.Channel, name string, autoDelete bool, args amqp091.Table) (q amqp091.Queue, err error) {
	done, err := conn.supervisor.driver.declaring.lock(conn.ctx, name)
	if err != nil {
		return q, err
	}
	defer done()
	select {
	case conn.declareSlots <- struct{}{}:
		defer func() { <-conn.declareSlots }()
	case <-conn.ctx.Done():
		return q, context.Cause(conn.ctx)
	}
	start := time.Now()
	defer func() { conn.supervisor.driver.noteDeclareTime(time.Since(start)) }()
	return ch.QueueDeclare(name, true, autoDelete, false, false, args)
}

// nameLocks are locks, one for each name in use.
type nameLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed on unlock
}

// lock locks a name, waiting as long as ctx allows.
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

// queueArguments returns the arguments in which two declarations of a queue must agree.
func queueArguments(q adapters.QueueSpec, kind QueueType) amqp091.Table {
	args := amqp091.Table{"x-queue-type": string(kind)}
	switch {
	case kind == Quorum: // minus 0 for a queue without priorities
		args["x-delivery-limit"] = deliveryLimit - int64(q.MaxPriority)
	case q.MaxPriority > 0:
		args["x-max-priority"] = int64(q.MaxPriority)
	}
	if q.SingleActive {
		args["x-single-active-consumer"] = true
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
			// A dead letter leaves its queue once the next one has it, not before. For that
			// RabbitMQ requires an overflow, even without a limit.
			args["x-dead-letter-strategy"] = "at-least-once"
			args["x-overflow"] = "reject-publish"
		}
	}
	return args
}

// queueType returns the type of a queue without priorities.
func (c *Config) queueType(q adapters.QueueSpec) QueueType {
	if q.AutoDelete || c.QueueType == "" && q.MaxLength > 0 && q.Overflow == adapters.RejectPublish {
		return Classic
	}
	return cmp.Or(c.QueueType, Quorum)
}

// queueType returns the type that a queue of this name is declared as.
func (conn *connection) queueType(name string, q adapters.QueueSpec) QueueType {
	kind := conn.supervisor.driver.cfg.queueType(q)
	if kind == Quorum && q.MaxPriority > 0 {
		return conn.priorityQueueType(name, q)
	}
	return kind
}

// countsReturns reports whether it is certain that the queue of a source counts what comes back.
func (conn *connection) countsReturns(s adapters.Source) bool {
	return !s.Passive && !s.Private() && conn.queueType(s.QueueName(), s.Queue) == Quorum
}

// milliseconds rounds up, so that a time to live does not become none.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// validateSource returns what is wrong with s, for any adapter or for RabbitMQ only.
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

// rememberDeclared remembers what to declare again on the next connection, in case the broker comes
// back without it.
func (d *Driver) rememberDeclared(s adapters.Source) {
	if s.Passive || d.cfg.migrates(s.QueueName()) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.declared) >= maxDeclared {
		clear(d.declared) // publishers find out, and declare it
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

// forgetBindings forgets the bindings of s.
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

// redeclare declares on a new connection what was declared before. A failure is only logged:
// whoever uses the source gets the error.
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
			err = conn.withKeptChannel(d.ctx, func(ch *amqp091.Channel) error { return conn.declare(ch, src, false) })
		}
		if err != nil {
			d.cfg.Logger.Warn("motif: declaring again", "source", sourceName(src), "error", err)
		}
	}
}
