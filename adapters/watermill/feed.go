package watermill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// resendTimeout is how long a nacked message may take to be stored again.
const resendTimeout = 10 * time.Second

// feed is one call of Subscribe: it pulls deliveries and hands them to the channel. One goroutine
// hands over, and one more attends to each message in hand.
type feed struct {
	driver adapters.Driver
	cfg    *SubscriberConfig
	log    wm.LoggerAdapter
	queue  adapters.Endpoint // behind the source, unless private
	sub    adapters.Subscription
	out    chan *message.Message

	ctx      context.Context // of handing over and of the messages; it ends first
	end      context.CancelCauseFunc
	unhook   func() bool     // from the Subscriber's Close
	holding  context.Context // of what is in hand
	giveUp   context.CancelFunc
	settling context.Context // never ends

	places chan struct{} // one is taken by each message in hand
	inHand sync.WaitGroup
}

func (s *Subscriber) newFeed(ctx context.Context, topic string, src adapters.Source) (*feed, error) {
	f := &feed{
		driver: s.driver, cfg: &s.cfg, log: s.cfg.Logger.With(wm.LogFields{"topic": topic}),
		queue:    adapters.Endpoint{Kind: adapters.Queue, Name: src.QueueName()},
		out:      make(chan *message.Message),
		places:   make(chan struct{}, src.Prefetch),
		settling: context.WithoutCancel(ctx),
	}
	f.ctx, f.end = context.WithCancelCause(ctx)
	f.holding, f.giveUp = context.WithCancel(f.settling)
	f.unhook = context.AfterFunc(s.ctx, func() { f.end(context.Cause(s.ctx)) })
	var err error
	if f.sub, err = s.driver.Subscribe(f.ctx, src); err != nil {
		f.unhook()
		f.end(err)
		f.giveUp()
		return nil, err
	}
	return f, nil
}

// run returns when nothing is in hand any more.
func (f *feed) run() {
	f.end(f.handOver())
	f.unhook()
	close(f.out)
	if err := f.sub.Stop(); err != nil {
		f.log.Error("Stopping a subscription", err, nil)
	}
	timer := time.AfterFunc(f.cfg.CloseTimeout, f.giveUp)
	f.inHand.Wait()
	timer.Stop()
	f.giveUp()
}

// handOver returns why it ended.
func (f *feed) handOver() error {
	for {
		select {
		case f.places <- struct{}{}:
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
		d, err := f.sub.Receive(f.ctx)
		if err != nil {
			if f.ctx.Err() == nil {
				f.log.Error("The subscription ended", err, nil)
			}
			return err
		}
		m, release := f.message(d)
		select {
		case f.out <- m:
			f.inHand.Go(func() {
				f.attend(d, m)
				release()
				<-f.places
			})
		case <-f.ctx.Done():
			release()
			f.settle(d, adapters.Requeue)
			return context.Cause(f.ctx)
		}
	}
}

// message makes what the handler gets of d; release ends its context.
func (f *feed) message(d adapters.Delivery) (m *message.Message, release func()) {
	m = message.NewMessage(d.Message.UUID, d.Message.Payload)
	m.Metadata = d.Message.Metadata
	if f.cfg.NackDelay > 0 { // d is sent again as it came, whatever the handler does to m
		m.Payload, m.Metadata = slices.Clone(m.Payload), maps.Clone(m.Metadata)
	}
	if m.Metadata == nil {
		m.Metadata = message.Metadata{}
	}
	session := d.Message.Context()
	came := &arrival{Delivery{d.Key, d.Redelivered, d.Properties}, m.UUID, m.Payload}
	ctx, cancel := context.WithCancelCause(context.WithValue(f.ctx, deliveryKey{}, came))
	follow := func() { cancel(context.Cause(session)) }
	unhook := context.AfterFunc(session, follow)
	m.SetContext(ctx)
	return m, func() { unhook(); follow() }
}

// attend waits for the handler to ack or nack m, and settles d.
func (f *feed) attend(d adapters.Delivery, m *message.Message) {
	session := d.Message.Context()
	for lost := session.Done(); ; {
		select {
		case <-m.Acked():
			f.settle(d, adapters.Ack)
			return
		case <-m.Nacked():
			f.nacked(d)
			return
		case <-f.holding.Done():
			f.settle(d, adapters.Requeue)
			return
		case <-lost:
			if errors.Is(context.Cause(session), adapters.ErrClosed) {
				return
			}
			lost = nil // the handler is still running
		}
	}
}

// nacked decides what happens to a message that the handler nacked.
func (f *feed) nacked(d adapters.Delivery) {
	switch {
	case f.ctx.Err() != nil, d.Message.Context().Err() != nil:
		f.settle(d, adapters.Requeue)
	case f.cfg.NackRejects:
		f.settle(d, adapters.Reject)
	case f.cfg.NackDelay > 0:
		f.sendAgain(d)
	default:
		f.settle(d, adapters.Requeue)
	}
}

// sendAgain publishes a copy of d to its queue, delayed, and settles d.
func (f *feed) sendAgain(d adapters.Delivery) {
	p := adapters.Publication{To: f.queue, Key: d.Key, Properties: d.Properties, Delay: f.cfg.NackDelay}
	if p.Attempt++; d.Died {
		p.Attempt = 2 // earlier attempts do not count
	}
	ctx, cancel := context.WithTimeout(f.settling, resendTimeout)
	defer cancel()
	err := f.driver.Publish(ctx, p, d.Message)
	if err == nil {
		f.settle(d, adapters.Ack)
		return
	}
	f.log.Error("A nacked message could not be sent again, back to the queue", err, wm.LogFields{"message_uuid": d.Message.UUID})
	timer := time.NewTimer(f.cfg.NackDelay) // else it would come, and fail, in a hot loop
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ctx.Done():
	case <-d.Message.Context().Done():
	}
	f.settle(d, adapters.Requeue)
}

func (f *feed) settle(d adapters.Delivery, o adapters.Outcome) {
	if err := d.Settle(f.settling, o); err != nil {
		f.log.Info(fmt.Sprintf("Not settled as %s, so the message may come again: %v", o, err), wm.LogFields{"message_uuid": d.Message.UUID})
	}
}

// Delivery is what came with a message besides what watermill knows of it.
type Delivery struct {
	Key         string // the routing key
	Redelivered bool   // it may have been delivered before
	adapters.Properties
}

type deliveryKey struct{}

// DeliveryFrom returns what came with the message of a [Subscriber] whose
// context is ctx, or what ctx was derived from.
func DeliveryFrom(ctx context.Context) (Delivery, bool) {
	came, ok := ctx.Value(deliveryKey{}).(*arrival)
	if !ok {
		return Delivery{}, false
	}
	return came.Delivery, true
}
