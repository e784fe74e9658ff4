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
// wins over a policy, except that of numbers the lower one counts, and what has no argument is up
// to the policy:
//
//   - dead-letter-routing-key replaces the message's own, so that nothing delayed arrives. It is
//     found out before a connection's first delay, which is then refused.
//   - message-ttl, and max-length with overflow drop-head, cut delays short. A message that arrives
//     early says so: see earlyBy.
//   - expires deletes a queue without consumers, whatever is in it, and neither a publish nor a
//     declaration renews it (3.10, 4.3). What waits there at that moment is lost. Where the
//     management API is known it tells of the policy, and delays are refused. Elsewhere the loss is
//     logged; later messages find their way past the missing queue, and the ladder is declared
//     again.
//   - max-length refuses publishes, and holds up what is on its way.

const (
	// ladderCheckInterval is how long the ladder is taken to exist without looking: RabbitMQ
	// deletes expired quorum queues every 5 s.
	ladderCheckInterval = 5 * time.Second

	// tolerance is how early a delayed message may arrive, because clocks differ.
	tolerance = time.Second
)

// earlyBy parses headerUntil, and returns how much of the delay is left.
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

// recheckLadder looks whether a rung is gone, unless it has looked recently, and has the ladder
// declared again if so. The queues behind it need no check: what is due finds its way past a
// missing one. It returns an error if rungs are going to be deleted by a policy.
func (conn *connection) recheckLadder(ctx context.Context) error {
	conn.mu.Lock()
	rungs, age, refused := conn.ladderRungs, time.Since(conn.ladderChecked), conn.ladderRefused
	conn.mu.Unlock()
	if age < ladderCheckInterval {
		return refused
	}
	gone := conn.missingRung(ctx, rungs)
	refused = conn.supervisor.driver.ladderExpires(ctx)
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.ladderChecked, conn.ladderRefused = time.Now(), refused
	if gone == "" {
		return refused
	}
	conn.logMissing(gone)
	conn.ladderRungs = 0
	for e := range conn.declaredExchanges {
		if e.Kind&viaLadder != 0 {
			delete(conn.declaredExchanges, e)
		}
	}
	return refused
}

func (conn *connection) logMissing(queue string) {
	conn.supervisor.driver.cfg.Logger.Error("motif: a queue for delayed messages is gone, with what waited in it: was it deleted, or expired by a policy?", "queue", queue)
}

// ladderExpires returns an error if the management API says that a policy deletes the queues of the
// ladder. It tells of a queue that is new after some seconds.
func (d *Driver) ladderExpires(ctx context.Context) error {
	if d.management == nil {
		return nil
	}
	if after := d.management.expires(ctx, probeQueue); after > 0 {
		return &policyError{fmt.Sprintf("deletes queues named %s... that have had no consumer for %v, with what is delayed in them", ladderPrefix, after)}
	}
	return nil
}

// missingRung returns the lowest rung whose queue is gone, or "" if none is.
func (conn *connection) missingRung(ctx context.Context, rungs int) string {
	names := make([]string, rungs)
	for n := range names {
		names[n] = rungName(n)
	}
	return conn.missingQueue(ctx, names...)
}

// missingQueue returns the first of these queues that is gone, or "" if none is.
func (conn *connection) missingQueue(ctx context.Context, names ...string) (name string) {
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		for _, name = range names {
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

// probeQueue shows what policies do to queues of the ladder.
const probeQueue = ladderPrefix + "probe"

// checkPolicies sends a message the way of delayed ones, to see whether it keeps its routing key,
// unless it has done so.
//
// The broker tries a dead letter again every 3 minutes if a queue that it goes to has not taken it.
// So nobody gets a probe of somebody else, who may be gone by then, and none comes twice; one that
// nobody waits for any more goes to the queue that drops what comes.
func (conn *connection) checkPolicies(ctx context.Context) error {
	conn.mu.Lock()
	checked := conn.policiesChecked
	conn.mu.Unlock()
	if checked {
		return nil
	}
	const probe = probeQueue
	key := ""
	err := conn.withChannel(ctx, func(ch *amqp091.Channel) error {
		if err := ch.ExchangeDeclare(probe, "headers", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := conn.declareOnce(ch, probe, false, ladderQueueArguments(0, probe)); err != nil {
			return err
		}
		if err := declareDiscard(ch); err != nil {
			return err
		}
		if err := ch.QueueBind(discardQueue, "", probe, false, amqp091.Table{"x-match": "all"}); err != nil { // see declareOut
			return err
		}
		private, err := ch.QueueDeclare("", false, true, true, false, amqp091.Table{"x-queue-type": string(Classic)})
		if err != nil {
			return err
		}
		id := amqp091.Table{"motif-probe": rand.Text()}
		match := amqp091.Table{"x-match": "all", "motif-probe": id["motif-probe"]}
		if err := ch.QueueBind(private.Name, "", probe, false, match); err != nil {
			return err
		}
		came, err := ch.Consume(private.Name, "", true, true, false, false, nil)
		if err != nil {
			return err
		}
		if err := sendProbe(ctx, ch, id); err != nil {
			return err
		}
		select {
		case m, ok := <-came:
			if !ok {
				return amqp091.ErrClosed
			}
			key = m.RoutingKey
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	if key != probe {
		return &policyError{fmt.Sprintf("gives queues named %s... the dead-letter-routing-key %q, with which nothing that is delayed would arrive", ladderPrefix, clip(key))}
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.policiesChecked = true
	return nil
}

// sendProbe publishes a message to the queue probe until the broker has it. A new queue may refuse
// some.
func sendProbe(ctx context.Context, ch *amqp091.Channel, headers amqp091.Table) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	for {
		confirm, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", probeQueue, false, false, amqp091.Publishing{Headers: headers})
		if err != nil {
			return err
		}
		if acked, err := confirm.WaitContext(ctx); err != nil || acked {
			return err
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// policyError is a policy with which delayed messages would be lost.
type policyError struct{ does string }

func (e *policyError) Error() string {
	return fmt.Sprintf("a policy of the broker %s: give it to other queues only", e.does)
}
