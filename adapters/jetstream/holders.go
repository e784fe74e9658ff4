package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// What was given back the server counts among what is in hand, until it is delivered again, and a
// consumer that is full it does not count at all. So who wants to know asks all drivers what their
// consumers of a queue hold.

// answerTime is how long to wait for the next driver to answer. One that does not, holds nothing.
const answerTime = 250 * time.Millisecond

// mostHeld is how many messages an answer names at most, so that it fits into a message.
const mostHeld = 50_000

// holding is such an answer, or the sum of them.
type holding struct {
	Consumers int      `json:"consumers,omitempty"`
	Pulls     int      `json:"pulls,omitempty"` // consumers that wait for messages
	Held      []uint64 `json:"held,omitempty"`  // by their numbers in the stream
}

const holdersPrefix = "motif.holders."

func (q *queue) holdersSubject() string { return holdersPrefix + q.token + "." + q.id }

// answerHolders has the driver answer in a session, as long as that lasts.
func (d *Driver) answerHolders(s *session) error {
	_, err := s.nc.Subscribe(holdersPrefix+"*.*", func(m *nats.Msg) {
		sum := holding{}
		for _, sub := range d.all() {
			sub.addHolding(&sum, s, m.Subject)
		}
		if sum.Consumers > 0 || len(sum.Held) > 0 {
			answer, _ := json.Marshal(sum)
			_ = m.Respond(answer)
		}
	})
	if err != nil {
		return s.sendError(err)
	}
	return nil
}

// addHolding adds what the subscription holds, if it is one to the queue of that subject.
func (s *subscription) addHolding(sum *holding, session *session, subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil || s.at.session != session || s.at.queue.holdersSubject() != subject {
		return
	}
	if s.err == nil {
		sum.Consumers++
		if s.at.asked > 0 {
			sum.Pulls++
		}
	}
	for h := range s.held {
		if h.at == s.at && len(sum.Held) < mostHeld {
			sum.Held = append(sum.Held, h.seq)
		}
	}
}

// depth is what a queue holds.
type depth struct {
	ready, unacked, consumers int

	held      map[uint64]bool // what is in hand, by its number in the stream
	settled   uint64          // all up to this number are
	delivered uint64          // all up to this number were
}

// behind is how long the consumer of a queue may say less than its stream holds: a server tells its
// consumers of a message once it has confirmed it, and in a cluster another server leads them.
const behind = 2 * time.Second

// depthOf looks how much a queue holds.
func (s *session) depthOf(ctx context.Context, q *queue) (d depth, err error) {
	if d, err = s.depthByConsumer(ctx, q); err != nil {
		return d, err
	}
	wait := kit.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for begun := time.Now(); ; {
		stored, err := s.stored(ctx, q)
		missing := stored - d.ready - d.unacked
		if err != nil || missing <= 0 {
			return d, err
		}
		if time.Since(begun) > behind {
			d.ready += missing // what the stream says is certain
			return d, nil
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return d, fmt.Errorf("jetstream: looking at queue %q: %w: %w", q.name, adapters.ErrUnavailable, ctx.Err())
		}
		if d, err = s.depthByConsumer(ctx, q); err != nil {
			return d, err
		}
	}
}

// stored returns how many messages the stream of a queue holds, by its leader, without those that
// are delayed.
func (s *session) stored(ctx context.Context, q *queue) (n int, err error) {
	info, err := s.js.subjects(ctx, q.stream(), q.messages())
	if err != nil {
		return 0, s.apiError("looking at queue "+q.name, err)
	}
	for _, some := range info.State.Subjects {
		n += int(min(some, 1<<31-1))
	}
	return n, nil
}

func (s *session) depthByConsumer(ctx context.Context, q *queue) (d depth, err error) {
	expected, err := s.consumerInfo(ctx, q)
	if err != nil {
		return d, err
	}
	d.held = map[uint64]bool{}
	if expected.NumAckPending > 0 || expected.NumWaiting > 0 {
		if d.consumers, err = s.askHolders(ctx, q, expected, d.held); err != nil {
			return d, err
		}
	}
	now, err := s.consumerInfo(ctx, q) // anew: what the holders had settled is not among it any more
	if err != nil {
		return d, err
	}
	d.unacked = min(len(d.held), now.NumAckPending)
	d.ready = int(min(now.NumPending, 1<<31-1)) + now.NumAckPending - d.unacked
	d.settled, d.delivered = now.AckFloor.Stream, now.Delivered.Stream
	return d, nil
}

func (s *session) consumerInfo(ctx context.Context, q *queue) (*jetstream.ConsumerInfo, error) {
	c, err := s.js.Consumer(ctx, q.stream(), q.consumer())
	if errors.Is(err, jetstream.ErrConsumerNotFound) && !q.private { // who made the queue has not come so far
		if err := s.makeConsumer(ctx, q); err != nil {
			return nil, err
		}
		c, err = s.js.Consumer(ctx, q.stream(), q.consumer())
	}
	if err != nil {
		return nil, s.apiError("looking at queue "+q.name, err)
	}
	return c.CachedInfo(), nil
}

// askHolders asks until as much is known to be held as the server expects, or nobody answers any
// more. It returns how many consumers there are.
func (s *session) askHolders(ctx context.Context, q *queue, expected *jetstream.ConsumerInfo, held map[uint64]bool) (consumers int, err error) {
	inbox, err := s.nc.SubscribeSync(newInbox())
	if err != nil {
		return 0, s.sendError(err)
	}
	defer inbox.Unsubscribe() //nolint:errcheck // it ends with the connection, else
	if err := s.nc.PublishRequest(q.holdersSubject(), inbox.Subject, nil); err != nil {
		return 0, s.sendError(err)
	}
	for pulls := 0; pulls < expected.NumWaiting || len(held) < expected.NumAckPending; {
		m, err := nextWithin(ctx, inbox, answerTime)
		switch {
		case ctx.Err() != nil, err != nil && !errors.Is(err, context.DeadlineExceeded):
			return 0, s.sendError(err)
		case err != nil:
			return consumers, nil // the rest was given back
		}
		var answer holding
		if json.Unmarshal(m.Data, &answer) != nil {
			continue
		}
		consumers += answer.Consumers
		pulls += answer.Pulls
		for _, seq := range answer.Held {
			held[seq] = true
		}
	}
	return consumers, nil
}

func nextWithin(ctx context.Context, inbox *nats.Subscription, most time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return inbox.NextMsgWithContext(ctx)
}
