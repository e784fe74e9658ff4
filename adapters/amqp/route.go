package amqp

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// route is where a publication goes, in RabbitMQ's terms.
type route struct {
	p          adapters.Publication
	exchange   string
	key        string
	delayUnits uint64 // the delay, in units; 0 if there is none
	hasQueue   bool   // the delay has a queue of its own, which the exchange leads to
	priority   uint8  // the priority that the broker is sent
	detour     bool   // to a queue that is being moved
}

// newRoute validates p and returns its route.
func (c *Config) newRoute(p *adapters.Publication) (route, error) {
	if err := p.Validate(); err != nil {
		return route{}, fmt.Errorf("amqp: publish: %w", err)
	}
	if p.UniqueFor > 0 {
		return route{}, fmt.Errorf("amqp: publish: %w", &adapters.UnsupportedError{Adapter: adapterName, Missing: adapters.CanUnique})
	}
	r := route{p: *p, key: p.To.Name}
	if p.To.Kind.IsExchange() {
		r.exchange, r.key = p.To.Name, p.Key
	}
	if p.To.Kind == adapters.Reply {
		r.toReply()
	}
	switch {
	case p.To.Kind == adapters.Reply && !c.allowsReplyTo(p.To.Name):
		return r, invalid("publish to the reply address %q: it is neither a direct reply address nor a server-named queue", clip(p.To.Name))
	case p.ReplyTo == directReplyTo:
		return r, invalid("the reply address %s stands for one of this connection, which has none", directReplyTo)
	case milliseconds(p.TTL) > maxExpiry:
		return r, invalid("TTL %v, at most %v is possible", p.TTL, maxExpiry*time.Millisecond)
	case p.Attempt > math.MaxInt32:
		return r, invalid("attempt %d", p.Attempt)
	case p.Delay > 0:
		return r, r.toLadder()
	case p.To.Kind == adapters.Queue && c.migrates(p.To.Name):
		r.takeDetour()
	}
	return r, nil
}

// toReply routes to a reply address: directly to a client, to a queue, or to an exchange and key
// written as exchange/key.
func (r *route) toReply() {
	if isDirectReplyTo(r.key) {
		r.p.TTL = 0           // no queue holds it, and the broker takes longer for a message with a TTL
		r.p.Mandatory = false // before 4.2 it would be returned although it was delivered
	} else if exchange, key, ok := strings.Cut(r.key, "/"); ok {
		r.exchange, r.key = exchange, key
	}
}

// ensureRoute makes what a route leads through exist, once for each connection.
func (conn *connection) ensureRoute(ctx context.Context, r *route) error {
	if !r.p.To.Kind.IsExchange() && r.delayUnits == 0 {
		return nil
	}
	if conn.routeReady(r) {
		return nil
	}
	return conn.declareRoute(ctx, *r) // a copy, which may escape to the heap
}

func (conn *connection) routeReady(r *route) bool {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if r.hasQueue {
		return conn.ladderRefused == nil && time.Since(conn.delayQueues[r.exchange].checked) < ladderCheckInterval
	}
	_, known := conn.declaredExchanges[r.endpointKey()]
	return known && r.delayUnits < 1<<conn.ladderRungs && (r.delayUnits == 0 || conn.ladderRefused == nil && time.Since(conn.ladderChecked) < ladderCheckInterval)
}

const viaLadder adapters.Kind = 0x80 // marks an endpoint that is reached over the ladder

// endpointKey identifies what a route leads through, to remember that it exists.
func (r *route) endpointKey() adapters.Endpoint {
	e := r.p.To
	if r.delayUnits > 0 {
		e.Kind |= viaLadder
	}
	return e
}

func (conn *connection) declareRoute(ctx context.Context, r route) error {
	rungs, err, withheld := 0, error(nil), error(nil)
	if r.hasQueue { // one at a time: the others need it no more
		done, err := conn.routing.lock(ctx, r.exchange)
		if err != nil {
			return err
		}
		defer done()
		if conn.routeReady(&r) {
			return nil
		}
	}
	if r.delayUnits > 0 {
		if err := conn.recheckLadder(ctx); err != nil {
			return err
		}
		if conn.routeReady(&r) {
			return nil
		}
	}
	if r.p.To.Kind.IsExchange() {
		err = conn.withChannel(ctx, func(ch *amqp091.Channel) error {
			if r.p.To.Kind == adapters.Exchange { // its type is neither stated nor compared
				return ch.ExchangeDeclarePassive(r.p.To.Name, amqp091.ExchangeDirect, true, false, false, false, nil)
			}
			return conn.declareExchange(ch, r.p.To)
		})
		if conn.deniedAccess(err) {
			withheld, err = err, nil // it may exist: a user with the right to write need not have the right to configure
		}
	}
	switch {
	case err != nil:
	case r.hasQueue:
		err = conn.declareDelayQueue(ctx, &r)
	case r.delayUnits > 0:
		rungs, err = conn.declareLadder(ctx, &r)
		if conn.deniedAccess(err) && conn.checkLadder(ctx, &r) == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if r.p.To.Kind.IsExchange() {
		if delete(conn.undeclarable, r.p.To.Name); withheld != nil {
			conn.undeclarable[r.p.To.Name] = withheld
		}
	}
	if len(conn.declaredExchanges) >= maxKnown {
		clear(conn.declaredExchanges)
		clear(conn.undeclarable)
	}
	if !r.hasQueue {
		conn.declaredExchanges[r.endpointKey()] = struct{}{}
	}
	conn.ladderRungs = max(conn.ladderRungs, rungs)
	return nil
}
