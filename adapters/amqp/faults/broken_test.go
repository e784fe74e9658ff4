package faults

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/conformance/history"
)

// A row is worth what it finds. These drivers are each broken in one way, and
// the row that is there for it must say so.
func TestBrokenDriversAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broken func(full) full
		row    func(*trial)
		want   history.Kind
	}{
		"acknowledges on receipt":            {func(d full) full { return &broken{full: d, ackEarly: true} }, staleAck, history.WrongAck},
		"honours late acks":                  {func(d full) full { return &broken{full: d, honourStale: true} }, staleAck, history.WrongAck},
		"confirms what it did not send":      {func(d full) full { return &broken{full: d, drop: true} }, resetWhileIdle, history.Lost},
		"sends twice":                        {func(d full) full { return &broken{full: d, twice: true} }, steadyWork, history.Unexplained},
		"forgets an ack":                     {func(d full) full { return &broken{full: d, forgetAck: true} }, steadyWork, history.Resurrected},
		"hands out nothing as a message":     {func(d full) full { return &broken{full: d, phantom: true} }, queueDeleted, history.Phantom},
		"invents a message":                  {func(d full) full { return &broken{full: d, invent: true} }, queueDeleted, history.Unexpected},
		"heeds no ctx":                       {func(d full) full { return &broken{full: d, deaf: true} }, halfOpen, history.Overdue},
		"sends messages that do not persist": {func(d full) full { return &broken{full: d, transient: true} }, func(x *trial) { killAfter(x, 500, amqp.Classic) }, history.Lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			turns <- struct{}{}
			defer func() { <-turns }()
			x := newTrial(t, "broken: "+name)
			x.wrap, x.patience, x.heartbeat = c.broken, 10*time.Second, 5*time.Second
			v := x.run(c.row)
			if !t.Skipped() && (!v.Has(c.want) || len(x.problems) == 0) {
				t.Errorf("the row found %q, want it to be %s", x.problems, c.want)
			}
		})
	}
}

// steadyWork is a session that goes on for long after its first message: what comes again then
// does so for no reason, and nothing is marked as redelivered because a subscription began again.
func steadyWork(x *trial) {
	site := x.shared()
	x.consume(x.subscribe(site.connect("consumer"), from("jobs", 20)), 2, nil)
	publisher := site.connect("publisher")
	for start, i := time.Now(), 0; time.Since(start) < 3*time.Second; i++ {
		x.publish(publisher, toQueue("jobs"), text(id("job", i), 10))
		x.await("it is handled", func() bool { return x.h.Open() == 0 })
	}
}

// full is a driver with all that a driver may have.
type full interface {
	adapters.Driver
	adapters.AsyncPublisher
	adapters.Getter
	adapters.Unbinder
}

// broken is a driver that does one thing wrong.
type broken struct {
	full
	ackEarly, honourStale, drop, twice, forgetAck, phantom, invent, deaf, transient bool

	published atomic.Int64
	received  atomic.Int64
	forgotten sync.Once
	mu        sync.Mutex
	last      adapters.Delivery
}

func (b *broken) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	n := b.published.Add(1)
	switch {
	case b.drop && n == 2:
		return nil
	case b.twice && n == 2:
		if err := b.full.Publish(ctx, p, msgs...); err != nil {
			return err
		}
	case b.deaf:
		ctx = context.WithoutCancel(ctx)
	}
	p.Transient = b.transient
	return b.full.Publish(ctx, p, msgs...)
}

func (b *broken) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := b.full.Subscribe(ctx, s)
	return &brokenSubscription{sub, b}, err
}

type brokenSubscription struct {
	adapters.Subscription
	b *broken
}

func (s *brokenSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	if err != nil {
		return d, err
	}
	b := s.b
	switch n := b.received.Add(1); {
	case b.ackEarly:
		_ = d.Settle(ctx, adapters.Ack)
	case b.phantom && n == 10:
		d.Message = message.NewMessage("", nil)
	case b.invent && n == 10:
		d.Message = message.NewMessage("never sent", []byte(`"x"`))
	}
	b.mu.Lock()
	b.last = d
	b.mu.Unlock()
	d.Settler = &brokenSettler{d.Settler, b}
	return d, nil
}

type brokenSettler struct {
	adapters.Settler
	b *broken
}

func (s *brokenSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	forget := false
	if s.b.forgetAck {
		s.b.forgotten.Do(func() { forget = true })
	}
	if forget {
		o = adapters.Requeue
	}
	err := s.Settler.Settle(ctx, o)
	if s.b.honourStale && errors.Is(err, adapters.ErrStaleDelivery) {
		s.b.mu.Lock()
		defer s.b.mu.Unlock()
		return s.b.last.Settle(ctx, o) // what has the same tag now
	}
	return err
}

func TestSecretsAreFound(t *testing.T) {
	const secret = "s3cr%et p"
	for name, show := range map[string]func(*journal) []any{
		"log":       func(j *journal) []any { j.logger("c").Info("amqp://u:s3cr%25et+p@h/"); return nil },
		"error":     func(*journal) []any { return []any{errors.New("login of u with s3cr%et p failed")} },
		"structure": func(*journal) []any { return []any{struct{ password []byte }{[]byte(secret)}} },
	} {
		j := &journal{}
		if values := show(j); len(shows(j, []string{secret}, values)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	j := &journal{}
	j.logger("c").Info("harmless")
	if where := shows(j, []string{secret}, []any{errors.New("harmless")}); len(where) > 0 {
		t.Errorf("found %v in harmless words", where)
	}
}

func TestLeaksAreFound(t *testing.T) {
	halt := make(chan struct{})
	started := make(chan struct{})
	go func() {
		label("leaky")
		go func() {
			close(started)
			<-halt
		}()
	}()
	<-started
	if len(labelled("leaky")) == 0 {
		t.Error("a goroutine that was left is not found")
	}
	close(halt)
	if stacks := leaked("leaky"); stacks != "" {
		t.Errorf("found %s", stacks)
	}
}
