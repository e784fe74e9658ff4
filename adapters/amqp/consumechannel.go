package amqp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// consumeChannel is a channel with one consumer. It reads deliveries and writes acknowledgements
// between amqp091's frames: amqp091 takes thirty allocations more for a message, and hands it
// through a goroutine of its own.
type consumeChannel struct {
	mux    *frame.Mux
	number uint16

	// deliveries has room for all that the broker sends before something is settled. It is never
	// closed.
	deliveries chan *incoming

	// unclaimed is how many messages have come in for a consumer that are not yet in its ledger:
	// those in deliveries, and what a receiver has just taken from there.
	unclaimed atomic.Int64

	empty     chan struct{}  // for get: receives when the queue is empty
	remaining int            // for get: how many messages are left behind the one that was got
	ended     func(error)    // for get: is told why the channel ended
	replies   *replyConsumer // receives the messages instead of deliveries, unless nil

	// Owned by the goroutine that reads: the message that is coming in.
	partial  *incoming
	header   []byte // of incoming.header, as far as it has come
	bodySize uint64 // of the body, in bytes

	mu       sync.Mutex
	closeErr error // set once nothing can be settled
}

// consume starts to consume. Deliveries are read here from the first on.
func (cc *consumeChannel) consume(ch *amqp091.Channel, queue, tag string, noAck bool, args amqp091.Table) error {
	cc.mux.AwaitTag(tag, func(number uint16) {
		cc.number = number
		cc.Closed(cc.mux.Attach(number, cc))
	})
	defer cc.mux.ForgetTag(tag)
	_, err := ch.Consume(queue, tag, noAck, false, false, false, args)
	return err
}

// close closes the channel. Nothing must be written to it afterwards.
func (cc *consumeChannel) close(ch *amqp091.Channel) {
	cc.mux.Detach(cc.number, cc, amqp091.ErrClosed)
	_ = ch.Close()
}

// Ack acknowledges a message, or all up to it.
func (cc *consumeChannel) Ack(tag uint64, multiple bool) error {
	flags := byte(0)
	if multiple {
		flags = 1
	}
	return cc.writeSettle(frame.MethodAck, tag, flags)
}

// Nack rejects or requeues a message, or all up to it.
func (cc *consumeChannel) Nack(tag uint64, multiple, requeue bool) error {
	flags := byte(0)
	if multiple {
		flags = 1
	}
	if requeue {
		flags |= 2
	}
	return cc.writeSettle(frame.MethodNack, tag, flags)
}

func (cc *consumeChannel) writeSettle(method uint32, tag uint64, flags byte) error {
	var space [32]byte
	b, at := frame.Begin(space[:0], frame.TypeMethod, cc.number)
	b = binary.BigEndian.AppendUint32(b, method)
	b = binary.BigEndian.AppendUint64(b, tag)
	return cc.write(frame.End(append(b, flags), at))
}

func (cc *consumeChannel) write(b []byte) error {
	cc.mu.Lock() // until it is written: a frame behind the end of a channel costs the connection
	defer cc.mu.Unlock()
	if cc.closeErr != nil {
		return cc.closeErr
	}
	return cc.mux.WriteFrames(b)
}

// HandleFrame handles the frames of deliveries, and returns false for any other frame.
func (cc *consumeChannel) HandleFrame(raw []byte) bool {
	content := raw[frame.HeadSize : len(raw)-1]
	switch in := cc.partial; {
	case raw[0] == frame.TypeMethod && frame.MethodOf(raw) == frame.MethodDeliver:
		b := content[4:]
		cc.begin(b[min(1+int(b[0]), len(b)):]) // without the consumer tag, for there is one consumer only
		return true
	case raw[0] == frame.TypeMethod && frame.MethodOf(raw) == frame.MethodGetOK:
		if rest := cc.begin(content[4:]); len(rest) >= 4 {
			cc.remaining = int(binary.BigEndian.Uint32(rest))
		}
		return true
	case raw[0] == frame.TypeMethod && frame.MethodOf(raw) == frame.MethodGetEmpty:
		select {
		case cc.empty <- struct{}{}:
		default:
		}
		return true
	case in == nil:
		return false
	case raw[0] == frame.TypeHeader && len(content) > 12:
		cc.bodySize = binary.BigEndian.Uint64(content[4:])
		cc.header = append(cc.header, content[12:]...)
		in.header = string(cc.header)
		in.message.Payload = make([]byte, 0, min(cc.bodySize, 1<<20)) // it grows as the body comes in
	case raw[0] == frame.TypeBody:
		in.message.Payload = append(in.message.Payload, content...)
	default:
		return false
	}
	if uint64(len(cc.partial.message.Payload)) >= cc.bodySize {
		cc.complete()
	}
	return true
}

// begin reads the start of a delivery, and returns what follows.
func (cc *consumeChannel) begin(b []byte) (rest []byte) {
	if len(b) < 9 {
		return nil
	}
	in := &incoming{tag: binary.BigEndian.Uint64(b), redelivered: b[8] != 0}
	cc.header = cc.header[:0]
	rest = b[9:]
	for i := 0; i < 2 && len(rest) > 0; i++ { // exchange and routing key
		n := min(1+int(rest[0]), len(rest))
		cc.header = append(cc.header, rest[:n]...)
		rest = rest[n:]
	}
	cc.partial = in
	return rest
}

// complete lets the message that has come in be received.
func (cc *consumeChannel) complete() {
	if cc.replies != nil {
		cc.replies.deliver(cc.partial)
		cc.partial = nil
		return
	}
	cc.unclaimed.Add(1)
	select {
	case cc.deliveries <- cc.partial:
	default:
		cc.mux.Abort(fmt.Errorf("amqp: the broker sends more than %d messages without an acknowledgement", cap(cc.deliveries)))
	}
	cc.partial = nil
}

// Closed lets nothing be settled any more.
func (cc *consumeChannel) Closed(why error) {
	cc.mu.Lock()
	first := cc.closeErr == nil && why != nil
	if first {
		cc.closeErr = why
	}
	cc.mu.Unlock()
	switch {
	case !first:
	case cc.replies != nil:
		cc.replies.closed(why)
	case cc.ended != nil:
		cc.ended(why)
	}
}
