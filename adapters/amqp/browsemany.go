package amqp

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

const (
	fewBrowsed = 64 // messages that browse may well take one by one

	// browseIdle is how long nothing comes before the queue is asked whether it has more, and
	// browseStall before one that has is given up: somebody else may consume it alone.
	browseIdle  = 10 * time.Millisecond
	browseStall = time.Second

	// browseEmpty is how often in a row a queue has to say that it is empty. A quorum queue that is
	// busy may say so in error: RabbitMQ has no better answer when it gets none in time.
	browseEmpty = 3

	// commandsAtOnce is how many commands a channel gives to a quorum queue (3.10 to 4.3) before
	// it puts later ones together, which would be more than browseGroup.
	commandsAtOnce = 16

	// manyReturned is how many messages make it worth asking for the type of their queue: a classic
	// queue goes through all that it has for each command.
	manyReturned = 1000
)

// outlivesConsumers reports whether it is certain that the queue is not deleted with its last
// consumer. RabbitMQ says so when it refuses to declare the queue again as one that is. What is
// declared here cannot exist, so that nothing is made if the queue is missing.
func (conn *connection) outlivesConsumers(queue string) bool {
	impossible := amqp091.Table{"x-queue-type": "quorum"} // and auto-delete
	_, err := onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) {
		return ch.QueueDeclare(queue, true, true, false, false, impossible)
	})
	e, ok := errors.AsType[*amqp091.Error](err)
	return ok && e.Code == amqp091.PreconditionFailed &&
		strings.HasPrefix(e.Reason, "PRECONDITION_FAILED - inequivalent arg 'auto_delete'") && strings.HasSuffix(e.Reason, "received 'true' but current is 'false'")
}

// isClassic reports whether it is certain that the queue is a classic one: RabbitMQ says of which
// type it is when it refuses to declare it again as a quorum queue. That is declared with one
// argument with which no queue can be made, and those that RabbitMQ compares before the type.
func (conn *connection) isClassic(queue string) bool {
	args := amqp091.Table{"x-queue-type": string(Quorum), "x-queue-leader-locator": "none"}
	for range maxDifferences {
		_, err := onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) {
			return ch.QueueDeclare(queue, true, false, false, false, args)
		})
		property, _, actual, ok := conn.inequivalent(err, "queue", queue)
		switch {
		case !ok || actual.unreadable:
			return false
		case property == "x-queue-type" && actual.value == nil:
			return !conn.version.atLeast(defaultTypes)
		case property == "x-queue-type":
			return actual.value == string(Classic)
		case args[property] != nil || actual.value == nil:
			return false
		}
		args[property] = actual.value
	}
	return false
}

// browseMany does what browse does, and is faster where there are many: it consumes the messages,
// because a quorum queue takes a while to give a single one.
func (conn *connection) browseMany(ctx context.Context, queue string, limit int) (found []adapters.Delivery, err error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return nil, err
	}
	b := &manyBrowser{conn: conn, queue: queue, ch: ch, channel: &consumeChannel{mux: conn.mux, deliveries: make(chan *incoming, limit)}}
	if b.closes, err = b.channel.open(ch); err != nil {
		b.channel.close(ch)
		return nil, err
	}
	defer func() { b.channel.close(ch) }()
	err = b.take(ctx, limit)
	left, giveBackErr := b.giveBack()
	if err = errors.Join(err, giveBackErr); err != nil {
		return nil, err
	}
	for i := range b.found {
		b.found[i].Remaining = left + len(b.found) - 1 - i
	}
	return b.found, nil
}

// manyBrowser consumes by one consumer after another on one channel, each of which is sent no more
// than it is to hold.
type manyBrowser struct {
	conn    *connection
	queue   string
	ch      *amqp091.Channel
	channel *consumeChannel
	closes  <-chan *amqp091.Error
	tags    []string // of the consumers
	found   []adapters.Delivery
	size    int      // of their payloads
	taken   []uint64 // tags of all that has to be given back
	ends    []int    // where in taken the messages of each consumer end
}

// errEnough ends the taking.
var errEnough = errors.New("enough")

