package amqp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// Delays are made by a ladder of queues whose messages live for 1, 2, 4, 8 ... units of time. A
// message goes through those rungs that add up to its delay, the longest first, and from the last
// one to its destination. In each rung all messages have the same time to live, so that none waits
// behind one that lives longer.
//
// Each rung has an exchange above it, which routes by a header, because the routing key is the
// message's own: to the rung's queue if the rung's header is set, else, as its alternate exchange,
// to the rung below. Messages that expire in the queue go to the rung below, too. Below the lowest
// rung an exchange routes by destination, to one queue for each. From there a message goes to its
// destination, and there it waits while the destination is full: RabbitMQ tries 32 messages of a
// queue at a time, so in one queue for all, 32 messages to a full destination would hold up all
// others.
//
// The queues are quorum queues, whatever the type of other queues, because only those keep a
// message until the next queue has it. Classic queues lose a third of what waits when the broker is
// restarted: everything due while queues stop, are down, or start. And drivers need not agree on
// the type of their queues.
const (
	ladderPrefix = "motif.delay." // prefix of the names of all its queues and exchanges
	headerDelay  = "motif-delay-" // prefix of the headers that steer
	headerTo     = "motif-delay-to"
	headerUntil  = "motif-delay-until" // the end of the delay by the publisher's clock, in milliseconds
	delayUnit    = 100 * time.Millisecond
)

// toLadder routes the publication over the ladder.
func (r *route) toLadder() error {
	p := &r.p
	switch {
	case p.Delay > maxDelay:
		return invalid("delay of %v, at most %v is possible", p.Delay, maxDelay)
	case p.To.Kind == adapters.Reply:
		return invalid("delay of a reply: direct reply addresses cannot be reached later")
	}
	r.delayUnits = uint64((p.Delay + delayUnit - 1) / delayUnit)
	r.exchange = rungName(bits.Len64(r.delayUnits) - 1)
	return nil
}

func rungName(n int) string { return fmt.Sprintf("%s%02d", ladderPrefix, n) }

func rungHeader(n int) string { return fmt.Sprintf("%s%02d", headerDelay, n) }

const (
	dueExchange = ladderPrefix + "due" // the exchange below the ladder
	outExchange = ladderPrefix + "out" // the exchange that leads to destinations that are exchanges

	// fallbackExchange takes over from dueExchange where a destination's queue is gone. A policy
	// can make queues expire, but not exchanges.
	fallbackExchange = ladderPrefix + "straight"

	// discardQueue gets a copy of every message and drops it at once. Without it a message that is
	// due and has nowhere to go would stay, be tried again every 3 minutes, and, together with 31
	// others, block all that come after it.
	discardQueue = ladderPrefix + "nowhere"

	// headerBCC lists further routing keys. RabbitMQ removes it on publish, but still honours it
	// when it dead-letters: that is how messages to queues get to discardQueue.
	headerBCC = "BCC"
)

// A destination in headerTo is one of these and a name.
const (
	toQueues    = "queue."
	toExchanges = "exchange."
)

func destinationOf(to adapters.Endpoint) string {
	if to.Kind.IsExchange() {
		return toExchanges + to.Name
	}
	return toQueues + to.Name
}

// destinationQueue returns the name of the queue before a destination. The name of a quorum queue
// must leave room for the vhost's name in 255 bytes.
func destinationQueue(destination string) string {
	const most = 128
	if name := ladderPrefix + destination; len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s%x", ladderPrefix, sha256.Sum256([]byte(destination)))
}

// appendLadderHeaders appends the headers that steer a delayed message.
func (o *outgoing) appendLadderHeaders(b []byte) []byte {
	o.due = time.Now().Add(o.p.Delay)
	for steps := o.delayUnits; steps != 0 && !o.hasQueue; steps &= steps - 1 {
		b = frame.AppendField(b, rungHeader(bits.TrailingZeros64(steps)), "1")
	}
	b = frame.AppendField(b, headerTo, destinationOf(o.p.To))
	b = frame.AppendField(b, headerUntil, o.until())
	if !o.p.To.Kind.IsExchange() {
		size := 1 + 4 + len(discardQueue)
		if o.hasQueue {
			size += 1 + 4 + len(o.p.To.Name)
		}
		b = append(frame.AppendShort(b, headerBCC), 'A')
		b = binary.BigEndian.AppendUint32(b, uint32(size))
		b = appendText(b, discardQueue)
		if o.hasQueue { // whose routing key does not say it
			b = appendText(b, o.p.To.Name)
		}
	}
	return b
}

// appendText appends a string as an item of an array.
func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 'S'), uint32(len(s)))
	return append(b, s...)
}

// until returns the end of the delay as headerUntil has it.
func (o *outgoing) until() string { return strconv.FormatInt(o.due.UnixMilli(), 10) }

