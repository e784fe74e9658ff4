package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Get implements [adapters.Getter]. Remaining may be short of what was confirmed a moment ago.
func (d *Driver) Get(ctx context.Context, s adapters.Source) (got adapters.Delivery, err error) {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: get"), s.ValidateGet(), features.Require(s.Needs())); err != nil {
		return got, err
	}
	session, err := d.live(ctx)
	if err != nil {
		return got, d.tasks.Explain(ctx, err)
	}
	q, err := d.declare(ctx, session, s)
	if err != nil {
		return got, d.tasks.Explain(ctx, err)
	}
	got, err = d.get(ctx, session, s, q)
	return got, d.tasks.Explain(ctx, err)
}

// get takes the first message that has not expired. A server may not know yet of what it has
// confirmed, and say that nothing waits: it is asked again as long as the stream holds more than is
// in hand.
func (d *Driver) get(ctx context.Context, session *session, s adapters.Source, q *queue) (got adapters.Delivery, err error) {
	question, _ := json.Marshal(map[string]any{"batch": 1, "no_wait": true})
	holder := d.holder(session, s, q)
	wait := kit.Backoff{Min: time.Millisecond, Max: 100 * time.Millisecond}
	for begun := time.Now(); ; {
		m, err := session.next(ctx, q, question)
		if err != nil {
			return got, err
		}
		switch status := m.Header.Get("Status"); {
		case status == "404" || status == "408":
			if status == "404" {
				d.noneRequeued(q)
			}
			if none, err := session.nothingWaits(ctx, q); err != nil {
				return got, err
			} else if none || time.Since(begun) > behind {
				return got, adapters.ErrEmpty
			}
			select {
			case <-time.After(wait.Next()):
			case <-ctx.Done():
				return got, fmt.Errorf("jetstream: get: %w: %w", adapters.ErrUnavailable, ctx.Err())
			}
			continue
		case status != "" && len(m.Data) == 0:
			return got, fmt.Errorf("jetstream: get: %w: the server says %s %s", adapters.ErrUnavailable, status, m.Header.Get("Description"))
		}
		h, err := holder.at.newDelivery(m)
		if err != nil {
			return got, fmt.Errorf("jetstream: get: %w: %w", adapters.ErrUnavailable, err)
		}
		holder.mu.Lock()
		holder.held[h] = struct{}{}
		expired := h.isExpired()
		if expired {
			h.expire()
		}
		holder.mu.Unlock()
		if expired {
			continue
		}
		d.mu.Lock()
		d.subs[holder] = struct{}{}
		d.mu.Unlock()
		got = h.deliver()
		meta, _ := m.Metadata()
		got.Remaining = int(min(meta.NumPending, 1<<31-1)) + d.stillRequeued(h)
		return got, nil
	}
}

// nothingWaits reports whether all that the stream of a queue holds is in hand, or was given back.
func (s *session) nothingWaits(ctx context.Context, q *queue) (bool, error) {
	stored, err := s.stored(ctx, q)
	if err != nil || stored == 0 {
		return stored == 0, err
	}
	info, err := s.consumerInfo(ctx, q)
	if err != nil {
		return false, err
	}
	return stored <= info.NumAckPending, nil
}

// holder returns a subscription that has been stopped, for what Get takes.
func (d *Driver) holder(session *session, s adapters.Source, q *queue) *subscription {
	s.Prefetch = 0
	holder := newSubscription(d, s)
	holder.err = adapters.ErrStopped
	close(holder.over)
	holder.at = &attachment{sub: holder, session: session, queue: q, ctx: session.ctx, gone: make(chan struct{}), leave: func() {}, heard: time.Now(), closed: true, gets: true}
	return holder
}

// requeued is what this driver took by Get from a queue, and requeued: the server does not count it
// among what waits.
type requeued struct {
	seqs    map[uint64]struct{}
	settled uint64 // up to here there is none
}

// mostRequeued is of how many such messages a driver knows at most.
const mostRequeued = 50_000

// noteRequeued notes that what Get took goes back, see stillRequeued.
func (d *Driver) noteRequeued(h *delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := 0
	for _, r := range d.requeued {
		all += len(r.seqs)
	}
	if all >= mostRequeued {
		clear(d.requeued) // others have settled most of it: what comes here again is taken out
	}
	r := d.requeued[h.at.queue.id]
	if r == nil {
		r = &requeued{seqs: map[uint64]struct{}{}}
		d.requeued[h.at.queue.id] = r
	}
	r.seqs[h.seq] = struct{}{}
}

// noneRequeued is told that nothing waits in a queue.
func (d *Driver) noneRequeued(q *queue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.requeued, q.id)
}

// stillRequeued returns how many of the messages that this driver took by Get, and requeued, may
// wait, since h is not one of them any more.
func (d *Driver) stillRequeued(h *delivery) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := h.at.queue
	r := d.requeued[q.id]
	if r == nil {
		return 0
	}
	delete(r.seqs, h.seq)
	if r.settled < q.settled {
		r.settled = q.settled
		maps.DeleteFunc(r.seqs, func(seq uint64, _ struct{}) bool { return seq <= q.settled })
	}
	if len(r.seqs) == 0 {
		delete(d.requeued, q.id)
	}
	return len(r.seqs)
}

// next sends a pull, and returns what comes first. A message keeps its subject, so that each takes
// an inbox of its own.
func (s *session) next(ctx context.Context, q *queue, question []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ctx, done := s.refusable(ctx, nextSubject(q))
	defer done()
	inbox, err := s.nc.SubscribeSync(newInbox())
	if err != nil {
		return nil, s.sendError(err)
	}
	defer inbox.Unsubscribe() //nolint:errcheck // it ends with the connection, else
	if err := s.nc.PublishRequest(nextSubject(q), inbox.Subject, question); err != nil {
		return nil, s.sendError(err)
	}
	m, err := inbox.NextMsgWithContext(ctx)
	if err != nil {
		return nil, cmp.Or(refusal(ctx), fmt.Errorf("jetstream: get: %w: %w", adapters.ErrUnavailable, err))
	}
	return m, nil
}
