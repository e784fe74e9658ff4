package amqp

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Delays are made of queues whose messages live for 1, 2, 4, 8 ... units of
// time: the rungs of a ladder. A message goes through those that add up to its delay,
// the longest first, and from the last to where it was sent. In each, all messages
// have the same time to live, so that none waits behind one that lives longer.
//
// Each rung has an exchange above it. It routes by a header, for the routing key is the
// message's own: to the queue if the header of this rung is set, else (as its
// alternate exchange) to the rung below; and so do the messages that leave the
// queue, when they expire. Below the lowest is the exchange that routes by destination.
//
// Classic queues make a ladder of their own, down to the last queue: two drivers
// need not agree in the type of their queues.
const (
	ladder      = "motif.delay." // what the names of all its queues and exchanges begin with
	headerDelay = "motif-delay-" // and those of the headers that steer
	headerTo    = "motif-delay-to"
	unit        = 100 * time.Millisecond
)

// delay finds the way over the ladder.
func (r *route) delay(kind QueueType) error {
	p := r.p
	switch {
	case p.Delay > maxDelay:
		return invalid("delay of %v, at most %v is possible", p.Delay, maxDelay)
	case p.To.Kind == adapters.Reply:
		return invalid("delay of an answer: direct reply addresses cannot be reached later")
	}
	r.steps = uint64((p.Delay + unit - 1) / unit)
	r.exchange = rung(kind, bits.Len64(r.steps)-1)
	return nil
}

// ladderOf is what the names of a ladder's queues and exchanges begin with.
func ladderOf(kind QueueType) string {
	if kind == Quorum {
		return ladder
	}
	return ladder + string(kind) + "."
}

func rung(kind QueueType, n int) string { return fmt.Sprintf("%s%02d", ladderOf(kind), n) }

func rungHeader(n int) string { return fmt.Sprintf("%s%02d", headerDelay, n) }

const (
	due        = "due"   // the exchange below the ladder
	dueQueue   = "queue" // where a message is on its way to a queue
	steerQueue = "queue" // headerTo of those messages
)

// steerExchange is headerTo of a message that goes to an exchange.
func steerExchange(name string) string { return "exchange " + name }

// climb sets the headers that lead a message over the ladder. Its time to live
// would cut the delay short, and cannot be given back to it afterwards: it is only told to the
// receiver.
func (r *route) climb(headers amqp091.Table, ttl string) {
	for steps := r.steps; steps != 0; steps &= steps - 1 {
		headers[rungHeader(bits.TrailingZeros64(steps))] = "1"
	}
	headers[headerTo] = steerQueue
	if r.p.To.Kind.IsExchange() {
		headers[headerTo] = steerExchange(r.p.To.Name)
	}
	if ttl != "" {
		headers[headerTTL] = ttl
	}
}

// buildLadder declares as many rungs as r needs, and what is below them, and
// returns their number.
func (s *session) buildLadder(ctx context.Context, r *route) (int, error) {
	rungs, kind := bits.Len64(r.steps), s.link.d.cfg.kind()
	return rungs, s.briefly(ctx, func(ch *amqp091.Channel) error {
		if err := declareDue(ch, kind, r.p.To); err != nil {
			return err
		}
		below := ladderOf(kind) + due
		for n := range rungs {
			life := int64(unit/time.Millisecond) << n
			if err := declareRung(ch, kind, rung(kind, n), below, rungHeader(n), life); err != nil {
				return err
			}
			below = rung(kind, n)
		}
		return nil
	})
}

func declareDue(ch *amqp091.Channel, kind QueueType, to adapters.Endpoint) error {
	due, dueQueue := ladderOf(kind)+due, ladder+dueQueue
	if err := ch.ExchangeDeclare(due, "headers", true, false, false, false, nil); err != nil {
		return err
	}
	if to.Kind.IsExchange() {
		return ch.ExchangeBind(to.Name, "", due, false, match(headerTo, steerExchange(to.Name)))
	}
	// Not bound to the queues themselves: a queue that is deleted and made again
	// while a message waits is still the one that it was sent to. And always a
	// quorum queue, for that keeps what a full queue refuses, and tries again.
	if _, err := ch.QueueDeclare(dueQueue, true, false, false, false, waiting(Quorum, 0, "")); err != nil {
		return err
	}
	return ch.QueueBind(dueQueue, "", due, false, match(headerTo, steerQueue))
}

// declareRung declares one rung: its exchange, its queue, and the binding.
func declareRung(ch *amqp091.Channel, kind QueueType, name, below, header string, life int64) error {
	if err := ch.ExchangeDeclare(name, "headers", true, false, false, false, amqp091.Table{"alternate-exchange": below}); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, waiting(kind, life, below)); err != nil {
		return err
	}
	return ch.QueueBind(name, "", name, false, match(header, "1"))
}

func match(header, value string) amqp091.Table {
	return amqp091.Table{"x-match": "all", header: value}
}

// waiting is the arguments of a queue whose messages live for so many
// milliseconds, and then go to the exchange below.
func waiting(kind QueueType, life int64, below string) amqp091.Table {
	args := amqp091.Table{
		"x-queue-type":           string(kind),
		"x-message-ttl":          life,
		"x-dead-letter-exchange": below,
	}
	if kind == Quorum {
		args["x-dead-letter-strategy"] = "at-least-once"
		args["x-overflow"] = "reject-publish"
	}
	return args
}
