package conformance

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// isAgain reports whether a message is published for its next attempt.
func isAgain(p adapters.Publication) bool { return p.To.Kind == adapters.Queue && p.Attempt > 1 }

// isLetter reports whether a message is a dead letter.
func isLetter(p adapters.Publication) bool {
	return p.To.Kind == adapters.Queue && strings.HasSuffix(p.To.Name, ".dead")
}

var failureMutants = []mutant{
	{"ignores delays", "failure/retried-later", changing(func(p *adapters.Publication) { p.Delay = 0 })},
	{"delays by no more than a tenth of a second", "failure/retried-later", changing(func(p *adapters.Publication) { p.Delay = min(p.Delay, 100*time.Millisecond) })},
	{"loses the attempt", "failure/attempts-counted", changing(func(p *adapters.Publication) { p.Attempt = 0 })},
	{"halves delays", "failure/retry-after", changing(func(p *adapters.Publication) { p.Delay /= 2 })},
	{"loses what is published again", "failure/panic", dropping(isAgain)},
	{"loses the headers of what is published to a queue", "failure/rejected", rewriting(func(p adapters.Publication, m *message.Message) {
		if p.To.Kind == adapters.Queue {
			m.Metadata = nil
		}
	})},
	{"loses the content type", "failure/undecodable", changing(func(p *adapters.Publication) { p.ContentType = "" })},
	{"refuses a payload that is no JSON", "failure/undecodable", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			for i, msg := range msgs {
				if strings.Count(string(msg.Payload), `"`)%2 == 1 {
					return &adapters.PublishError{Failed: []adapters.FailedMessage{{Index: i, UUID: msg.UUID, Err: adapters.ErrNacked}}}
				}
			}
			return publish(ctx, p, msgs...)
		}
	}},
	{"counts attempts itself", "failure/limit", receiving(func(d *adapters.Delivery) {
		if d.Attempt > 1 {
			d.Attempt++
		}
	})},
	{"has one line for all that is delayed", "failure/short-behind-long", func(m *mutated) {
		var mu sync.Mutex
		var last time.Time
		changing(func(p *adapters.Publication) {
			if p.Delay == 0 {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			p.Delay = max(p.Delay, time.Until(last))
			last = time.Now().Add(p.Delay)
		})(m)
	}},
	{"counts a message that was requeued as tried", "failure/shutdown", receiving(func(d *adapters.Delivery) {
		if d.Redelivered {
			d.Attempt++
		}
	})},
	{"rejects what is requeued", "failure/shutdown", settling(adapters.Requeue, adapters.Reject)},
	{"forgets the attempt with a session", "failure/session-lost", receiving(func(d *adapters.Delivery) {
		if d.Redelivered {
			d.Attempt = 1
		}
	})},
	{"does not tell handlers that the session is lost", "failure/session-lost", receiving(func(d *adapters.Delivery) {
		d.Message.SetContext(context.WithoutCancel(d.Message.Context()))
	})},
	{"keeps what is delayed in memory only", "failure/restart", changing(func(p *adapters.Publication) { p.Transient = p.Transient || p.Delay > 0 })},
	{"keeps dead letters in memory only", "failure/restart", changing(func(p *adapters.Publication) { p.Transient = p.Transient || isLetter(*p) })},
	{"loses an acknowledgement when its client is closed", "failure/on-receive", both(tenTimesThePrefetch, func(m *mutated) {
		settle := m.settle
		var mu sync.Mutex
		var late []func() error
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if o != adapters.Ack {
				return settle(ctx, d, o)
			}
			mu.Lock()
			defer mu.Unlock()
			ctx = context.WithoutCancel(ctx)
			late = append(late, func() error { return settle(ctx, d, o) })
			if len(late) > 1 { // one acknowledgement is always on its way
				first := late[0]
				late = late[1:]
				return first()
			}
			return nil
		}
	})},
	{"carries no key to a queue", "failure/letter-intact", changing(func(p *adapters.Publication) {
		if p.To.Kind == adapters.Queue {
			p.Key = ""
		}
	})},
	{"drops empty headers", "failure/letter-intact", rewriting(func(_ adapters.Publication, m *message.Message) {
		for key, value := range m.Metadata {
			if value == "" {
				delete(m.Metadata, key)
			}
		}
	})},
	{"gives what is published again a new time", "failure/retry-intact", changing(func(p *adapters.Publication) {
		if isAgain(*p) {
			p.Timestamp = time.Time{}
		}
	})},
	{"makes all messages persistent", "failure/retry-intact", changing(func(p *adapters.Publication) { p.Transient = false })},
	{"publishes to the exchange what is for one group's queue", "failure/group-alone", changing(func(p *adapters.Publication) {
		if name, _, found := strings.Cut(p.To.Name, ":"); found && isAgain(*p) {
			p.To = adapters.Endpoint{Kind: adapters.Fanout, Name: name}
		}
	})},
	{"keeps what a receiver writes into a message", "failure/middleware", sharing},
	{"delivers again what a private subscription rejects", "failure/private", settling(adapters.Reject, adapters.Requeue)},
	{"loses what is delayed on its way to the dead letters", "failure/parked", dropping(func(p adapters.Publication) bool { return isLetter(p) && p.Delay > 0 })},
	{"loses the app id of what is published again", "failure/sent-back", changing(func(p *adapters.Publication) {
		if isAgain(*p) || isLetter(*p) {
			p.AppID = ""
		}
	})},
	{"does not say which messages died", "failure/dead-at-the-broker", receiving(func(d *adapters.Delivery) { d.Died = false })},
	{"delivers again what is rejected", "failure/no-letters", settling(adapters.Reject, adapters.Requeue)},
}

// settling settles by another outcome.
func settling(one, other adapters.Outcome) func(*mutated) {
	return func(m *mutated) {
		settle := m.settle
		m.settle = func(ctx context.Context, d adapters.Delivery, o adapters.Outcome) error {
			if o == one {
				o = other
			}
			return settle(ctx, d, o)
		}
	}
}
