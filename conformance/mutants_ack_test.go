package conformance

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var ackMutants = []mutant{
	{"keeps acknowledgements to itself", "ack/settled-is-gone", func(m *mutated) {
		m.settle = func(context.Context, adapters.Delivery, adapters.Outcome) error { return nil }
	}},
	{"acknowledges all messages before the one that is acknowledged", "ack/out-of-order", func(m *mutated) {
		receive, settle := m.receive, m.settle
		var mu sync.Mutex
		var held []adapters.Delivery
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			held = append(held, d)
			return d, err
		}
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			mu.Lock()
			defer mu.Unlock()
			for _, earlier := range held {
				if earlier.Message == d.Message {
					break
				}
				_ = settle(ctx, earlier, o)
			}
			return settle(ctx, d, o)
		}
	}},
	{"fails when a message is settled twice", "ack/twice", func(m *mutated) {
		settle := m.settle
		var mu sync.Mutex
		settled := map[*message.Message]bool{}
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			mu.Lock()
			defer mu.Unlock()
			if settled[d.Message] {
				return errors.New("unknown delivery tag")
			}
			settled[d.Message] = true
			return settle(ctx, d, o)
		}
	}},
	{"sends a message again that is requeued after it was acknowledged", "ack/twice", func(m *mutated) {
		publish, settle := m.publish, m.settle
		var mu sync.Mutex
		var last adapters.Publication
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			defer mu.Unlock()
			last = p
			return publish(ctx, p, msgs...)
		}
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if o == adapters.Requeue {
				mu.Lock()
				defer mu.Unlock()
				_ = publish(ctx, last, d.Message)
			}
			return settle(ctx, d, o)
		}
	}},
	{"does not mark what is requeued", "ack/requeue", receiving(func(d *adapters.Delivery) { d.Redelivered = false })},
	{"counts a requeue as an attempt", "ack/requeue", receiving(func(d *adapters.Delivery) {
		if d.Redelivered {
			d.Attempt++
		}
	})},
	{"requeues at the tail", "ack/requeue-in-place", requeueAtTail},
	{"requeues three in the order opposite to the one it is told", "ack/requeue-in-order", func(m *mutated) {
		settle := m.settle
		var mu sync.Mutex
		var late []adapters.Delivery
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) (err error) {
			if o != adapters.Requeue {
				return settle(ctx, d, o)
			}
			mu.Lock()
			defer mu.Unlock()
			if late = append(late, d); len(late) < 3 {
				return nil
			}
			for _, d := range slices.Backward(late) {
				err = errors.Join(err, settle(ctx, d, o))
			}
			late = nil
			return err
		}
	}},
	{"has a rejected message come again", "ack/reject", outcomes(func(o adapters.Outcome) adapters.Outcome {
		if o == adapters.Reject {
			return adapters.Requeue
		}
		return o
	})},
	{"drops what should be a dead letter", "ack/reject-to-dead-letters", outcomes(func(adapters.Outcome) adapters.Outcome { return adapters.Ack })},
	{"empties dead letters", "ack/reject-to-dead-letters", receiving(func(d *adapters.Delivery) {
		if d.Message.Metadata["x-death"] != "" {
			d.Message.Payload = nil
		}
	})},
	{"does not say which messages died", "ack/reject-to-dead-letters", receiving(func(d *adapters.Delivery) { d.Died = false })},
	{"takes a message for a dead letter that was one before it was sent again", "ack/reject-to-dead-letters", receiving(func(d *adapters.Delivery) {
		d.Died = d.Message.Metadata["x-death"] != ""
	})},
	{"loses the key of a dead letter", "ack/reject-to-dead-letters", receiving(func(d *adapters.Delivery) {
		if d.Message.Metadata["x-death"] != "" {
			d.Key = ""
		}
	})},
	{"lets a late acknowledgement settle another message", "ack/stale", func(m *mutated) {
		receive, settle := m.receive, m.settle
		var mu sync.Mutex
		var last adapters.Delivery
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			last = d
			return d, err
		}
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			err := settle(ctx, d, o)
			if errors.Is(err, adapters.ErrStaleDelivery) {
				mu.Lock()
				defer mu.Unlock()
				_ = settle(ctx, last, o)
			}
			return err
		}
	}},
	{"says that a late acknowledgement has worked", "ack/stale", func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if err := settle(ctx, d, o); !errors.Is(err, adapters.ErrStaleDelivery) {
				return err
			}
			return nil
		}
	}},
	{"acknowledges on delivery", "ack/given-back", ackOnDelivery},
	{"gives back what was in hand in the wrong order", "ack/given-back", func(m *mutated) {
		receive, shut := m.receive, m.close
		var mu sync.Mutex
		var held []adapters.Delivery
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			held = append(held, d)
			return d, err
		}
		publish := m.publish
		var last adapters.Publication
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			last = p
			return publish(ctx, p, msgs...)
		}
		m.close = func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			for _, d := range slices.Backward(held) {
				if slices.Contains([]string{"m-1", "m-3", "m-5"}, d.Message.UUID) {
					_ = errors.Join(d.Settle(ctx, adapters.Ack), publish(ctx, last, d.Message))
				}
			}
			held = nil
			return shut(ctx)
		}
	}},
	{"acknowledges on delivery, and loses it with the session", "ack/lost-in-hand", ackOnDelivery},
	{"does not tell who has a message in hand that its session is lost", "ack/lost-in-hand", receiving(func(d *adapters.Delivery) {
		d.Message.SetContext(context.WithoutCancel(d.Message.Context()))
	})},
	{"marks every message redelivered, to be sure", "ack/first-delivery", receiving(func(d *adapters.Delivery) { d.Redelivered = true })},
	{"gives what is in hand back when its subscription is stopped", "ack/after-stop", func(m *mutated) {
		receive, stop := m.receive, m.stop
		var mu sync.Mutex
		var held []adapters.Delivery
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			if held = append(held, d); err != nil {
				held = nil
			}
			return d, err
		}
		m.stop = func(s adapters.Subscription) error {
			err := stop(s)
			mu.Lock()
			defer mu.Unlock()
			for _, d := range held {
				_ = d.Settle(context.Background(), adapters.Requeue)
			}
			held = nil
			return err
		}
	}},
	{"takes Close for a lost session", "ack/after-close", func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if err := settle(ctx, d, o); !errors.Is(err, adapters.ErrClosed) {
				return err
			}
			return adapters.ErrStaleDelivery
		}
	}},
	{"leaves the contexts of messages alive when it is closed", "ack/after-close", receiving(func(d *adapters.Delivery) {
		d.Message.SetContext(context.WithoutCancel(d.Message.Context()))
	})},
	{"takes an unknown outcome for a rejection", "ack/unknown-outcome", outcomes(func(o adapters.Outcome) adapters.Outcome {
		return min(o, adapters.Reject)
	})},
}

// outcomes settles otherwise.
func outcomes(change func(adapters.Outcome) adapters.Outcome) func(*mutated) {
	return func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			return settle(ctx, d, change(o))
		}
	}
}

// ackOnDelivery settles every message before its receiver has it.
func ackOnDelivery(m *mutated) {
	receive := m.receive
	m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
		d, err := receive(ctx, s)
		if err == nil {
			err = d.Settle(ctx, adapters.Ack)
		}
		return d, err
	}
}

// requeueAtTail sends a message again instead.
func requeueAtTail(m *mutated) {
	publish, settle := m.publish, m.settle
	var mu sync.Mutex
	var last adapters.Publication
	m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		last = p
		return publish(ctx, p, msgs...)
	}
	m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
		if o != adapters.Requeue {
			return settle(ctx, d, o)
		}
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(publish(ctx, last, d.Message), settle(ctx, d, adapters.Ack))
	}
}
