package jetstream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// What the server is told of a message.
var (
	ackDone     = []byte("+ACK")
	ackRequeue  = []byte("-NAK")
	ackProgress = []byte("+WPI")
)

// delivery is a message that is held, or was.
type delivery struct {
	at      *attachment
	reply   string // where to settle it
	seq     uint64 // in the stream
	arrived uint64 // its place among all deliveries of the driver

	envelope envelope
	payload  []byte
	returned int
	expires  time.Time // zero = never

	// Guarded by the subscription's mutex:
	touched time.Time // when the server last knew that it is held
	settled bool
}

var arrivals atomic.Uint64

func (at *attachment) newDelivery(m *nats.Msg) (*delivery, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, err
	}
	h := &delivery{at: at, reply: m.Reply, seq: meta.Sequence.Stream, arrived: arrivals.Add(1), touched: time.Now(), returned: int(min(meta.NumDelivered, 1<<30)) - 1}
	h.envelope, h.payload = decode(m)
	h.expires = h.envelope.expires(meta.Timestamp, at.queue.spec.MessageTTL)
	return h, nil
}

func (h *delivery) isExpired() bool { return !h.expires.IsZero() && !time.Now().Before(h.expires) }

// deliver returns what the receiver gets.
func (h *delivery) deliver() adapters.Delivery {
	d := h.envelope.delivery(h.payload)
	d.Message.SetContext(h.at.ctx)
	d.Redelivered, d.Returned, d.Settler = h.returned > 0, h.returned, h
	return d
}

// isLost reports whether the session has ended that delivered the message, or its queue was
// deleted.
func (h *delivery) isLost() bool { return h.at.over || h.at.session.ctx.Err() != nil }

func (h *delivery) touch(now time.Time) {
	h.at.sub.mu.Lock()
	defer h.at.sub.mu.Unlock()
	h.touched = now
}

// inHand returns what the subscription holds in a session.
func (s *subscription) inHand(session *session) (held []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.held {
		if h.at.session == session {
			held = append(held, h)
		}
	}
	return held
}

// Settle implements [adapters.Settler].
func (h *delivery) Settle(ctx context.Context, o adapters.Outcome) error {
	if o > adapters.Reject {
		return fmt.Errorf("jetstream: settle: %w: %s", adapters.ErrInvalid, o)
	}
	if first, err := h.claim(ctx); !first {
		return err
	}
	if o == adapters.Requeue {
		return h.requeue(ctx, ackRequeue)
	}
	s, err := h.at.sub, error(nil)
	if o == adapters.Reject && h.at.queue.spec.DeadLetter != "" {
		err = h.toDeadLetters(ctx)
	}
	s.mu.Lock()
	if err == nil {
		err = h.settle(ackDone) // also for Reject: what is to be kept is among the dead letters by now
	}
	if err != nil {
		h.settled = false
		if gone := h.cannotSettle(context.WithoutCancel(ctx)); gone != nil {
			err = gone
		}
	}
	isLast := s.err != nil && len(s.held) == 0
	s.mu.Unlock()
	if isLast {
		s.forget()
	}
	return err
}

// claim reports whether the message is settled for the first time, and may be.
func (h *delivery) claim(ctx context.Context) (first bool, err error) {
	s := h.at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := h.cannotSettle(ctx); err != nil || h.settled {
		return false, err
	}
	h.settled = true
	return true, nil
}

// requeue gives the message back with a word that says so. Only once the server has it is there
// room for another, or what is asked for next might be the one behind it.
func (h *delivery) requeue(ctx context.Context, word []byte) error {
	s := h.at.sub
	if h.at.gets {
		s.d.noteRequeued(h)
	}
	back := make(chan struct{})
	err := h.at.session.request(&nats.Msg{Subject: h.reply, Data: word}, func(*nats.Msg, error) {
		s.mu.Lock()
		delete(s.held, h)
		h.at.pull()
		isLast := s.err != nil && len(s.held) == 0
		s.mu.Unlock()
		if isLast {
			s.forget()
		}
		close(back)
	})
	if err != nil {
		return adapters.ErrStaleDelivery
	}
	if h.at.gets { // it is in the queue when this returns
		select {
		case <-back:
		case <-ctx.Done(): // and soon, in any case
		case <-s.d.tasks.Closed():
		}
	}
	return nil
}

// cannotSettle returns why the message cannot be settled. The subscription's mutex is held, here
// and below.
func (h *delivery) cannotSettle(ctx context.Context) error {
	switch {
	case h.at.sub.d.tasks.IsClosed():
		return adapters.ErrClosed
	case h.isLost():
		return adapters.ErrStaleDelivery
	case ctx.Err() != nil:
		return fmt.Errorf("jetstream: settle: %w", ctx.Err())
	}
	return nil
}

// settle tells the server, and makes room.
func (h *delivery) settle(word []byte) error {
	if err := h.at.session.nc.Publish(h.reply, word); err != nil {
		return adapters.ErrStaleDelivery
	}
	delete(h.at.sub.held, h)
	h.at.pull()
	return nil
}

// expire takes the message, which is held, out of its queue.
func (h *delivery) expire() {
	h.settled = true
	if h.at.queue.spec.DeadLetter == "" {
		_ = h.settle(ackDone)
		return
	}
	done := func(err error) {
		s := h.at.sub
		s.d.tasks.Go(func() { // maybe called with the mutex held
			word := ackDone
			if err != nil {
				word = h.ackLater()
				s.d.warn("jetstream: an expired message did not become a dead letter", "queue", h.at.queue.name, "error", err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, held := s.held[h]; held && !h.isLost() { // else it has gone back
				_ = h.settle(word)
			}
		})
	}
	if err := h.sendDeadLetter(diedExpired, done); err != nil {
		done(err)
	}
}

// tryLater gives the message back, to come again after a pause.
func (h *delivery) tryLater(ctx context.Context) error {
	if first, err := h.claim(ctx); !first {
		return err
	}
	return h.requeue(ctx, h.ackLater())
}

// ackLater is what the server is told of a message to try again, but not at once: each time it
// waits for longer, up to a minute.
func (h *delivery) ackLater() []byte {
	pause := min(100*time.Millisecond<<min(h.returned, 10), time.Minute)
	return fmt.Appendf(nil, `%s {"delay":%d}`, ackRequeue, pause)
}
