package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// failFirst is what the default policy's first wait of a second is scaled to; the further waits are
// twice, four and eight times as long, as they are by default.
const failFirst = 200 * time.Millisecond

var errAlways = errors.New("it always fails")

// motifFail has a handler that always fails, with the default policy, until all messages are dead
// letters.
func motifFail(ctx context.Context, r *Run) error {
	driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{}, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[[]byte](bus, r.Name)
	sub, err := queue.Work(ctx, func(context.Context, []byte) error { return errAlways },
		patterns.Retry(patterns.RetryPolicy{Min: failFirst}), patterns.Prefetch(window))
	if err != nil {
		return err
	}
	body := make([]byte, small)
	send := func(n int) error {
		return pipelined(ctx, n, window, func(int) (*patterns.Receipt, error) { return queue.SendAsync(ctx, body) })
	}
	err = fail(ctx, r, send)
	if err == nil {
		err = sub.Stop(ctx)
	}
	if err != nil {
		return err
	}
	return deleteQueues(ctx, driver, r.Name, r.Name+".dead")
}

// warmFailures are sent before what is measured: waits are up to a tenth longer at random, and each
// that is new makes a queue, which is used when it is a second old.
const warmFailures = 100

// fail measures from the first message that is sent until all are dead letters.
func fail(ctx context.Context, r *Run, send func(n int) error) error {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := send(warmFailures); err != nil {
		return err
	}
	if err := awaitDead(ctx, ch, r.Name, warmFailures); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if err := r.Start(); err != nil {
		return err
	}
	err = send(r.Messages)
	if err == nil {
		err = awaitDead(ctx, ch, r.Name, warmFailures+r.Messages)
	}
	r.Stop()
	return err
}

// awaitDead waits until a queue has so many dead letters.
func awaitDead(ctx context.Context, ch *amqp091.Channel, queue string, n int) error {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		q, err := ch.QueueDeclarePassive(queue+".dead", true, false, false, false, nil)
		switch {
		case err != nil:
			return err
		case q.Messages == n:
			return nil
		case q.Messages > n:
			return fmt.Errorf("%d dead letters of %d messages", q.Messages, n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w while %d of %d were dead letters", ctx.Err(), q.Messages, n)
		}
	}
}
