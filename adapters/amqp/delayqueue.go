package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// The ladder costs the broker three to six queues for each message, and more for long delays. So a
// delay, rounded up by at most a twentieth, has a queue of its own for each destination, from which
// messages go straight there:
//
//	publisher -> exchange -> queue, both of that name -> exchange of the destination -> destination
//	                |                                          |
//	                | where the queue is gone                  | where it is not bound
//	                +------------------------------------------+-> motif.delay.due, as from the ladder
//
// A destination that is deleted loses its binding, and one that is made again has none until
// somebody delays to it: what is due meanwhile goes the way of the ladder, which knows it by name,
// and is dropped if there is none. Only there has a message a copy in discardQueue. For an exchange
// each has one, because nobody can tell here what comes of it.
//
// A message to a queue arrives with an empty routing key, and its Key in a header.
//
// These queues do not expire: RabbitMQ would delete them with what waits there. There are few of
// them, as the rounded delays are few, and each driver uses no more than so many for a destination.
const (
	mostDelayQueues = 32 // of one destination that a driver uses; other delays take the ladder

	// queueSettles is how long a delay takes the ladder when its queue may be new: a node that is
	// killed may bring a queue back empty that it has not noted on disk, for about a second.
	queueSettles = time.Second

	// ladderFor is how long a delay takes the ladder whose queue the broker refused.
	ladderFor = time.Minute
)

// delaySteps are what delays are multiples of, in units: of the longest that is a twentieth of the
// delay at most.
var delaySteps = [...]uint64{1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 18000, 36000}

func roundDelay(units uint64) uint64 {
	step := delaySteps[0]
	for _, s := range delaySteps {
		if 20*s <= units {
			step = s
		}
	}
	return (units + step - 1) / step * step
}

// delayQueueName returns the name of a delay's queue for a destination, and of the exchange before
// it.
func delayQueueName(units uint64, destination string) string {
	return destinationQueue(fmt.Sprintf("%dms.%s", units*uint64(delayUnit/time.Millisecond), destination))
}

// delayQueues are the delays that have queues of their own, of one driver.
type delayQueues struct {
	settles time.Duration // queueSettles, but in tests
	ladder  string        // in tests: the Key of messages to queues that take the ladder

	mu sync.Mutex
	of map[delayDestination]map[uint64]*delayQueue // by the rounded delay in units
}

type delayDestination struct {
	exchange bool
	name     string
}

type delayQueue struct {
	name    string
	refused time.Time // when the broker did not let it be declared
	known   time.Time // since when it is known to exist
}

// queue returns the queue for a rounded delay to an endpoint, or nil if it is to take the ladder.
func (q *delayQueues) queue(to adapters.Endpoint, units uint64) *delayQueue {
	at := delayDestination{to.Kind.IsExchange(), to.Name}
	q.mu.Lock()
	defer q.mu.Unlock()
	known := q.of[at]
	switch {
	case known[units] != nil:
		if time.Since(known[units].refused) < ladderFor {
			return nil
		}
		return known[units]
	case len(known) >= mostDelayQueues, known == nil && len(q.of) >= maxKnown:
		return nil
	case known == nil:
		if q.of == nil {
			q.of = make(map[delayDestination]map[uint64]*delayQueue)
		}
		known = make(map[uint64]*delayQueue)
		q.of[at] = known
	}
	known[units] = &delayQueue{name: delayQueueName(units, destinationOf(to))}
	return known[units]
}

func (q *delayQueues) refuse(one *delayQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one.refused = time.Now()
}

// settled reports whether a queue, which exists, is old enough to be used.
func (q *delayQueues) settled(one *delayQueue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if one.known.IsZero() {
		one.known = time.Now()
	}
	return time.Since(one.known) >= q.settles
}

