package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// To is a mandatory publication to a queue.
func To(queue string) adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Mandatory: true}
}

// From is a queue as a source.
func From(queue string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Prefetch: prefetch}
}

// Message returns a message of size bytes.
func Message(id string, size int) *message.Message {
	return message.NewMessage(id, []byte(strings.Repeat("x", size)))
}

// Stream is publishers at work.
type Stream struct {
	confirmed, nacked atomic.Int64
	over              atomic.Bool
	running           sync.WaitGroup
}

// Confirmed returns how many of its messages were confirmed.
func (s *Stream) Confirmed() int { return int(s.confirmed.Load()) }

// Nacked returns how often one was refused, certainly.
func (s *Stream) Nacked() int { return int(s.nacked.Load()) }

// Stream has publishers publish messages of size bytes, each until it is confirmed, with pause
// between two. Their ids begin with name, which no other stream of the row has.
func (x *Trial) Stream(d adapters.Driver, p adapters.Publication, name string, publishers, size int, pause time.Duration) *Stream {
	s := &Stream{}
	for i := range publishers {
		s.running.Go(func() {
			for n := 0; !s.over.Load() && x.ctx.Err() == nil; n++ {
				x.publish(d, p, Message(fmt.Sprintf("%s-%d-%d", name, i, n), size), s)
				time.Sleep(pause)
			}
		})
	}
	x.Go(s.running.Wait)
	return s
}

// publish publishes m until it is confirmed or the row is over.
func (x *Trial) publish(d adapters.Driver, p adapters.Publication, m *message.Message, s *Stream) {
	for x.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(x.ctx, 5*time.Second)
		err := d.Publish(ctx, p, m)
		cancel()
		if err == nil {
			s.confirmed.Add(1)
			return
		}
		if errors.Is(err, adapters.ErrNacked) {
			s.nacked.Add(1)
		}
		time.Sleep(10 * time.Millisecond) // not to make it a hot loop
	}
}

// Flowing waits until more messages of each stream are confirmed.
func (x *Trial) Flowing(what string, more int, streams ...*Stream) {
	for _, s := range streams {
		enough := s.Confirmed() + more
		x.Await(what, func() bool { return s.Confirmed() >= enough })
	}
}

// Finish lets the publishers come to an end, and waits until all that they sent is handled.
func (x *Trial) Finish(streams ...*Stream) {
	for _, s := range streams {
		s.over.Store(true)
	}
	for _, s := range streams {
		s.running.Wait()
	}
	x.AwaitHandled()
}

// Subscribe subscribes, which must work at once.
func (x *Trial) Subscribe(d adapters.Driver, s adapters.Source) adapters.Subscription {
	sub, err := d.Subscribe(x.Soon(), s)
	x.Must(err, "subscribing to "+s.Name)
	return sub
}

// Consume has workers acknowledge what comes, until the subscription ends.
func (x *Trial) Consume(sub adapters.Subscription, workers int) {
	for range workers {
		x.Go(func() {
			for {
				got, err := sub.Receive(x.ctx)
				if err != nil {
					return
				}
				_ = got.Settle(x.ctx, adapters.Ack)
			}
		})
	}
}