// declareLadder declares the missing ones of the rungs that r needs, and what is below them. It
// returns how many rungs there are.
func (conn *connection) declareLadder(ctx context.Context, r *route) (int, error) {
	conn.mu.Lock()
	built := conn.ladderRungs
	conn.mu.Unlock()
	rungs := max(built, bits.Len64(r.delayUnits))
	if err := conn.checkPolicies(ctx); err != nil {
		return 0, err
	}
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		if err := conn.declareDue(ch, r.p.To); err != nil {
			return err
		}
		for n := built; n < rungs; n++ {
			below := dueExchange
			if n > 0 {
				below = rungName(n - 1)
			}
			life := int64(delayUnit/time.Millisecond) << n
			if err := conn.declareRung(ch, rungName(n), below, rungHeader(n), life); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !r.p.To.Kind.IsExchange() {
		_ = conn.bindDestination(ctx, r.p.To, false)
	}
	return rungs, err
}

// checkLadder returns nil if everything that declareLadder would declare exists.
func (conn *connection) checkLadder(ctx context.Context, r *route) error {
	return conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		for n := range bits.Len64(r.delayUnits) {
			if err := ch.ExchangeDeclarePassive(rungName(n), "headers", true, false, false, false, nil); err != nil {
				return err
			}
		}
		_, err := ch.QueueDeclarePassive(destinationQueue(destinationOf(r.p.To)), true, false, false, false, nil) // which is bound right after it is declared
		return err
	})
}

// declareDue declares the way from below the ladder to a destination.
func (conn *connection) declareDue(ch *amqp091.Channel, to adapters.Endpoint) error {
	if err := ch.ExchangeDeclare(fallbackExchange, "headers", true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.ExchangeDeclare(dueExchange, "headers", true, false, false, false, amqp091.Table{"alternate-exchange": fallbackExchange}); err != nil {
		return err
	}
	if err := declareDiscard(ch); err != nil {
		return err
	}
	// A queue is reached by the default exchange, without a binding: one that is deleted and made
	// again while a message waits is still its destination.
	here, below := matchHeader(headerTo, destinationOf(to)), ""
	if to.Kind.IsExchange() {
		below = outExchange
		if err := declareOut(ch); err != nil {
			return err
		}
		if err := bindExchange(ch, to.Name, here); err != nil {
			return err
		}
	}
	last := destinationQueue(destinationOf(to))
	if _, err := conn.declareOnce(ch, last, false, ladderQueueArguments(0, below)); err != nil {
		return err
	}
	return ch.QueueBind(last, "", dueExchange, false, here)
}

// declareDiscard declares the queue that drops all that comes.
func declareDiscard(ch *amqp091.Channel) error {
	_, err := ch.QueueDeclare(discardQueue, true, false, false, false, amqp091.Table{
		"x-queue-type": string(Classic), "x-message-ttl": int64(0),
		"x-dead-letter-exchange": discardQueue, // it does not exist; without the argument a policy's exchange would get a copy of everything delayed
	})
	return err
}

func declareOut(ch *amqp091.Channel) error {
	if err := ch.ExchangeDeclare(outExchange, "headers", true, false, false, false, nil); err != nil {
		return err
	}
	return ch.QueueBind(discardQueue, "", outExchange, false, amqp091.Table{"x-match": "all"}) // a match of no headers: always
}

// bindExchange binds a destination that is an exchange to those that lead there.
func bindExchange(ch *amqp091.Channel, name string, here amqp091.Table) error {
	if err := ch.ExchangeBind(name, "", outExchange, false, here); err != nil {
		return err
	}
	return ch.ExchangeBind(name, "", fallbackExchange, false, here)
}

// declareRung declares one rung: its exchange, its queue, and the binding between them.
func (conn *connection) declareRung(ch *amqp091.Channel, name, below, header string, life int64) error {
	if err := ch.ExchangeDeclare(name, "headers", true, false, false, false, amqp091.Table{"alternate-exchange": below}); err != nil {
		return err
	}
	if _, err := conn.declareOnce(ch, name, false, ladderQueueArguments(life, below)); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, matchHeader(header, "1"))
}

func matchHeader(header, value string) amqp091.Table {
	return amqp091.Table{"x-match": "all", header: value}
}

// ladderQueueArguments returns the arguments of a queue whose messages live for so many
// milliseconds, and then go to the exchange below.
func ladderQueueArguments(life int64, below string) amqp091.Table {
	return amqp091.Table{
		"x-queue-type":           string(Quorum),
		"x-message-ttl":          life,
		"x-dead-letter-exchange": below,
		"x-dead-letter-strategy": "at-least-once",
		"x-overflow":             "reject-publish",
	}
}
