package watermill

import (
	"context"
	"fmt"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// held is a message that was received, and the Settler of its delivery.
type held struct {
	sub *subscription
	m   *message.Message // the pair's

	// ctx is the receiver's. It outlives the pair's, which ends once the pair
	// has dealt with the settling; if it ends before, the session is lost.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
	tells  bool // the pair's context is the message's own, so that its end means something

	// Under the subscription's lock:
	settled bool // by the receiver, or by Close
	ended   bool // the pair's context
}

// newHeld needs the subscription's lock.
func newHeld(s *subscription, m *message.Message) *held {
	h := &held{sub: s, m: m}
	done := m.Context().Done()
	h.tells = done != nil && done != s.life.Done()
	h.ctx, h.cancel = context.WithCancelCause(context.WithoutCancel(m.Context()))
	h.unhook = context.AfterFunc(m.Context(), h.end)
	return h
}

// end is called when the pair's context has ended.
func (h *held) end() {
	s := h.sub
	s.mu.Lock()
	h.ended = true
	lost := !h.settled
	s.mu.Unlock()
	if lost {
		h.cancel(adapters.ErrSessionLost)
	}
	s.tidy(h)
}

// Settle implements [adapters.Settler]. Reject acks and logs, because the message is to be gone.
func (h *held) Settle(_ context.Context, o adapters.Outcome) error {
	s, d := h.sub, h.sub.driver
	if o > adapters.Reject {
		return d.wrap("settle", fmt.Errorf("%w: %v", adapters.ErrInvalid, o))
	}
	s.mu.Lock()
	late := h.settled
	if !late {
		h.settled = true
		s.unsettled--
	}
	s.mu.Unlock()
	if late {
		select {
		case <-d.tasks.Closed():
			return adapters.ErrClosed
		default:
			return nil
		}
	}
	// What a pair is told after it lost the session has no effect, because it is bound to the
	// message. But the pair may be waiting for it.
	stale := h.m.Context().Err() != nil
	h.report(o)
	switch {
	case stale:
		return d.wrap("settle", adapters.ErrStaleDelivery)
	case o == adapters.Reject:
		d.cfg.Logger.Info("A message was rejected and is gone", wm.LogFields{"topic": s.source.Name, "message_uuid": h.m.UUID})
	}
	return nil
}

// abandon gives the message back because the driver is closed.
func (h *held) abandon() {
	h.cancel(adapters.ErrClosed)
	h.report(adapters.Requeue)
}

// report acks or nacks the pair's message.
func (h *held) report(o adapters.Outcome) {
	if !h.tells {
		h.unhook()
	}
	if o == adapters.Requeue {
		h.m.Nack()
	} else {
		h.m.Ack()
	}
	<-h.sub.places
	h.sub.tidy(h)
}
