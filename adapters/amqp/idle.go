package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// WaitIdle returns when no message is in flight, for d and for those of others that are drivers of
// this package: none is in hand, none waits in a queue that one of them consumes or that is among
// queues, none is on its way between them and the broker, and none that they have delayed, or given
// back, has yet to come to such a queue. It is for tests: see package patternstest.
//
// It asks the broker what is in these queues and counts the rest here, and looks again every few
// milliseconds. Whatever consumes a queue besides these drivers counts as in flight, because
// nothing says what it has in hand: another process, or a session that was lost, as long as the
// broker has not noticed. If ctx ends first, the error says what is in flight, and wraps ctx.Err().
//
// Not known are messages whose publish remained unconfirmed (those that are delayed count until
// their delay is over), and what the broker itself moves: dead letters of its own making, for the
// moment in which they are in neither queue. A message that is expected and does not come, because
// somebody purged its queue, or it expired there, is waited for until ctx ends.
//
// Also while nobody waits a driver counts what it publishes and hands out, which takes an atomic
// addition, and keeps in mind up to 10,000 messages that it has delayed or given back. Of more than
// that, the delayed ones count until their delay is over.
func (d *Driver) WaitIdle(ctx context.Context, queues []string, others ...adapters.Driver) error {
	w := idleWait{drivers: []*Driver{d}, queues: queues}
	for _, other := range others {
		if o, ok := other.(*Driver); ok && !slices.Contains(w.drivers, o) {
			w.drivers = append(w.drivers, o)
		}
	}
	last := ""
	for {
		for _, d := range w.drivers {
			if err := d.checkOpen(context.WithoutCancel(ctx), "wait until idle"); err != nil {
				return err
			}
		}
		busy, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("amqp: waiting until nothing is in flight, but there is: %s: %w", cmp.Or(last, busy, "something"), ctx.Err())
		case err != nil:
			return fmt.Errorf("amqp: waiting until nothing is in flight: %w", err)
		case busy == "":
			return nil
		}
		last = busy
		sleep(ctx, idlePause)
	}
}

// idlePause is the wait before WaitIdle looks again.
const idlePause = 5 * time.Millisecond

// idle is what a driver counts for WaitIdle, whether somebody waits or not.
type idle struct {
	moves   atomic.Uint64 // messages handed out, publishes begun, and consumers that came or went
	getting atomic.Int32  // calls of Get
	ending  atomic.Int32  // subscriptions and consumers that have ended, but may hold messages

	// Guarded by the lock of comingMessages.
	coming    int       // of its messages
	uncounted time.Time // when the last message is due that there was no room for
	pruned    time.Time
}

// idleWait is one call of WaitIdle.
type idleWait struct {
	drivers []*Driver
	queues  []string
}

// look says in words what is in flight, or "".
//
// Once nothing is in hand here and nothing is being published, a message can only be at the broker
// or on its way from there, and whatever comes is handed out, which is counted. So one look at each
// queue is enough if that count has not changed in the end.
func (w *idleWait) look(ctx context.Context) (string, error) {
	before := w.moves()
	var found []string
	var consumers []*consumer
	for _, d := range w.drivers {
		busy, running := d.inFlightHere()
		found, consumers = append(found, busy...), append(consumers, running...)
	}
	found = append(found, comingMessages.count(w, consumers)...)
	if len(found) > 0 {
		return strings.Join(found, ", "), nil
	}
	for _, c := range consumers {
		busy, err := c.inFlightThere(ctx, consumers)
		if busy != "" || err != nil {
			return busy, err
		}
	}
	busy, err := w.inQueues(ctx, consumers)
	if busy == "" && err == nil && w.moves() != before {
		busy = "a message on its way"
	}
	return busy, err
}

func (w *idleWait) moves() (n uint64) {
	for _, d := range w.drivers {
		n += d.idle.moves.Load()
	}
	return n
}

