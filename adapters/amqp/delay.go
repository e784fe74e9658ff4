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

// Delays are made of queues whose messages live for 1, 2, 4, 8 ... units of
// time: the rungs of a ladder. A message goes through those that add up to its delay,
// the longest first, and from the last to where it was sent. In each, all messages
// have the same time to live, so that none waits behind one that lives longer.
//
// Each rung has an exchange above it. It routes by a header, for the routing key is the
// message's own: to the queue if the header of this rung is set, else (as its
// alternate exchange) to the rung below; and so do the messages that leave the
// queue, when they expire. Below the lowest is the exchange that routes by destination,
// to a queue for each. From there a message goes where it was sent, and there it
// waits while that is full: RabbitMQ tries 32 messages of a queue at once, so that
// in a queue for all 32 to one that is full would hold up what goes elsewhere.
//
// They are quorum queues whatever the type of the others, for those alone keep a
// message until the next one has it. Classic ones lose a third of what waits when
// the broker is restarted: all that is due while queues stop, are stopped or start. And two
// drivers need not agree in the type of their queues.
const (
	ladderPrefix = "motif.delay." // what the names of all its queues and exchanges begin with
	headerDelay  = "motif-delay-" // and those of the headers that steer
	headerTo     = "motif-delay-to"
	headerUntil  = "motif-delay-until" // the publisher's time at the end of the delay, in milliseconds
	delayUnit    = 100 * time.Millisecond
)

// toLadder finds the way over the ladder.
func (r *route) toLadder() error {
	p := &r.p
	switch {
	case p.Delay > maxDelay:
		return invalid("delay of %v, at most %v is possible", p.Delay, maxDelay)
	case p.To.Kind == adapters.Reply:
		return invalid("delay of an answer: direct reply addresses cannot be reached later")
	}
	r.delayUnits = uint64((p.Delay + delayUnit - 1) / delayUnit)
	r.exchange = rungName(bits.Len64(r.delayUnits) - 1)
	return nil
}

func rungName(n int) string { return fmt.Sprintf("%s%02d", ladderPrefix, n) }

func rungHeader(n int) string { return fmt.Sprintf("%s%02d", headerDelay, n) }

const (
	dueExchange = ladderPrefix + "due" // the exchange below the ladder
	outExchange = ladderPrefix + "out" // the exchange through which messages come to exchanges

	// fallbackExchange is the exchange that takes messages on from due whose last queue is gone. A queue
	// expires if a policy says so, an exchange does not.
	fallbackExchange = ladderPrefix + "straight"

	// discardQueue is a queue where every message goes besides, and is dropped at once. Without it
	// one that has nowhere else to go when it is due would stay, be tried again every 3
	// minutes, and with 31 others stand before all that come after it.
	discardQueue = ladderPrefix + "nowhere"

	// headerBCC is RabbitMQ's list of more routing keys, which it takes away, but
	// follows still when it dead-letters: the way there for messages to queues.
	headerBCC = "BCC"
)

// Destinations, as headerTo says them, are these and a name.
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

// destinationQueue is the queue before a destination. Names of quorum queues must leave
// room for the one of the vhost in 255 bytes.
func destinationQueue(destination string) string {
	const most = 128
	if name := ladderPrefix + destination; len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s%x", ladderPrefix, sha256.Sum256([]byte(destination)))
}

// appendLadderHeaders appends the headers that lead a message over the ladder.
func (r *route) appendLadderHeaders(b []byte) []byte {
	for steps := r.delayUnits; steps != 0; steps &= steps - 1 {
		b = frame.AppendField(b, rungHeader(bits.TrailingZeros64(steps)), "1")
	}
	b = frame.AppendField(b, headerTo, destinationOf(r.p.To))
	b = frame.AppendField(b, headerUntil, strconv.FormatInt(time.Now().Add(r.p.Delay).UnixMilli(), 10))
	if !r.p.To.Kind.IsExchange() {
		b = append(frame.AppendShort(b, headerBCC), 'A')
		b = binary.BigEndian.AppendUint32(b, uint32(1+4+len(discardQueue)))
		b = binary.BigEndian.AppendUint32(append(b, 'S'), uint32(len(discardQueue)))
		b = append(b, discardQueue...)
	}
	return b
}

// declareLadder declares what is missing of the rungs that r needs, and what is
// below them, and returns how many rungs there are.
func (conn *connection) declareLadder(ctx context.Context, r *route) (int, error) {
	conn.mu.Lock()
	built, checked := conn.ladderRungs, conn.policiesChecked
	conn.mu.Unlock()
	rungs := max(built, bits.Len64(r.delayUnits))
	if !checked {
		if err := conn.checkPolicies(ctx); err != nil {
			return 0, err
		}
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
		// For want of the last queue only, so that it is no failure if there is none yet, or no right to it.
		_ = conn.withChannel(ctx, func(ch *amqp091.Channel) error {
			return ch.QueueBind(r.p.To.Name, "", fallbackExchange, false, matchHeader(headerTo, destinationOf(r.p.To)))
		})
	}
	return rungs, err
}

// checkLadder returns nil if all that buildLadder would declare is there.
func (conn *connection) checkLadder(ctx context.Context, r *route) error {
	return conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		for n := range bits.Len64(r.delayUnits) {
			if err := ch.ExchangeDeclarePassive(rungName(n), "headers", true, false, false, false, nil); err != nil {
				return err
			}
		}
		_, err := ch.QueueDeclarePassive(destinationQueue(destinationOf(r.p.To)), true, false, false, false, nil) // which was bound, next
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
	// A queue is not bound to anything, and the default exchange leads there: one that is
	// deleted and made again while a message waits is still the one that it was sent to.
	here, below := matchHeader(headerTo, destinationOf(to)), ""
	if to.Kind.IsExchange() {
		below = outExchange
		if err := declareOut(ch, to.Name, here); err != nil {
			return err
		}
		if err := ch.ExchangeBind(to.Name, "", fallbackExchange, false, here); err != nil {
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
		"x-dead-letter-exchange": discardQueue, // there is none: a policy's would get a copy of all that was delayed
	})
	return err
}

func declareOut(ch *amqp091.Channel, exchange string, here amqp091.Table) error {
	if err := ch.ExchangeDeclare(outExchange, "headers", true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.QueueBind(discardQueue, "", outExchange, false, amqp091.Table{"x-match": "all"}); err != nil { // of no headers: always
		return err
	}
	return ch.ExchangeBind(exchange, "", outExchange, false, here)
}

// declareRung declares one rung: its exchange, its queue, and the binding.
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

// ladderQueueArguments is the arguments of a queue whose messages live for so many
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
