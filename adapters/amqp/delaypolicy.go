package amqp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// What an operator's policies do to the queues of the ladder cannot be read by AMQP. An argument
// wins over a policy, but numbers are the lower of both, and what has no argument is the policy's:
//
//   - dead-letter-routing-key replaces the message's own, and nothing that was delayed arrives:
//     found out before the first delay of a session, which is then refused.
//   - message-ttl, and max-length with overflow drop-head, cut delays short: what comes early says so,
//     see early.
//   - expires deletes a queue that nobody consumes, whatever is in it, and neither a publish nor a
//     declaration makes it younger (3.10, 4.3). What waits in one for longer than that is lost. What
//     passes later finds its way past the one that is missing, and the ladder is built anew.
//   - max-length refuses publishes, and holds up what is on its way.

const (
	// ladderCheckInterval is how long the ladder is believed to be there: RabbitMQ deletes quorum queues
	// that have expired every 5 s.
	ladderCheckInterval = 5 * time.Second

	// tolerance is how early what was delayed may come: clocks differ.
	tolerance = time.Second
)

// earlyBy reads headerUntil.
func earlyBy(text string) time.Duration {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	if left := time.Until(time.UnixMilli(ms)); left >= tolerance && left <= maxDelay {
		return left
	}
	return 0
}

// recheckLadder looks, if the last time was a while ago, whether a rung is gone, and has the ladder
// built anew then. The queues behind it need no look: what is due finds its way past one that is gone.
func (conn *connection) recheckLadder(ctx context.Context) {
	conn.mu.Lock()
	rungs, age := conn.ladderRungs, time.Since(conn.ladderChecked)
	conn.mu.Unlock()
	if age < ladderCheckInterval {
		return
	}
	gone := conn.missingRung(ctx, rungs)
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.ladderChecked = time.Now()
	if gone == "" {
		return
	}
	conn.supervisor.driver.cfg.Logger.Error("motif: a queue for delayed messages is gone, with what waited in it: was it deleted, or expired by a policy?", "queue", gone)
	conn.ladderRungs = 0
	for e := range conn.declaredExchanges {
		if e.Kind&viaLadder != 0 {
			delete(conn.declaredExchanges, e)
		}
	}
}

// missingRung returns the lowest rung whose queue is gone, "" if none is.
func (conn *connection) missingRung(ctx context.Context, rungs int) string {
	name := ""
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		for n := range rungs {
			name = rungName(n)
			if _, err := ch.QueueDeclarePassive(name, true, false, false, false, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(sentinel(err), adapters.ErrNotFound) {
		return name
	}
	return ""
}

// checkPolicies sends a message the way that delayed ones go, to see whether it keeps its routing key.
func (conn *connection) checkPolicies(ctx context.Context) error {
	const probe = ladderPrefix + "probe"
	key := ""
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		if err := ch.ExchangeDeclare(probe, "fanout", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := conn.declareOnce(ch, probe, false, ladderQueueArguments(0, probe)); err != nil {
			return err
		}
		// A probe that comes too late would wait for somebody to bind a queue, and be tried again every 3 minutes.
		if err := declareDiscard(ch); err != nil {
			return err
		}
		if err := ch.QueueBind(discardQueue, "", probe, false, nil); err != nil {
			return err
		}
		private, err := ch.QueueDeclare("", false, true, true, false, amqp091.Table{"x-queue-type": string(Classic)})
		if err != nil {
			return err
		}
		if err := ch.QueueBind(private.Name, "", probe, false, nil); err != nil {
			return err
		}
		came, err := ch.Consume(private.Name, "", true, true, false, false, nil)
		if err != nil {
			return err
		}
		key, err = probeRoutingKey(ctx, ch, probe, came)
		return err
	})
	if err != nil {
		return err
	}
	if key != probe {
		return &policyError{key}
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.policiesChecked = true
	return nil
}

// policyError is a policy that would lead what is delayed astray.
type policyError struct{ key string }

func (e *policyError) Error() string {
	return fmt.Sprintf("a policy of the broker gives queues named %s... the dead-letter-routing-key %q, with which nothing that is delayed would arrive: "+
		"give it to other queues only", ladderPrefix, clip(e.key))
}

// probeRoutingKey sends messages to the queue probe until one comes, and returns its routing key. A queue that is new
// may refuse some.
func probeRoutingKey(ctx context.Context, ch *amqp091.Channel, probe string, came <-chan amqp091.Delivery) (string, error) {
	id := rand.Text()
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	for {
		if err := ch.PublishWithContext(ctx, "", probe, false, false, amqp091.Publishing{MessageId: id}); err != nil {
			return "", err
		}
		for waiting := true; waiting; {
			select {
			case m, ok := <-came:
				if !ok {
					return "", amqp091.ErrClosed
				}
				if m.MessageId == id {
					return m.RoutingKey, nil
				}
			case <-again.C:
				waiting = false
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	}
}
