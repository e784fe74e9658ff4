package main

import (
	"context"
	"strconv"
	"sync"

	"github.com/rabbitmq/amqp091-go"
)

// rawCall calls over direct reply-to, with one consumer for all replies. The
// server replies in the goroutine that receives; nothing is confirmed, for the
// reply is what the caller waits for. A request that the broker does not take
// is found out at the caller's deadline, and so is a reply that gets lost.
func rawCall(callers int) Side { return rawRPC(callers, false) }

// rawConfirmedCall promises what Motif does: a request that the broker refuses is
// an error at once, and a request is not acknowledged before its reply is confirmed.
func rawConfirmedCall(callers int) Side { return rawRPC(callers, true) }

func rawRPC(callers int, confirm bool) Side {
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
		serve := rawServe
		if confirm {
			serve = rawServeConfirmed
			if err := serving.Confirm(false); err != nil {
				return err
			}
		}
		go serve(serving, requests) // a caller that waits in vain says so

		calls, err := newRawCaller(r.URL, r.Name)
		if err != nil {
			return err
		}
		defer calls.conn.Close()
		if calls.confirm = confirm; confirm {
			if err := calls.ch.Confirm(false); err != nil {
				return err
			}
		}
		body := make([]byte, small)
		if err := r.Start(); err != nil {
			return err
		}
		err = inParallel(callers, r, func(i int) error { return calls.call(ctx, i, body) })
		r.Stop()
		return err
	}
}

func rawServe(ch *amqp091.Channel, requests <-chan amqp091.Delivery) {
	for m := range requests {
		if ch.Publish("", m.ReplyTo, false, false, rawAnswer(&m)) != nil || m.Ack(false) != nil {
			return
		}
	}
}

// rawServeConfirmed has another goroutine wait for confirms, in the order in which
// they come.
func rawServeConfirmed(ch *amqp091.Channel, requests <-chan amqp091.Delivery) {
	type answered struct {
		confirm *amqp091.DeferredConfirmation
		request amqp091.Delivery
	}
	flying := make(chan answered, window)
	defer close(flying)
	go func() {
		for a := range flying {
			if !a.confirm.Wait() || a.request.Ack(false) != nil {
				return
			}
		}
	}()
	for m := range requests {
		confirm, err := ch.PublishWithDeferredConfirm("", m.ReplyTo, false, false, rawAnswer(&m))
		if err != nil {
			return
		}
		flying <- answered{confirm, m}
	}
}

func rawAnswer(m *amqp091.Delivery) amqp091.Publishing {
	return amqp091.Publishing{CorrelationId: m.CorrelationId, ContentType: m.ContentType, Body: m.Body}
}

// rawCaller knows who waits for which reply.
type rawCaller struct {
	conn  *amqp091.Connection
	ch    *amqp091.Channel
	queue string

	confirm bool

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
	confirm, err := c.ch.PublishWithDeferredConfirm("", c.queue, false, false, amqp091.Publishing{ // nil without confirms
		CorrelationId: id, ReplyTo: "amq.rabbitmq.reply-to", ContentType: "application/octet-stream", Body: body,
	})
	if err != nil {
		return err
	}
	var confirmed <-chan struct{}
	if c.confirm {
		confirmed = confirm.Done()
	}
	for {
		select {
		case <-answer:
			return nil
		case <-confirmed:
			if !confirm.Acked() {
				return errNotConfirmed
			}
			confirmed = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
