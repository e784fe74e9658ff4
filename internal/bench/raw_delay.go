package main

import (
	"context"
	"maps"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"
)

// rawDelay publishes to a queue whose messages go to another one when their time is over.
func rawDelay(d time.Duration, more amqp091.Table) Side {
	return func(_ context.Context, r *Run) error {
		return rawWaiting(r, d, more, r.Name+".wait", func(amqp091.Delivery) bool { return true })
	}
}

// rawRetry has a consumer that publishes each message to that queue once, and acknowledges it when
// that is confirmed.
func rawRetry(d time.Duration) Side {
	return func(_ context.Context, r *Run) error {
		return rawWaiting(r, d, atLeastOnce, r.Name, func(m amqp091.Delivery) bool { return m.Headers["attempt"] != nil })
	}
}

func rawWaiting(r *Run, d time.Duration, more amqp091.Table, to string, last func(amqp091.Delivery) bool) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := declareRaw(ch, r.Name, quorum); err != nil {
		return err
	}
	waiting := amqp091.Table{
		"x-queue-type": quorum, "x-message-ttl": d.Milliseconds(), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": r.Name,
	}
	maps.Copy(waiting, more)
	if _, err := ch.QueueDeclare(r.Name+".wait", true, false, false, false, waiting); err != nil {
		return err
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
	time.Sleep(200 * time.Millisecond) // new queues
	if err := r.Start(); err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(func() error {
		for handled := 0; handled < r.Messages; {
			m := <-deliveries
			if last(m) {
				handled++
				if err := m.Ack(false); err != nil {
					return err
				}
				continue
			}
			again := rawMessage(m.Body, m.MessageId)
			again.Headers = amqp091.Table{"attempt": int32(2)}
			confirm, err := retries.PublishWithDeferredConfirm("", r.Name+".wait", false, false, again)
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
	group.Go(func() error {
		body := make([]byte, small)
		return rawPipelined(r.Messages, window, func(i int) (*amqp091.DeferredConfirmation, error) {
			return ch.PublishWithDeferredConfirm("", to, false, false, rawMessage(body, number(i)))
		})
	})
	err = group.Wait()
	r.Stop()
	if err != nil {
		return err
	}
	for _, queue := range []string{r.Name, r.Name + ".wait"} {
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			return err
		}
	}
	return nil
}
