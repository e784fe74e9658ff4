package amqp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// publishChannel is a channel in confirm mode. Many goroutines publish on it at the same time, and
// each publish gets its own confirm: see confirms.go.
type publishChannel struct {
	driver   *Driver
	conn     *connection
	ch       *amqp091.Channel
	mux      *frame.Mux
	number   uint16
	frameMax int // in bytes

	mu         sync.Mutex
	closeErr   error               // set once nothing more can be sent
	trusted    time.Time           // until when its nacks are believed
	draining   bool                // nothing more is sent, and the channel is closed once all is confirmed
	drained    chan struct{}       // closed once nothing is pending; nil if nobody waits for that
	held       chan struct{}       // closed when others may send again; nil if they may: see publishalone.go
	sentAlone  pendingPublish      // what was last sent alone
	accepted   map[string]struct{} // exchanges that have accepted a message
	buf        []byte              // the frames being sent
	oldest     uint64              // the lowest tag without a confirm; tags count from 1
	next       uint64              // the tag of the next publish
	pending    []pendingPublish
	pendingIDs map[string]int // mandatory publishes that are pending, by message id
	returnSeq  uint64

	resolved []resolvedPublish // owned by the goroutine that reads
}

// maxKeptPublishBuffer is the largest capacity of a buffer that is kept for the next message.
const maxKeptPublishBuffer = 2 * netio.LargeMessage

// nackTrustTime is the age after which a channel's nacks are not trusted. When the node of a quorum
// queue's leader has just died, a new channel can be told that the queue takes nothing, and
// RabbitMQ 3.10 then never tells that channel anything else, although the queue has a new leader. A
// channel that is opened later is told the truth.
//
// Such a channel is replaced once all that is pending on it has its confirm, so that publishes stay
// in order. Where that takes longer than aloneTimeout, because a queue does not answer, the others
// do not wait for it: the channel is used further, and trusted for resumeTime.
const (
	nackTrustTime = 2 * time.Second
	resumeTime    = 30 * time.Second
)

// errChannelClosed is wrapped by the error of a publish that was not sent because its channel is
// gone.
var errChannelClosed = errors.New("the channel is closed")

func (conn *connection) newPublishChannel() (*publishChannel, error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return nil, err
	}
	pc := &publishChannel{
		driver: conn.supervisor.driver, conn: conn, ch: ch, mux: conn.mux, frameMax: conn.amqp.Config.FrameSize, trusted: time.Now().Add(nackTrustTime),
		oldest: 1, next: 1, pending: make([]pendingPublish, 64), pendingIDs: make(map[string]int), accepted: make(map[string]struct{}),
	}
	if pc.number, err = conn.mux.ChannelNumber(ch); err == nil {
		if err = ch.Confirm(false); err == nil {
			err = conn.mux.Attach(pc.number, pc)
		}
	}
	if err != nil {
		_ = ch.Close()
		return nil, err
	}
	return pc, nil
}

func (pc *publishChannel) close() {
	pc.mux.Detach(pc.number, pc, adapters.ErrClosed)
	_ = pc.ch.Close()
}

func (pc *publishChannel) isClosed() bool {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	return pc.closeErr != nil || pc.draining
}

// drain lets nothing more be sent. What is pending still gets its confirms.
func (pc *publishChannel) drain() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.draining = true
}

// awaitDrained waits until everything on a channel that sends no more has its confirm, so that what
// is sent on the next channel comes after it. The response to a probe must have come, too, for
// amqp091 would not understand it.
func (pc *publishChannel) awaitDrained(ctx context.Context) error {
	for {
		pc.mu.Lock()
		wait := pc.whenDrained()
		if pc.held != nil {
			wait = pc.held
		}
		pc.mu.Unlock()
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// resume lets more be sent on a draining channel, and reports whether it can be.
func (pc *publishChannel) resume() bool {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.closeErr != nil || pc.oldest == pc.next {
		return false
	}
	pc.draining, pc.trusted = false, time.Now().Add(resumeTime)
	return true
}

// whenDrained returns a channel that is closed once nothing is pending, or nil if nothing is. pc.mu
// is held, and nothing more must be sent.
func (pc *publishChannel) whenDrained() <-chan struct{} {
	if pc.oldest == pc.next {
		return nil
	}
	if pc.drained == nil {
		pc.drained = make(chan struct{})
	}
	return pc.drained
}

// signalDrained wakes those who wait until nothing is pending. pc.mu is held.
func (pc *publishChannel) signalDrained() {
	if pc.drained != nil && pc.oldest == pc.next {
		close(pc.drained)
		pc.drained = nil
	}
}

// send sends a message, and has done called with its confirm: once, by the goroutine that reads. An
// error means that the broker does not have the message, whose frames did not all leave, and that
// done is not called. Where a message goes alone, send waits for that as long as ctx allows.
func (pc *publishChannel) send(ctx context.Context, o *outgoing, done func(error)) error {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	alone, err := pc.waitTurn(ctx, o)
	if err != nil {
		return err
	}
	if err := pc.write(o, done, alone); err != nil {
		pc.releaseOthers(alone)
		return err
	}
	return nil
}

// write is send once it is o's turn. pc.mu is held.
func (pc *publishChannel) write(o *outgoing, done func(error), alone bool) error {
	pub := pendingPublish{done: done, exchange: o.exchange, key: o.key, size: len(o.message.Payload), mandatory: o.p.Mandatory}
	if pub.mandatory {
		pub.returnKey = pc.returnKey(o.message.UUID)
	}
	buf, parts, err := o.appendTo(pc.buf[:0], pc.number, pub.returnKey.seq, pc.frameMax)
	if err != nil {
		return err
	}
	if alone {
		buf, pc.sentAlone = appendProbe(buf, pc.number), pub
	}
	if pc.buf = buf; parts != nil {
		pc.buf = parts[0] // which buf is the end of
	}
	if cap(pc.buf) > maxKeptPublishBuffer {
		pc.buf = nil
	}
	if pc.next-pc.oldest == uint64(len(pc.pending)) {
		pc.grow()
	}
	published := func(error) {}
	if o.delayUnits > 0 {
		published = pc.driver.expectDelayed(o)
		pub.done = func(err error) { published(err); done(err) }
	}
	if parts != nil { // either way it goes between two of amqp091's frames
		o.lent, err = pc.mux.Lend(append(parts, buf)...)
	} else {
		err = pc.mux.WriteFrames(buf)
	}
	if err != nil {
		published(err)
		return err
	}
	if pub.mandatory {
		pc.pendingIDs[pub.returnKey.id]++
	}
	*pc.at(pc.next) = pub
	pc.next++
	return nil
}

func (pc *publishChannel) at(tag uint64) *pendingPublish {
	return &pc.pending[tag%uint64(len(pc.pending))]
}

// grow makes room for twice as many pending publishes.
func (pc *publishChannel) grow() {
	more := make([]pendingPublish, 2*len(pc.pending))
	for tag := pc.oldest; tag < pc.next; tag++ {
		more[tag%uint64(len(more))] = *pc.at(tag)
	}
	pc.pending = more
}