// take takes messages until there are enough, or no more.
func (b *manyBrowser) take(ctx context.Context, limit int) error {
	n, before := browseGroup, 0
	for len(b.found) < limit {
		if n *= 2; b.size-before > 1<<20 { // large ones are not asked for ahead
			n = 1
		}
		before = b.size
		n = min(n, limit-len(b.found))
		if err := b.consume(n); err != nil {
			return err
		}
		err := b.receive(ctx, n)
		b.ends = append(b.ends, len(b.taken))
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// consume adds a consumer that is sent n messages.
func (b *manyBrowser) consume(n int) error {
	if err := b.ch.Qos(n, 0, false); err != nil {
		return err
	}
	tag := newTag()
	b.tags = append(b.tags, tag)
	_, err := b.ch.Consume(b.queue, tag, false, false, false, false, nil)
	return err
}

// receive receives n messages, or returns errEnough if there are no more or they are too large.
func (b *manyBrowser) receive(ctx context.Context, n int) error {
	timer := time.NewTimer(browseIdle)
	defer timer.Stop()
	last, empty := time.Now(), 0
	for range n {
		for waiting := true; waiting; {
			timer.Reset(browseIdle)
			select {
			case in := <-b.channel.deliveries:
				waiting, last, empty = false, time.Now(), 0
				if !b.add(in) {
					return errEnough
				}
			case e := <-b.closes:
				if e == nil {
					return amqp091.ErrClosed
				}
				return e
			case <-ctx.Done():
				return ctx.Err()
			case <-timer.C:
				ready, err := b.ready()
				if empty++; ready > 0 {
					empty = 0
				}
				switch {
				case err != nil:
					return err
				case len(b.channel.deliveries) > 0:
				case empty >= browseEmpty || time.Since(last) > browseStall:
					if ready > 0 && len(b.found) == 0 {
						return errors.New("nothing comes: another consumer has the queue for itself")
					}
					return errEnough
				}
			}
		}
	}
	return nil
}

// add adds a message, and reports whether it is one that Browse may return.
func (b *manyBrowser) add(in *incoming) bool {
	b.taken = append(b.taken, in.tag)
	b.size += len(in.message.Payload)
	if b.size > adapters.MaxBrowseBytes && len(b.found) > 0 {
		return false
	}
	b.found = append(b.found, adapters.Delivery{})
	in.decode(&b.found[len(b.found)-1])
	return true
}

// ready asks how many messages wait in the queue.
func (b *manyBrowser) ready() (int, error) {
	q, err := b.ch.QueueDeclarePassive(b.queue, true, false, false, false, nil)
	return q.Messages, err
}

// giveBack gives all back, in their order, and returns how many others wait then.
func (b *manyBrowser) giveBack() (left int, err error) {
	for _, tag := range b.tags {
		if err := b.ch.Cancel(tag, false); err != nil {
			return 0, err
		}
	}
	for more := true; more; { // what came until then
		select {
		case in := <-b.channel.deliveries:
			b.taken = append(b.taken, in.tag)
		default:
			more = false
		}
	}
	before, err := b.ready()
	if err != nil {
		return 0, err
	}
	if left = before + len(b.taken) - len(b.found); len(b.taken) > manyReturned && b.conn.isClassic(b.queue) {
		if err := b.channel.Nack(b.taken[len(b.taken)-1], true, true); err != nil {
			return 0, err
		}
		return left, b.awaitReady(before + len(b.taken))
	}
	commands := 0
	for at := 0; at < len(b.taken); {
		end := min(at+browseGroup, len(b.taken))
		for _, of := range b.ends {
			if of > at {
				end = min(end, of)
				break
			}
		}
		if err := b.channel.Nack(b.taken[end-1], true, true); err != nil {
			return 0, err
		}
		at = end
		if commands++; commands%commandsAtOnce == 0 {
			if err := b.awaitReady(before + at); err != nil {
				return 0, err
			}
		}
	}
	return left, nil
}

// awaitReady waits until so many messages wait in the queue, or somebody else must have taken some.
func (b *manyBrowser) awaitReady(n int) error {
	for began := time.Now(); time.Since(began) < browseStall; {
		ready, err := b.ready()
		if err != nil || ready >= n {
			return err
		}
	}
	return nil
}
