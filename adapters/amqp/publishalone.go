package amqp

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// The broker closes a channel for one publish that it does not like, and what is in flight there
// with it has no answer: it may be stored. So what the broker may not like goes alone:
//
//   - the first to an exchange on a channel, to which there may be no right to write;
//   - a message that is larger than all that the broker has taken in this session, for
//     which there may be a limit;
//   - what was in flight with one that was refused, and is sent again.
//
// Others wait meanwhile, so that the order of publishes stays. That takes as long as it takes the
// broker to come to it, not as long as its queues need to store it: a question follows the
// publish on its channel, and the answer to that says that the channel is still there.

// aloneTimeout is how long what goes alone waits for the answers to those before it, some of which
// may be for queues that do not answer. Then it goes all the same.
const aloneTimeout = time.Second

// waitTurn waits until o may be sent, and reports whether it goes alone. The lock is held, but not
// while it waits.
func (pc *publishChannel) waitTurn(ctx context.Context, o *outgoing) (alone bool, err error) {
	for {
		switch {
		case pc.closeErr != nil || pc.draining:
			return false, fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, errChannelClosed)
		case pc.held != nil:
			if err := pc.waitUnlocked(ctx, pc.held, nil); err != nil {
				return false, err
			}
		case !o.alone && pc.hasAccepted(o): // nearly always
			return false, nil
		default:
			return pc.holdOthers(ctx)
		}
	}
}

// hasAccepted reports whether the broker has taken a message like o: through its exchange on this
// channel, and as large as it. The lock is held.
func (pc *publishChannel) hasAccepted(o *outgoing) bool {
	_, ok := pc.accepted[o.exchange]
	return ok && int64(len(o.message.Payload)) <= pc.conn.largestTaken.Load()
}

// holdOthers lets nobody else send, and waits until nothing is in flight.
func (pc *publishChannel) holdOthers(ctx context.Context) (alone bool, err error) {
	pc.held = make(chan struct{})
	if empty := pc.whenDrained(); empty != nil {
		timer := time.NewTimer(aloneTimeout)
		defer timer.Stop()
		err = pc.waitUnlocked(ctx, empty, timer.C)
	}
	switch {
	case err != nil:
	case pc.closeErr != nil || pc.draining:
		err = fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, errChannelClosed)
	default:
		return true, nil
	}
	pc.releaseOthers(true)
	return false, err
}

// waitUnlocked waits without the lock.
func (pc *publishChannel) waitUnlocked(ctx context.Context, until <-chan struct{}, atMost <-chan time.Time) error {
	pc.mu.Unlock()
	defer pc.mu.Lock()
	select {
	case <-until:
	case <-atMost:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// releaseOthers lets others send again. The lock is held.
func (pc *publishChannel) releaseOthers(again bool) {
	if again && pc.held != nil {
		close(pc.held)
		pc.held = nil
	}
}

// probeTag is the tag of a consumer that there is none of. To cancel it does nothing, and is answered.
const probeTag = "motif-ping"

func appendProbe(b []byte, channel uint16) []byte {
	b, at := frame.Begin(b, frame.TypeMethod, channel)
	b = binary.BigEndian.AppendUint32(b, frame.MethodCancel)
	return frame.End(append(frame.AppendShort(b, probeTag), 0), at)
}

// probeAnswered is for when the broker has come to what went alone, and has nothing against it.
func (pc *publishChannel) probeAnswered() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.accepted[pc.sentAlone.exchange] = struct{}{}
	if size := int64(pc.sentAlone.size); size > pc.conn.largestTaken.Load() { // only this link's reader writes it
		pc.conn.largestTaken.Store(size)
	}
	pc.releaseOthers(true)
}
