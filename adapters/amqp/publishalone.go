package amqp

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// The broker closes a channel for one publish that it refuses. Everything else pending on it is
// then unconfirmed: it may have been stored. So what may be refused goes alone:
//
//   - the first message to an exchange on a channel, which the user may have no right to write to;
//   - a message larger than any that the broker has accepted on this connection, for there may be a
//     limit;
//   - a message that was pending together with a refused one, and is sent again.
//
// Others wait meanwhile, so that publishes stay in order. They wait until the broker has processed
// the publish, not until its queues have stored it: a probe follows on the channel, and the answer
// to it shows that the channel is still open.

// aloneTimeout is how long a message that goes alone waits for the confirms of those before it,
// some of which may be for queues that do not answer. Then it goes all the same.
const aloneTimeout = time.Second

// waitTurn waits until o may be sent, and reports whether it goes alone. pc.mu is held, but not
// during the wait.
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

// hasAccepted reports whether the broker has accepted a message like o: to the same exchange on
// this channel, and at least as large. pc.mu is held.
func (pc *publishChannel) hasAccepted(o *outgoing) bool {
	_, ok := pc.accepted[o.exchange]
	return ok && int64(len(o.message.Payload)) <= pc.conn.largestTaken.Load()
}

// holdOthers keeps others from sending, and waits until nothing is pending.
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

// waitUnlocked waits without holding pc.mu.
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

// releaseOthers lets others send again. pc.mu is held.
func (pc *publishChannel) releaseOthers(again bool) {
	if again && pc.held != nil {
		close(pc.held)
		pc.held = nil
	}
}

// probeTag is the tag of a consumer that does not exist. The broker answers when it is cancelled,
// and nothing else happens.
const probeTag = "motif-ping"

func appendProbe(b []byte, channel uint16) []byte {
	b, at := frame.Begin(b, frame.TypeMethod, channel)
	b = binary.BigEndian.AppendUint32(b, frame.MethodCancel)
	return frame.End(append(frame.AppendShort(b, probeTag), 0), at)
}

// probeAnswered handles the response to a probe: the broker has accepted what went alone.
func (pc *publishChannel) probeAnswered() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.accepted[pc.sentAlone.exchange] = struct{}{}
	if size := int64(pc.sentAlone.size); size > pc.conn.largestTaken.Load() { // only the goroutine that reads this connection writes it
		pc.conn.largestTaken.Store(size)
	}
	pc.releaseOthers(true)
}
