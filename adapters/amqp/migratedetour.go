package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// prepare makes the detour, which leads to the queue, and the exchange behind it.
func (m *migration) prepare(ctx context.Context) error {
	return m.do(ctx, func(ch *amqp091.Channel) error {
		if _, err := m.conn.passive(ch, m.queue); err != nil {
			return err
		}
		if err := ch.ExchangeDeclare(restOf(m.queue), amqp091.ExchangeFanout, true, false, false, false, nil); err != nil {
			return err
		}
		err := ch.ExchangeDeclare(detourOf(m.queue), amqp091.ExchangeFanout, true, false, false, false, amqp091.Table{"alternate-exchange": restOf(m.queue)})
		if err != nil {
			return err
		}
		if err := ch.QueueBind(m.queue, "", detourOf(m.queue), false, nil); err != nil {
			return err
		}
		if !m.source.Kind.IsExchange() {
			return nil
		}
		for _, key := range routingKeys(m.source) { // a queue that is reached two ways gets one copy
			if err := ch.ExchangeBind(detourOf(m.queue), key, m.source.Name, false, nil); err != nil {
				return err
			}
		}
		for _, key := range routingKeys(m.source) {
			if err := ch.QueueUnbind(m.queue, key, m.source.Name, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// divert leads what is published over the detour, and what was delayed, to the newer queue.
func (m *migration) divert(ctx context.Context) error {
	found := m.do(ctx, func(ch *amqp091.Channel) error {
		return ch.ExchangeDeclarePassive(detourOf(m.queue), amqp091.ExchangeFanout, true, false, false, false, nil)
	})
	if errors.Is(found, adapters.ErrNotFound) {
		return fmt.Errorf("it is not prepared: %w", found)
	}
	if found != nil {
		return found
	}
	if err := m.declareHelper(ctx, m.newer); err != nil {
		return err
	}
	if err := m.do(ctx, func(ch *amqp091.Channel) error { return ch.QueueBind(m.newer, "", restOf(m.queue), false, nil) }); err != nil {
		return err
	}
	if err := m.divertDelayed(ctx); err != nil {
		return err
	}
	m.step("cut: the queue gets nothing more")
	return m.do(ctx, func(ch *amqp091.Channel) error { return ch.QueueUnbind(m.queue, "", detourOf(m.queue), nil) })
}

// divertDelayed leads messages that are due to the newer queue, while there is none of their
// destination. See delay.go and delayqueue.go.
func (m *migration) divertDelayed(ctx context.Context) error {
	destination := toQueues + m.queue
	if found, err := m.exists(ctx, destinationQueue(destination)); err != nil || !found {
		return err
	}
	above, here := destinationQueue(destination), matchHeader(headerTo, destination)
	err := m.do(ctx, func(ch *amqp091.Channel) error {
		if err := declareAboveDue(ch, above); err != nil {
			return err
		}
		if err := ch.QueueUnbind(m.queue, "", above, nil); err != nil { // what comes there is led on to dueExchange
			return err
		}
		if err := ch.QueueBind(m.newer, "", dueExchange, false, here); err != nil {
			return err
		}
		return ch.QueueUnbind(destinationQueue(destination), "", dueExchange, here)
	})
	for left := 1; err == nil && left > 0; sleep(ctx, detourPause) {
		var q adapters.QueueInfo
		q, err = m.d.Inspect(ctx, destinationQueue(destination))
		left = q.Ready
	}
	return err
}

// takeBackDelayed undoes divertDelayed, but for the binding that whoever delays to the queue makes
// again.
func (m *migration) takeBackDelayed(ctx context.Context) error {
	destination := toQueues + m.queue
	if found, err := m.exists(ctx, destinationQueue(destination)); err != nil || !found {
		return err
	}
	here := matchHeader(headerTo, destination)
	return m.do(ctx, func(ch *amqp091.Channel) error {
		if err := ch.QueueBind(destinationQueue(destination), "", dueExchange, false, here); err != nil {
			return err
		}
		if err := ch.QueueBind(m.queue, "", fallbackExchange, false, here); err != nil {
			return err
		}
		return ch.QueueUnbind(m.newer, "", dueExchange, here)
	})
}

// finish removes the detour. A group's queue is bound to its own exchange before.
func (m *migration) finish(ctx context.Context) error {
	return m.do(ctx, func(ch *amqp091.Channel) error {
		if m.source.Kind.IsExchange() {
			if err := bind(ch, m.queue, m.source); err != nil {
				return err
			}
		}
		for _, exchange := range []string{detourOf(m.queue), restOf(m.queue)} {
			if err := ch.ExchangeDelete(exchange, false, false); err != nil {
				return err
			}
		}
		return nil
	})
}
