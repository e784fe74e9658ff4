package main

import (
	"context"
	"strconv"
	"sync"

	"github.com/rabbitmq/amqp091-go"
)

// rawCall calls over direct reply-to, with one consumer for all answers. The
// server answers in the goroutine that receives; nothing is confirmed, for the
// answer is what the caller waits for.
func rawCall(callers int) Side {
	return func(ctx context.Context, r *Run) error {
		conn, serving, err := dialRaw(r.URL)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := serving.QueueDeclare(r.Name, false, true, true, false, nil); err != nil {
			return err
		}
		requests, err := rawConsume(serving, r.Name)
		if err != nil {
			return err
		}
		go func() {
			for m := range requests {
				answer := amqp091.Publishing{CorrelationId: m.CorrelationId, ContentType: m.ContentType, Body: m.Body}
				if serving.Publish("", m.ReplyTo, false, false, answer) != nil || m.Ack(false) != nil {
					return // a caller that waits in vain says so
				}
			}
		}()

		calls, err := newRawCaller(r.URL, r.Name)
		if err != nil {
			return err
		}
		defer calls.conn.Close()
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		err = inParallel(callers, r, func(i int) error { return calls.call(ctx, i, body) })
		r.Stop()
		return err
	}
}

// rawCaller knows who waits for which answer.
type rawCaller struct {
	conn  *amqp091.Connection
	ch    *amqp091.Channel
	queue string

	mu      sync.Mutex
	pending map[string]chan amqp091.Delivery
}

func newRawCaller(url, queue string) (*rawCaller, error) {
	conn, ch, err := dialRaw(url)
	if err != nil {
		return nil, err
	}
	answers, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &rawCaller{conn: conn, ch: ch, queue: queue, pending: make(map[string]chan amqp091.Delivery)}
	go func() {
		for m := range answers {
			c.mu.Lock()
			waiting := c.pending[m.CorrelationId]
			delete(c.pending, m.CorrelationId)
			c.mu.Unlock()
			if waiting != nil {
				waiting <- m
			}
		}
	}()
	return c, nil
}

func (c *rawCaller) call(ctx context.Context, i int, body []byte) error {
	id := strconv.Itoa(i)
	answer := make(chan amqp091.Delivery, 1)
	c.mu.Lock()
	c.pending[id] = answer
	c.mu.Unlock()
	err := c.ch.Publish("", c.queue, false, false, amqp091.Publishing{
		CorrelationId: id, ReplyTo: "amq.rabbitmq.reply-to", ContentType: "application/octet-stream", Body: body,
	})
	if err != nil {
		return err
	}
	select {
	case <-answer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
