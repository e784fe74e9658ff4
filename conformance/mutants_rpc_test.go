package conformance

import (
	"context"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

func isReply(p adapters.Publication) bool { return p.To.Kind == adapters.Reply }

var rpcMutants = []mutant{
	{"sends all replies to the one who asked first", "rpc/correlated", repliesToTheFirst()},
	{"sends every reply twice", "rpc/correlated", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if isReply(p) {
				msgs = append(msgs, msgs...)
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"forgets the TTL of what it carries", "rpc/deadline", receiving(func(d *adapters.Delivery) { d.TTL = 0 })},
	{"delivers what has expired", "rpc/expired", changing(func(p *adapters.Publication) { p.TTL = 0 })},
	{"loses what goes to a fanout exchange", "rpc/cancelled", dropping(func(p adapters.Publication) bool { return p.To.Kind == adapters.Fanout })},
	{"cancels all calls for one", "rpc/cancelled", func(m *mutated) {
		var mu sync.Mutex
		seen := []string{}
		receive := m.receive
		m.receive = func(ctx context.Context, s adapters.Subscription) (adapters.Delivery, error) {
			d, err := receive(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
			case d.ReplyTo != "":
				seen = append(seen, d.CorrelationID)
			case len(seen) > 0: // a cancel, which says it of another one too
				d.CorrelationID = seen[len(seen)-1]
			}
			return d, err
		}
	}},
	{"loses the headers of replies", "rpc/remote-error", rewriting(func(p adapters.Publication, m *message.Message) {
		if isReply(p) {
			m.Metadata = nil
		}
	})},
	{"cuts headers off after ten bytes", "rpc/panic", rewriting(func(_ adapters.Publication, m *message.Message) {
		for key, value := range m.Metadata {
			m.Metadata[key] = value[:min(10, len(value))]
		}
	})},
	{"takes a request that reaches nobody", "rpc/no-server", changing(func(p *adapters.Publication) { p.Mandatory = false })},
	{"keeps a queue that was to go with its last consumer", "rpc/no-server", sourcing(func(s *adapters.Source) { s.Queue.AutoDelete = false })},
	{"acknowledges what it delivers", "rpc/server-dies", receiving(func(d *adapters.Delivery) {
		_ = d.Settle(context.Background(), adapters.Ack)
	})},
	{"takes a second reply to a call for one that it has sent", "rpc/duplicate-reply", func(m *mutated) {
		var mu sync.Mutex
		sent := map[string]bool{}
		dropping(func(p adapters.Publication) bool {
			mu.Lock()
			defer mu.Unlock()
			again := isReply(p) && sent[p.CorrelationID]
			sent[p.CorrelationID] = true
			return again
		})(m)
	}},
	{"gives the reply address up with a call", "rpc/late-reply", func(m *mutated) {
		var mu sync.Mutex
		var replies adapters.Subscription
		subscribe, publish := m.subscribe, m.publish
		m.subscribe = func(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
			sub, err := subscribe(ctx, s)
			if s.Kind == adapters.Reply && err == nil {
				mu.Lock()
				defer mu.Unlock()
				replies = sub
			}
			return sub, err
		}
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			mu.Lock()
			sub := replies
			mu.Unlock()
			if p.To.Kind == adapters.Fanout && sub != nil {
				_ = sub.Stop()
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"gives every reply the id of the request that came last", "rpc/foreign-reply", func(m *mutated) {
		var mu sync.Mutex
		last := ""
		receiving(func(d *adapters.Delivery) {
			mu.Lock()
			defer mu.Unlock()
			if d.ReplyTo != "" {
				last = d.CorrelationID
			}
		})(m)
		changing(func(p *adapters.Publication) {
			mu.Lock()
			defer mu.Unlock()
			if isReply(*p) {
				p.CorrelationID = last
			}
		})(m)
	}},
	{"has one address for all reply subscriptions of a client", "rpc/address", func(m *mutated) {
		address := m.address
		var mu sync.Mutex
		first := ""
		m.address = func(s adapters.Subscription) string {
			mu.Lock()
			defer mu.Unlock()
			if first == "" {
				first = address(s)
			}
			return first
		}
	}},
	{"loses its session over a reply that nobody takes", "rpc/caller-gone", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			p.Mandatory = p.Mandatory || isReply(p)
			err := publish(ctx, p, msgs...)
			if isReply(p) && err != nil {
				m.Cut()
			}
			return err
		}
	}},
	{"drops messages without a payload", "rpc/too-large", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if len(msgs) == 1 && len(msgs[0].Payload) == 0 && msgs[0].Metadata[patterns.HeaderErrorCode] != "" {
				return nil
			}
			return publish(ctx, p, msgs...)
		}
	}},
}

// repliesToTheFirst counts who asked over all clients of a broker: each of two
// servers may by chance be asked by one caller only.
func repliesToTheFirst() func(*mutated) {
	var first sync.Map // reply addresses, by broker
	return func(m *mutated) {
		changing(func(p *adapters.Publication) {
			if isReply(*p) {
				name, _ := first.LoadOrStore(m.broker, p.To.Name)
				p.To.Name = name.(string)
			}
		})(m)
	}
}