// inFlightHere says what is in flight in this process, and returns the consumers that there are.
func (d *Driver) inFlightHere() (found []string, consumers []*consumer) {
	add := func(n int, what string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%d %s", n, what))
		}
	}
	d.mu.Lock()
	subs, sups := make([]*subscription, 0, len(d.subs)), slices.Clone(d.consumers)
	for sub := range d.subs {
		subs = append(subs, sub)
	}
	d.mu.Unlock()
	for _, sub := range subs {
		c := sub.state.Load().consumer
		if c == nil {
			found = append(found, fmt.Sprintf("what the subscription to %s gets when it is connected again", sourceName(sub.source)))
			continue
		}
		add(int(c.channel.unclaimed.Load())+c.ledger.held(), "in hand of the subscription to "+sourceName(sub.source))
		consumers = append(consumers, c)
	}
	if n := d.idle.ending.Load(); n > 0 {
		found = append(found, fmt.Sprintf("what subscriptions that were stopped have in hand (%d)", n))
	}
	got := int(d.idle.getting.Load())
	for _, sup := range sups {
		if conn := sup.current(); conn != nil {
			got += int(conn.got.Load())
		}
	}
	add(got, "taken with Get")
	add(len(d.inFlight)+len(d.nackRetries.slots), "being published")
	return found, consumers
}

// inFlightThere says what the broker has for a consumer, or has sent it.
func (c *consumer) inFlightThere(ctx context.Context, all []*consumer) (string, error) {
	ours := 0
	for _, other := range all {
		if other.queue == c.queue && other.conn.vhost() == c.conn.vhost() {
			ours++
		}
	}
	busy, err := kit.Call(ctx, c.sub.driver.tasks, func() (string, error) {
		c.calls.Lock()
		defer c.calls.Unlock()
		for range 2 { // see awaitSent
			if q, err := c.ch.QueueDeclarePassive(c.queue, true, false, false, false, nil); err != nil {
				return "", err
			} else if busy := inQueue(c.queue, q, ours); busy != "" {
				return busy, nil
			}
		}
		return "", nil
	}, func(string) {})
	switch {
	case err != nil && ctx.Err() == nil && c.conn.alive() && errors.Is(sentinel(err), adapters.ErrAccess):
		return "", classify(err)
	case err != nil:
		return fmt.Sprintf("what the subscription to %s gets when it is connected again", sourceName(c.sub.source)), nil
	case busy == "" && c.channel.unclaimed.Load() > 0:
		busy = "a message on its way to the subscription to " + sourceName(c.sub.source)
	}
	return busy, nil
}

// inQueue says what is in flight in a queue with so many consumers of ours. RabbitMQ (3.10 to 4.3)
// counts as consumers of a quorum queue also those that were cancelled or lost, and whoever got a
// single message, as long as they have something in hand. Lost ones of a classic queue count until
// what they had is back.
func inQueue(name string, q amqp091.Queue, ours int) string {
	switch {
	case q.Messages > 0:
		return fmt.Sprintf("%d waiting in queue %q", q.Messages, clip(name))
	case q.Consumers != ours:
		return fmt.Sprintf("what the %d consumers of queue %q have in hand, of which %d are known here", q.Consumers, clip(name), ours)
	}
	return ""
}

// slowAnswer is how long a quorum queue takes to answer that it is empty only if it did not answer:
// RabbitMQ waits for it for 250 ms. One with a consumer says that it has none, then.
const slowAnswer = 200 * time.Millisecond

// inQueues says what is in those queues that nobody consumes at the moment.
func (w *idleWait) inQueues(ctx context.Context, consumers []*consumer) (string, error) {
	for _, name := range w.queues {
		if slices.ContainsFunc(consumers, func(c *consumer) bool { return c.queue == name }) {
			continue
		}
		for _, d := range w.drivers {
			began := time.Now()
			q, err := ask(ctx, d, "look into", name, nil, func(conn *connection) (amqp091.Queue, error) {
				began = time.Now()
				return onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) { return conn.passive(ch, name) })
			})
			busy := inQueue(name, q, 0)
			switch {
			case errors.Is(err, adapters.ErrNotFound):
				continue
			case err != nil:
				return "", err
			case busy == "" && time.Since(began) > slowAnswer:
				busy = fmt.Sprintf("what is in queue %q, which does not answer", clip(name))
			}
			if busy != "" {
				return busy, nil
			}
		}
	}
	return "", nil
}

// vhost identifies the virtual host, also among those of several brokers.
func (conn *connection) vhost() string {
	cluster, _ := conn.amqp.Properties["cluster_name"].(string)
	return cluster + "/" + conn.amqp.Config.Vhost
}

// held returns how many messages are in hand.
func (l *ledger) held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inHand
}
