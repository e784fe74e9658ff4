package amqp

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/rabbitmq/amqp091-go"
)

// intake is a channel that messages come in on, with one consumer. It reads
// them from between amqp091's frames, and writes acknowledgements there: amqp091 takes
// thirty allocations more for a message, and hands it through a goroutine
// of its own.
type intake struct {
	frames *frames
	number uint16

	// arrived has room for all that the broker sends before something is settled.
	// It is never closed.
	arrived chan *handed

	none   chan struct{} // of one that gets: has room for the word that there is nothing
	left   int           // and how many more there are behind what it got
	direct *replies      // what takes messages in place of arrived, or nil

	// Of the goroutine that reads: a message of which not all is here.
	coming *handed
	text   []byte // what becomes its text
	size   uint64 // of its body

	mu   sync.Mutex
	over error // why nothing is settled any more
}

// consume begins to consume, with messages coming in from here on.
func (in *intake) consume(ch *amqp091.Channel, queue, tag string, noAck bool, args amqp091.Table) error {
	in.frames.mark(tag, func(number uint16) {
		in.number = number
		in.end(in.frames.attach(number, in))
	})
	defer in.frames.unmark(tag)
	_, err := ch.Consume(queue, tag, noAck, false, false, false, args)
	return err
}

// close closes the channel. Nothing must be written to it afterwards.
func (in *intake) close(ch *amqp091.Channel) {
	in.frames.detach(in.number, in, amqp091.ErrClosed)
	_ = ch.Close()
}

// Ack tells the broker that a message is dealt with, or all up to it.
func (in *intake) Ack(tag uint64, multiple bool) error {
	flags := byte(0)
	if multiple {
		flags = 1
	}
	return in.settle(methodAck, tag, flags)
}

// Nack tells it that one was not, or all up to it.
func (in *intake) Nack(tag uint64, multiple, requeue bool) error {
	flags := byte(0)
	if multiple {
		flags = 1
	}
	if requeue {
		flags |= 2
	}
	return in.settle(methodNack, tag, flags)
}

func (in *intake) settle(method uint32, tag uint64, flags byte) error {
	var space [32]byte
	b, at := beginFrame(space[:0], frameMethod, in.number)
	b = binary.BigEndian.AppendUint32(b, method)
	b = binary.BigEndian.AppendUint64(b, tag)
	return in.write(endFrame(append(b, flags), at))
}

func (in *intake) write(b []byte) error {
	in.mu.Lock() // until it is written: behind the end of a channel it would cost the connection
	defer in.mu.Unlock()
	if in.over != nil {
		return in.over
	}
	_, err := in.frames.wire.Write(b)
	return err
}

// deal takes a frame of a delivery, or returns false if a frame is about
// something else.
func (in *intake) deal(frame []byte) bool {
	content := frame[frameHead : len(frame)-1]
	switch h := in.coming; {
	case frame[0] == frameMethod && method(frame) == methodDeliver:
		b := content[4:]
		in.begin(b[min(1+int(b[0]), len(b)):]) // without the tag of the consumer, which is the only one
		return true
	case frame[0] == frameMethod && method(frame) == methodGetOk:
		if rest := in.begin(content[4:]); len(rest) >= 4 {
			in.left = int(binary.BigEndian.Uint32(rest))
		}
		return true
	case frame[0] == frameMethod && method(frame) == methodGetEmpty:
		select {
		case in.none <- struct{}{}:
		default:
		}
		return true
	case h == nil:
		return false
	case frame[0] == frameHeader && len(content) > 12:
		in.size = binary.BigEndian.Uint64(content[4:])
		in.text = append(in.text, content[12:]...)
		h.text = string(in.text)
		h.message.Payload = make([]byte, 0, min(in.size, 1<<20)) // for more, once it comes
	case frame[0] == frameBody:
		h.message.Payload = append(h.message.Payload, content...)
	default:
		return false
	}
	if uint64(len(in.coming.message.Payload)) >= in.size {
		in.complete()
	}
	return true
}

// begin reads what comes first of a message, and returns what comes after that.
func (in *intake) begin(b []byte) (rest []byte) {
	if len(b) < 9 {
		return nil
	}
	h := &handed{tag: binary.BigEndian.Uint64(b), redelivered: b[8] != 0}
	in.text = in.text[:0]
	rest = b[9:]
	for i := 0; i < 2 && len(rest) > 0; i++ { // exchange and routing key
		n := min(1+int(rest[0]), len(rest))
		in.text = append(in.text, rest[:n]...)
		rest = rest[n:]
	}
	in.coming = h
	return rest
}

// complete lets a message be received.
func (in *intake) complete() {
	if in.direct != nil {
		in.direct.receive(in.coming)
		in.coming = nil
		return
	}
	select {
	case in.arrived <- in.coming:
	default:
		in.frames.fail(fmt.Errorf("amqp: the broker sends more than %d messages without an acknowledgement", cap(in.arrived)))
	}
	in.coming = nil
}

// end lets nothing be settled any more.
func (in *intake) end(why error) {
	in.mu.Lock()
	first := in.over == nil && why != nil
	if first {
		in.over = why
	}
	in.mu.Unlock()
	if first && in.direct != nil {
		in.direct.lose(why)
	}
}
