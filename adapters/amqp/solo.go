package amqp

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
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

// landingTime is how long what goes alone waits for the answers to those before it, some of which
// may be for queues that do not answer. Then it goes all the same.
const landingTime = time.Second

// turn waits until o may be sent, and reports whether it goes alone. The lock is held, but not
// while it waits.
func (p *pipe) turn(ctx context.Context, o *outgoing) (alone bool, err error) {
	for {
		switch {
		case p.over != nil || p.worn:
			return false, fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, errPipeOver)
		case p.solo != nil:
			if err := p.wait(ctx, p.solo, nil); err != nil {
				return false, err
			}
		case !o.alone && p.hasTaken(o): // nearly always
			return false, nil
		default:
			return p.goAlone(ctx)
		}
	}
}

// hasTaken reports whether the broker has taken a message like o: through its exchange on this
// channel, and as large as it. The lock is held.
func (p *pipe) hasTaken(o *outgoing) bool {
	_, ok := p.taken[o.exchange]
	return ok && int64(len(o.message.Payload)) <= p.conn.largestTaken.Load()
}

// goAlone lets nobody else send, and waits until nothing is in flight.
func (p *pipe) goAlone(ctx context.Context) (alone bool, err error) {
	p.solo = make(chan struct{})
	if empty := p.landing(); empty != nil {
		timer := time.NewTimer(landingTime)
		defer timer.Stop()
		err = p.wait(ctx, empty, timer.C)
	}
	switch {
	case err != nil:
	case p.over != nil || p.worn:
		err = fmt.Errorf("amqp: %w: %w", adapters.ErrUnavailable, errPipeOver)
	default:
		return true, nil
	}
	p.othersToo(true)
	return false, err
}

// wait waits without the lock.
func (p *pipe) wait(ctx context.Context, until <-chan struct{}, atMost <-chan time.Time) error {
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-until:
	case <-atMost:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// othersToo lets others send again. The lock is held.
func (p *pipe) othersToo(again bool) {
	if again && p.solo != nil {
		close(p.solo)
		p.solo = nil
	}
}

// ping is the tag of a consumer that there is none of. To cancel it does nothing, and is answered.
const ping = "motif-ping"

func appendPing(b []byte, channel uint16) []byte {
	b, at := beginFrame(b, frameMethod, channel)
	b = binary.BigEndian.AppendUint32(b, methodCancel)
	return endFrame(append(appendShort(b, ping), 0), at)
}

// pong is for when the broker has come to what went alone, and has nothing against it.
func (p *pipe) pong() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[p.sent.exchange] = struct{}{}
	if size := int64(p.sent.size); size > p.conn.largestTaken.Load() { // only this link's reader writes it
		p.conn.largestTaken.Store(size)
	}
	p.othersToo(true)
}
