package amqp

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// lateSubscription is one on a machine that stands still for a moment: its first Receive gives up
// although all messages have come, and each further one takes its time.
type lateSubscription struct {
	adapters.Subscription
	arrived func()
	late    bool
}

func (s *lateSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	if !s.late {
		s.late = true
		s.arrived()
		return adapters.Delivery{}, context.DeadlineExceeded
	}
	time.Sleep(5 * time.Millisecond)
	return s.Subscription.Receive(ctx)
}

func (s *lateSubscription) TryReceive(ctx context.Context) (adapters.Delivery, error) {
	return s.Subscription.(adapters.TryReceiver).TryReceive(ctx)
}

// TestMoveOnASlowMachine: what was in the queue when a move began is not taken for what somebody
// sends to it still.
func TestMoveOnASlowMachine(t *testing.T) {
	t.Parallel()
	d := connect(t)
	from, to := fromQueue(t.Name(), movePrefetch), fromQueue(t.Name()+".to", 1)
	const n = movePrefetch - 2
	for _, s := range []adapters.Source{from, to} {
		if err := d.Declare(soon(t), s); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if err := d.Publish(soon(t), toQueue(from.Name), message.NewMessage(strconv.Itoa(i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := d.Subscribe(soon(t), from)
	if err != nil {
		t.Fatal(err)
	}
	slow := &lateSubscription{Subscription: sub, arrived: func() {
		poll(t, func() bool {
			q, err := d.Inspect(soon(t), from.Name)
			return err == nil && q.Consumers == 1 && q.Ready == 0
		})
	}}
	ctx, cancel := context.WithCancelCause(long(t))
	defer cancel(nil)
	move := &transfer{m: &migration{d: d, source: from}, to: to.Endpoint, stop: cancel}
	err = move.run(ctx, slow, from.Name, time.Millisecond)
	move.underway.Wait()
	if moved := move.moved.Load(); err != nil || moved != n {
		t.Errorf("%d of %d moved, %v", moved, n, err)
	}
}
