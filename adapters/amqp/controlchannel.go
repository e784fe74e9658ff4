package amqp

import (
	"context"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/kit"
)

// controlChannels returns how many of a connection's channels are reserved for single operations.
func controlChannels(channels int) int { return max(1, min(8, channels/4)) }

// idleControlTime is how long a channel for single operations is kept at least. To open and close
// one takes two round trips, twice as many as a declaration, and as much of the broker's time.
const idleControlTime = time.Second

// withChannel runs f with a channel of its own, which f may cost.
func (conn *connection) withChannel(ctx context.Context, f func(*amqp091.Channel) error) error {
	return conn.withControlChannel(ctx, f, false)
}

// withKeptChannel is withChannel for what leaves its channel as it was, unless it fails: others
// like it may use it, one after the other.
func (conn *connection) withKeptChannel(ctx context.Context, f func(*amqp091.Channel) error) error {
	return conn.withControlChannel(ctx, f, conn.channels > 1)
}

func (conn *connection) withControlChannel(ctx context.Context, f func(*amqp091.Channel) error, keep bool) error {
	select {
	case conn.controlSlots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-conn.ctx.Done():
		return context.Cause(conn.ctx)
	}
	_, err := kit.Call(ctx, conn.supervisor.driver.tasks, func() (struct{}, error) {
		defer func() { <-conn.controlSlots }()
		if conn.channels == 1 {
			giveBack, err := conn.lendOnlyChannel(ctx)
			if err != nil {
				return struct{}{}, err
			}
			defer giveBack()
		}
		ch, err := conn.controlChannel(keep)
		if err != nil {
			return struct{}{}, err
		}
		if err = f(ch); err == nil && keep {
			conn.keepControlChannel(ch)
		} else {
			_ = ch.Close() // it may be closed already
		}
		return struct{}{}, err
	}, func(struct{}) {})
	return err
}

// controlChannel returns a channel, which is new unless it may be one that was kept. Together with
// those that are kept there are no more than reserved.
func (conn *connection) controlChannel(kept bool) (*amqp091.Channel, error) {
	conn.mu.Lock()
	var ch *amqp091.Channel
	if last := len(conn.idleControls) - 1; last >= 0 {
		ch, conn.idleControls = conn.idleControls[last], conn.idleControls[:last]
	}
	conn.mu.Unlock()
	switch {
	case ch != nil && kept:
		return ch, nil
	case ch != nil:
		_ = ch.Close()
	}
	return conn.amqp.Channel()
}

func (conn *connection) keepControlChannel(ch *amqp091.Channel) {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.ctx.Err() != nil {
		return // it is gone with the connection
	}
	conn.idleControls = append(conn.idleControls, ch)
	if conn.controlsIdle == nil {
		conn.controlsIdle = time.AfterFunc(idleControlTime, conn.closeIdleControls)
	} else {
		conn.controlsIdle.Reset(idleControlTime)
	}
}

// closeIdleControls closes the channels that were kept.
func (conn *connection) closeIdleControls() {
	channels := conn.forgetIdleControls()
	conn.supervisor.driver.tasks.Go(func() {
		for _, ch := range channels {
			_ = ch.Close()
		}
	})
}

func (conn *connection) forgetIdleControls() []*amqp091.Channel {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	channels := conn.idleControls
	conn.idleControls = nil
	if conn.controlsIdle != nil {
		conn.controlsIdle.Stop()
	}
	return channels
}
