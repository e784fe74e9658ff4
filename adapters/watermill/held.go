package watermill

import (
	"context"
	"fmt"
	"sync/atomic"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// held is a message in hand, and the Settler of its delivery.
type held struct {
	sub   *subscription
	m     *message.Message // the pair's
	state atomic.Uint32

	// ctx is the receiver's. It outlives the pair's own, which ends with the
	// settling; ending before that it means that the session is lost.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
}

const (
	inHand = iota
	settled
	abandoned // by Close
)

func newHeld(s *subscription, m *message.Message) *held {
	h := &held{sub: s, m: m}
	h.ctx, h.cancel = context.WithCancelCause(context.WithoutCancel(m.Context()))
	h.unhook = context.AfterFunc(m.Context(), func() { h.cancel(adapters.ErrSessionLost) })
	return h
}

// Settle implements [adapters.Settler]. Reject acks, for the message is to be
// gone, and is logged.
func (h *held) Settle(_ context.Context, o adapters.Outcome) error {
	d := h.sub.driver
	if o > adapters.Reject {
		return d.wrap("settle", fmt.Errorf("%w: %v", adapters.ErrInvalid, o))
	}
	if !h.state.CompareAndSwap(inHand, settled) {
		if h.state.Load() == abandoned {
			return adapters.ErrClosed
		}
		return nil
	}
	stale := h.m.Context().Err() != nil
	h.unhook()
	if o == adapters.Requeue {
		h.m.Nack()
	} else {
		h.m.Ack()
	}
	h.sub.leave(h)
	if stale { // what the pair was told then reaches nobody, or nobody else: it is bound to the message
		return d.wrap("settle", adapters.ErrStaleDelivery)
	}
	if o == adapters.Reject {
		d.cfg.Logger.Info("A message was rejected and is gone", wm.LogFields{"topic": h.sub.source.Name, "message_uuid": h.m.UUID})
	}
	return nil
}

// abandon gives the message back because the driver is closed.
func (h *held) abandon() {
	if h.state.CompareAndSwap(inHand, abandoned) {
		h.unhook()
		h.cancel(adapters.ErrClosed)
		h.m.Nack()
		<-h.sub.places
	}
}
