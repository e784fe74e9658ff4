package faults

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

func toQueue(name string) adapters.Publication {
	return adapters.Publication{To: onQueue(name), Mandatory: true}
}

func from(queue string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: onQueue(queue), Prefetch: prefetch}
}

// text is a message with a JSON string of so many characters.
func text(id string, size int) *message.Message {
	return message.NewMessage(id, []byte(`"`+strings.Repeat("x", size)+`"`))
}

// publish publishes one message until it is confirmed, with the same id each
// time. It gives up after a time that no fault takes.
func (x *trial) publish(d adapters.Driver, p adapters.Publication, m *message.Message) {
	all := x.bounded(4 * time.Minute)
	for x.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(all, x.once)
		err := d.Publish(ctx, p, m)
		cancel()
		if err == nil {
			return
		}
		if all.Err() != nil && x.ctx.Err() == nil {
			x.fatalf("publishing %q in vain: %v", m.UUID, err)
		}
		time.Sleep(10 * time.Millisecond) // not to make it a hot loop
	}
}

// stream is publishers at work.
type stream struct {
	confirmed atomic.Int64
	most      atomic.Int64 // messages begun in all
	next      atomic.Int64
	done      chan struct{}
}

// stream has publishers publish n messages, each until it is confirmed.
func (x *trial) stream(d adapters.Driver, p adapters.Publication, prefix string, publishers, n, size int) *stream {
	s := &stream{done: make(chan struct{})}
	s.most.Store(int64(n))
	var running atomic.Int64
	running.Store(int64(publishers))
	for range publishers {
		x.spawn(func(ctx context.Context) {
			defer func() {
				if running.Add(-1) == 0 {
					close(s.done)
				}
			}()
			for ctx.Err() == nil {
				i := s.next.Add(1)
				if i > s.most.Load() {
					return
				}
				x.publish(d, p, text(fmt.Sprintf("%s-%d", prefix, i), size))
				s.confirmed.Add(1)
			}
		})
	}
	return s
}

// finish lets the publishers come to an end, and waits for that.
func (x *trial) finish(s *stream) {
	s.most.Store(min(s.most.Load(), s.next.Load()))
	x.join(s)
}

// join waits until all is published.
func (x *trial) join(s *stream) {
	x.await("publishers finish", func() bool { return isClosed(s.done) })
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// subscribe is for subscriptions that must work at once.
func (x *trial) subscribe(d adapters.Driver, s adapters.Source) adapters.Subscription {
	sub, err := d.Subscribe(x.soon(), s)
	x.must(err, "subscribing to "+s.Name)
	return sub
}

// consume has workers handle what comes, and acknowledge it unless f does
// something else with it. They end with the subscription.
func (x *trial) consume(sub adapters.Subscription, workers int, f func(adapters.Delivery)) {
	if f == nil {
		f = func(d adapters.Delivery) { _ = d.Settle(context.Background(), adapters.Ack) }
	}
	for range workers {
		x.spawn(func(ctx context.Context) {
			for {
				d, err := sub.Receive(ctx)
				if err != nil {
					return
				}
				f(d)
			}
		})
	}
}

// receive returns the next message.
func (x *trial) receive(sub adapters.Subscription) adapters.Delivery {
	d, err := sub.Receive(x.bounded(x.patience))
	x.must(err, "receiving")
	return d
}

// ack acknowledges.
func (x *trial) ack(d adapters.Delivery) {
	x.must(d.Settle(x.soon(), adapters.Ack), "acknowledging "+d.Message.UUID)
}

// number returns a text that no other call returns.
func (x *trial) number() string { return fmt.Sprint(x.h.Number()) }

func id(prefix string, i int) string { return fmt.Sprintf("%s-%d", prefix, i) }

func onQueue(name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: name}
}
