package model

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// broken is a client of the in-process broker with one thing wrong.
type broken struct {
	*memory.Client
	publish func(*adapters.Publication)
	source  func(*adapters.Source)
	deliver func(*adapters.Delivery)
	settle  func(c *memory.Client, queue string, d adapters.Delivery, o adapters.Outcome) error
}

func (b *broken) unwrap() adapters.Driver { return b.Client }

func (b *broken) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if b.publish != nil {
		b.publish(&p)
	}
	return b.Client.Publish(ctx, p, msgs...)
}

func (b *broken) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if b.source != nil {
		b.source(&s)
	}
	sub, err := b.Client.Subscribe(ctx, s)
	if err != nil {
		return nil, err
	}
	return &brokenSubscription{sub, b}, nil
}

func (b *broken) Get(ctx context.Context, s adapters.Source) (adapters.Delivery, error) {
	d, err := b.Client.Get(ctx, s)
	if err == nil {
		b.spoil(&d, s.QueueName())
	}
	return d, err
}

type brokenSubscription struct {
	adapters.Subscription
	b *broken
}

func (s *brokenSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	if err == nil {
		s.b.spoil(&d, s.Address())
	}
	return d, err
}

func (b *broken) spoil(d *adapters.Delivery, queue string) {
	if b.deliver != nil {
		b.deliver(d)
	}
	if b.settle != nil {
		d.Settler = &brokenSettler{b, *d, queue}
	}
}

type brokenSettler struct {
	b     *broken
	d     adapters.Delivery
	queue string
}

func (s *brokenSettler) Settle(_ context.Context, o adapters.Outcome) error {
	return s.b.settle(s.b.Client, s.queue, s.d, o)
}

// handful is the most operations that it takes to tell a broken broker.
const handful = 6

// TestBrokenBrokersAreFound: brokers that are wrong in one way, each found by a
// random sequence, of which little is left that does not matter.
func TestBrokenBrokersAreFound(t *testing.T) {
	for name, test := range map[string]broken{
		"requeues at the tail": {
			deliver: func(d *adapters.Delivery) {
				if d.Message.Metadata["again"] != "" {
					d.Redelivered = true
					delete(d.Message.Metadata, "again")
				}
			},
			settle: func(c *memory.Client, queue string, d adapters.Delivery, o adapters.Outcome) error {
				if o != adapters.Requeue {
					return d.Settle(context.Background(), o)
				}
				m := d.Message.Copy()
				m.Metadata.Set("again", "yes")
				if err := d.Settle(context.Background(), adapters.Ack); err != nil {
					return err
				}
				return c.Publish(context.Background(), adapters.Publication{To: adapters.Endpoint{Name: queue}, Key: d.Key, Properties: d.Properties}, m)
			},
		},
		"says that nothing is redelivered": {deliver: func(d *adapters.Delivery) { d.Redelivered = false }},
		"loses the key of a dead letter": {deliver: func(d *adapters.Delivery) {
			if d.Message.Metadata[memory.MetadataDeaths] != "" {
				d.Key = ""
			}
		}},
		"forgets an attempt":              {deliver: func(d *adapters.Delivery) { d.Attempt = 1 }},
		"delivers one more than prefetch": {source: func(s *adapters.Source) { s.Prefetch++ }},
		"binds with the first key only":   {source: func(s *adapters.Source) { s.Keys = s.Keys[:min(1, len(s.Keys))] }},
		"has no mandatory messages":       {publish: func(p *adapters.Publication) { p.Mandatory = false }},
		"has no priorities":               {publish: func(p *adapters.Publication) { p.Priority = 0 }},
		"has messages that never expire":  {publish: func(p *adapters.Publication) { p.TTL = 0 }},
		"has no transient messages":       {publish: func(p *adapters.Publication) { p.Transient = false }},
		"acknowledges what is rejected":   {settle: outcomes(adapters.Ack, adapters.Requeue, adapters.Ack)},
		"dead-letters what is requeued":   {settle: outcomes(adapters.Ack, adapters.Reject, adapters.Reject)},
		"requeues what is acknowledged":   {settle: outcomes(adapters.Requeue, adapters.Requeue, adapters.Reject)},
		"settles what is stale": {settle: func(_ *memory.Client, _ string, d adapters.Delivery, o adapters.Outcome) error {
			_ = d.Settle(context.Background(), o)
			return nil
		}},
		"never settles":                    {settle: func(*memory.Client, string, adapters.Delivery, adapters.Outcome) error { return nil }},
		"redeclares a queue as it was not": {source: func(s *adapters.Source) { s.Queue = adapters.QueueSpec{} }},
	} {
		t.Run(name, func(t *testing.T) {
			wrap := func(d adapters.Driver) adapters.Driver {
				b := test
				b.Client = d.(*memory.Client)
				return &b
			}
			for seed := range uint64(500) {
				s := generate(t, seed, "classic", true, "")
				if !differsInProcess(t, s, wrap) {
					continue
				}
				short := shrink(s, func(s script) bool { return differsInProcess(t, s, wrap) })
				t.Logf("seed %d, %d operations:\n%s", seed, len(s.ops), short)
				if len(short.ops) > handful {
					t.Errorf("%d operations are left", len(short.ops))
				}
				return
			}
			t.Error("was not found")
		})
	}
}

func outcomes(ack, requeue, reject adapters.Outcome) func(*memory.Client, string, adapters.Delivery, adapters.Outcome) error {
	return func(_ *memory.Client, _ string, d adapters.Delivery, o adapters.Outcome) error {
		return d.Settle(context.Background(), [...]adapters.Outcome{ack, requeue, reject}[o])
	}
}

// differsInProcess plays s on the in-process broker and on the same, wrapped.
func differsInProcess(t *testing.T, s script, wrap func(adapters.Driver) adapters.Driver) bool {
	t.Helper()
	h := inMemory(t, s)
	var differs bool
	synctest.Test(t, func(t *testing.T) {
		w := newInProcess(s)
		w.wrap = wrap
		defer w.close()
		diff, err := compare(t.Context(), w, s, h, patience)
		if err != nil {
			t.Fatal(err)
		}
		differs = diff != nil
	})
	return differs
}

// TestTheSameBrokerDoesNotDiffer: nothing that one sequence does depends on
// chance.
func TestTheSameBrokerDoesNotDiffer(t *testing.T) {
	for seed := range uint64(100) {
		s := generate(t, seed, [...]string{"classic", "quorum"}[seed%2], seed%4 < 2, "")
		if differsInProcess(t, s, nil) {
			t.Error(fmt.Sprint("seed ", seed, " differs from itself:\n", s))
		}
	}
}