// takeDelayQueue routes a delayed publication over a queue for its delay, if it is to have one.
// What is to come to a queue that is being moved takes the ladder, of which all versions know.
func (d *Driver) takeDelayQueue(ctx context.Context, r *route) error {
	toQueue := !r.p.To.Kind.IsExchange()
	if toQueue && (r.p.Key != "" && r.p.Key == d.delayQueues.ladder || d.cfg.migrates(r.p.To.Name)) {
		return nil
	}
	own := *r
	own.delayUnits = roundDelay(r.delayUnits)
	queue := d.delayQueues.queue(r.p.To, own.delayUnits)
	if queue == nil {
		return nil
	}
	own.exchange, own.hasQueue = queue.name, true
	if toQueue {
		own.key = ""
	}
	err := d.ensureRoute(ctx, &own)
	switch {
	case errors.Is(err, adapters.ErrAccess), errors.Is(err, adapters.ErrMismatch), errors.Is(err, ErrLimit):
		d.delayQueues.refuse(queue)
		return nil
	case err == nil && d.delayQueues.settled(queue):
		*r = own
	}
	return err
}

// knownDelayQueue is what a connection knows of a delay's queue.
type knownDelayQueue struct {
	checked time.Time
	unbound bool // the user may not bind the destination
}

// declareDelayQueue declares the queue that r leads through, and what is below it, unless it was
// there a while ago and still is.
func (conn *connection) declareDelayQueue(ctx context.Context, r *route) error {
	name, to := r.exchange, r.p.To
	conn.mu.Lock()
	q, known := conn.delayQueues[name]
	conn.mu.Unlock()
	if known && conn.missingQueue(ctx, name) != "" {
		conn.logMissing(name)
		known = false
	}
	if !known {
		err := conn.checkPolicies(ctx)
		if err == nil {
			err = conn.withChannel(ctx, func(ch *amqp091.Channel) error { return conn.declareDelayQueueOn(ch, r) })
		}
		if conn.deniedAccess(err) && conn.checkDelayQueue(ctx, name) == nil {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if !q.unbound {
		q.unbound = conn.deniedAccess(conn.bindDestination(ctx, to, true))
	}
	q.checked = time.Now()
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if len(conn.delayQueues) >= maxKnown {
		clear(conn.delayQueues)
	}
	conn.delayQueues[name] = q
	return nil
}

// deniedAccess reports whether an operation failed because the user has no right to it.
func (conn *connection) deniedAccess(err error) bool {
	return err != nil && conn.alive() && errors.Is(sentinel(err), adapters.ErrAccess)
}

func (conn *connection) declareDelayQueueOn(ch *amqp091.Channel, r *route) error {
	if err := conn.declareDue(ch, r.p.To); err != nil {
		return err
	}
	name, below := r.exchange, outExchange
	if !r.p.To.Kind.IsExchange() {
		below = destinationQueue(destinationOf(r.p.To))
		if err := declareAboveDue(ch, below); err != nil {
			return err
		}
	}
	if err := declareAboveDue(ch, name); err != nil {
		return err
	}
	life := int64(r.delayUnits) * int64(delayUnit/time.Millisecond)
	if _, err := conn.declareOnce(ch, name, false, ladderQueueArguments(life, below)); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, nil)
}

// declareAboveDue declares an exchange before a delay's queue, or after it: of a destination that
// is a queue, with the name of the last queue before it.
func declareAboveDue(ch *amqp091.Channel, name string) error {
	return ch.ExchangeDeclare(name, amqp091.ExchangeFanout, true, false, false, false, amqp091.Table{"alternate-exchange": dueExchange})
}

// bindDestination binds a destination to the exchanges that lead there from a delay, again if it
// was deleted. It may fail: a queue need not exist yet, nor the user have a right to it, and there
// is a way without.
func (conn *connection) bindDestination(ctx context.Context, to adapters.Endpoint, hasQueue bool) error {
	destination := destinationOf(to)
	here := matchHeader(headerTo, destination)
	return conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		if to.Kind.IsExchange() {
			return bindExchange(ch, to.Name, here)
		}
		if hasQueue {
			if err := ch.QueueBind(to.Name, "", destinationQueue(destination), false, nil); err != nil {
				return err
			}
		}
		return ch.QueueBind(to.Name, "", fallbackExchange, false, here)
	})
}

// checkDelayQueue returns nil if what declareDelayQueue would declare exists.
func (conn *connection) checkDelayQueue(ctx context.Context, name string) error {
	return conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		if err := ch.ExchangeDeclarePassive(name, amqp091.ExchangeFanout, true, false, false, false, nil); err != nil {
			return err
		}
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil) // which is bound right after it is declared
		return err
	})
}
