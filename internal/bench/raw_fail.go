package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

const failAttempts = 5

// rawFail has a consumer that publishes each message to a queue of its next wait, and
// acknowledges it when that is confirmed. After the last attempt it rejects the message, which
// the broker then makes a dead letter. No step loses one.
//
// With spread, waits are up to a tenth longer at random, as Motif's are, lest all that failed
// together comes back together, and the last attempt publishes a dead letter that says why.
func rawFail(spread bool) Side {
	return func(ctx context.Context, r *Run) error { return rawFailing(ctx, r, spread) }
}

// waits are the TTLs of the queues for one wait.
func waits(d time.Duration, spread bool) []time.Duration {
	if !spread {
		return []time.Duration{d}
	}
	return []time.Duration{d, d + d/20, d + d/10} // as Motif rounds them
}

func rawFailing(ctx context.Context, r *Run, spread bool) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := declareRawWithDead(ch, r.Name); err != nil {
		return err
	}
	queues := []string{r.Name, r.Name + ".dead"}
	for attempt, d := 1, failFirst; attempt < failAttempts; attempt, d = attempt+1, 2*d {
		for i, ttl := range waits(d, spread) {
			queues = append(queues, waitName(r.Name, attempt, i))
			_, err := ch.QueueDeclare(waitName(r.Name, attempt, i), true, false, false, false, amqp091.Table{
				"x-queue-type": quorum, "x-message-ttl": int64(ttl / time.Millisecond), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": r.Name,
				"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
			})
			if err != nil {
				return err
			}
		}
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	consumer, deliveries, err := rawConsumer(r.URL, r.Name)
	if err != nil {
		return err
	}
	defer consumer.Close()
	retries, err := consumer.Channel()
	if err == nil {
		err = retries.Confirm(false)
	}
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		for handled := 0; handled < warmFailures+r.Messages; {
			m := <-deliveries
			attempt, _ := m.Headers["attempt"].(int32)
			again := rawMessage(m.Body, m.MessageId)
			again.Headers = amqp091.Table{"attempt": attempt + 1}
			var to string
			switch attempt++; {
			case attempt < failAttempts:
				to = waitName(r.Name, int(attempt), rand.IntN(len(waits(0, spread))))
			case spread:
				handled++
				to = r.Name + ".dead"
				again.Headers["reason"], again.Headers["queue"] = errAlways.Error(), r.Name
				again.Headers["died at"] = time.Now().Format(time.RFC3339Nano)
			default:
				handled++
				if err := m.Nack(false, false); err != nil {
					return err
				}
				continue
			}
			confirm, err := retries.PublishWithDeferredConfirm("", to, false, false, again)
			if err != nil {
				return err
			}
			group.Go(func() error {
				if !confirm.Wait() {
					return errNotConfirmed
				}
				return m.Ack(false)
			})
		}
		return nil
	})
	body := make([]byte, small)
	err = fail(ctx, r, func(n int) error {
		return rawPipelined(n, window, func(i int) (*amqp091.DeferredConfirmation, error) {
			return ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i)))
		})
	})
	if err != nil {
		return err
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, queue := range queues {
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			return err
		}
	}
	return nil
}

func waitName(queue string, attempt, i int) string {
	return fmt.Sprintf("%s.wait%d.%d", queue, attempt, i)
}
