package amqp

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// frames is a connection as amqp091 has it: whole frames pass in both
// directions, so that a [pipe] or an [intake] can write its own between them, and what
// the broker says of those goes to it alone. What amqp091 does for each publish,
// confirm, delivery and acknowledgement costs several times as much.
//
// The channels are amqp091's: it opens and closes them. So is all else, from the
// login to the heartbeats.
type frames struct {
	*wire

	out     sync.Mutex
	partial []byte                          // the beginning of a frame that amqp091 is writing
	marks   map[string]func(channel uint16) // by the consumer tag that is waited for

	in      []byte // of the goroutine that reads; from first on it is not dealt with yet
	first   int
	pass    int          // bytes there, and of what follows, that are amqp091's
	moved   time.Time    // when the read deadline was
	farther atomic.Int64 // how far away it is then: a time.Duration; 0: there is none

	ending  sync.Mutex // held by who tells dealers of the end
	mu      sync.Mutex
	dealers map[uint16]dealer // by channel
	over    error             // why nothing more comes in
}

// dealer is a channel whose messages amqp091 does not see. The goroutine that
// reads calls it.
type dealer interface {
	// deal takes a frame, or returns false if it is amqp091's.
	deal(frame []byte) bool

	// end says that nothing more comes, and that nothing must be written. It may be
	// called several times.
	end(why error)
}

const readSize = 32 << 10

func newFrames(w *wire) *frames {
	return &frames{wire: w, marks: make(map[string]func(uint16)), dealers: make(map[uint16]dealer), in: make([]byte, 0, readSize)}
}

// protocolHeader is what a client says first; it is not a frame.
const protocolHeader = "AMQP"

// Write lets frames out once they are whole.
func (f *frames) Write(p []byte) (int, error) {
	f.out.Lock()
	defer f.out.Unlock()
	f.partial = append(f.partial, p...)
	whole := 0
	for {
		n := frameSize(f.partial[whole:])
		if n == 0 || n > len(f.partial)-whole {
			break
		}
		f.look(f.partial[whole : whole+n])
		whole += n
	}
	if whole == 0 {
		return len(p), nil
	}
	if _, err := f.wire.Write(f.partial[:whole]); err != nil {
		return 0, err
	}
	f.partial = append(f.partial[:0], f.partial[whole:]...)
	return len(p), nil
}

// frameSize is the size of the frame that b begins with, or 0 if b is too short
// to tell.
func frameSize(b []byte) int {
	switch {
	case len(b) >= len(protocolHeader) && string(b[:len(protocolHeader)]) == protocolHeader:
		return len(protocolHeader) + 4
	case len(b) < frameHead:
		return 0
	}
	return frameHead + int(binary.BigEndian.Uint32(b[3:])) + 1
}

// look finds out on which channel a mark is sent: amqp091 does not tell the
// number of a channel. The lock is held.
func (f *frames) look(frame []byte) {
	if len(f.marks) == 0 {
		return
	}
	r := fields{string(frame[min(frameHead+4, len(frame)):])}
	switch method(frame) {
	case methodConsume:
		r.take(2)
		r.short() // queue
	case methodCancel:
	default:
		return
	}
	if found := f.marks[r.short()]; found != nil {
		found(binary.BigEndian.Uint16(frame[1:]))
	}
}

// mark has found called before a frame with this consumer tag is sent.
func (f *frames) mark(tag string, found func(channel uint16)) {
	f.out.Lock()
	defer f.out.Unlock()
	f.marks[tag] = found
}

func (f *frames) unmark(tag string) {
	f.out.Lock()
	defer f.out.Unlock()
	delete(f.marks, tag)
}

// method returns class and method of a frame, or 0.
func method(frame []byte) uint32 {
	if frame[0] != frameMethod || len(frame) < frameHead+4 {
		return 0
	}
	return binary.BigEndian.Uint32(frame[frameHead:])
}

// number finds out the number of a channel.
func (f *frames) number(ch *amqp091.Channel) (n uint16, err error) {
	mark := "motif-" + rand.Text()
	f.mark(mark, func(number uint16) { n = number })
	defer f.unmark(mark)
	err = ch.Cancel(mark, false) // which nobody consumes with: the broker does not mind
	if err == nil && n == 0 {
		err = fmt.Errorf("amqp: %w: a channel without a number", adapters.ErrUnavailable)
	}
	return n, err
}

// attach gives a channel's frames to d.
func (f *frames) attach(channel uint16, d dealer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over != nil {
		return f.over
	}
	f.dealers[channel] = d
	return nil
}

// detach ends d, for a reason.
func (f *frames) detach(channel uint16, d dealer, why error) {
	f.mu.Lock()
	if f.dealers[channel] == d {
		delete(f.dealers, channel)
	}
	f.mu.Unlock()
	d.end(why)
}

// SetReadDeadline is how amqp091 gives up a broker that says nothing: after
// each frame that it reads.
func (f *frames) SetReadDeadline(t time.Time) error {
	far := time.Duration(0)
	if !t.IsZero() {
		far = time.Until(t)
	}
	f.farther.Store(int64(far))
	return f.wire.SetReadDeadline(t)
}

// heard moves the deadline for the frames that amqp091 does not see.
func (f *frames) heard() {
	far := time.Duration(f.farther.Load())
	if now := time.Now(); far > 0 && now.Sub(f.moved) > far/8 {
		f.moved = now
		_ = f.wire.SetReadDeadline(now.Add(far))
	}
}

// Read returns what is for amqp091.
func (f *frames) Read(p []byte) (int, error) {
	for {
		there := f.in[f.first:]
		switch {
		case len(there) > 0 && f.pass > 0:
			n := copy(p, there[:min(f.pass, len(there))])
			f.first, f.pass = f.first+n, f.pass-n
			return n, nil
		case f.pass == 0 && f.deal(there):
			continue
		}
		if err := f.fill(); err != nil {
			f.end(err)
			return 0, err
		}
	}
}

// fill reads more, behind what is there.
func (f *frames) fill() error {
	if f.first > 0 {
		f.in, f.first = f.in[:copy(f.in, f.in[f.first:])], 0
	}
	if len(f.in) == cap(f.in) { // one frame takes it all
		f.in = slices.Grow(f.in, cap(f.in))
	}
	n, err := f.wire.Read(f.in[len(f.in):cap(f.in)])
	f.in = f.in[:len(f.in)+n]
	if n > 0 {
		f.heard()
		return nil
	}
	return cmp.Or(err, io.ErrNoProgress)
}

// deal looks at what b begins with and decides whose it is, or returns false if
// it takes more of it to tell.
func (f *frames) deal(b []byte) bool {
	if len(b) < frameHead {
		return false
	}
	channel, size := binary.BigEndian.Uint16(b[1:]), frameSize(b)
	d := f.dealer(channel)
	switch {
	case size > maxFrame: // amqp091 finds that out, too
		f.pass = size
		return true
	case d == nil && channel != 0:
		f.pass = size
		return true
	case len(b) < size:
		return false
	}
	frame := b[:size]
	if d != nil && d.deal(frame) {
		f.first += size
		return true
	}
	f.pass = size
	switch method(frame) {
	case methodClose:
		if d != nil {
			f.detach(channel, d, closeReason(frame))
		}
	case methodConnClose:
		f.end(closeReason(frame))
	}
	return true
}

// maxFrame is more than a broker sends, which does not split headers: those of a publisher whose
// frames may be larger than ours come in one that is larger.
const maxFrame = 16 << 20

func (f *frames) dealer(channel uint16) dealer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dealers[channel]
}

// alive reports whether there is more to come in.
func (f *frames) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over == nil
}

// end is for when nothing more comes in. When it returns all dealers have been told,
// by whomever.
func (f *frames) end(why error) {
	f.ending.Lock()
	defer f.ending.Unlock()
	f.mu.Lock()
	if f.over == nil {
		f.over = why
	}
	dealers := slices.Collect(maps.Values(f.dealers))
	clear(f.dealers)
	f.mu.Unlock()
	for _, d := range dealers {
		d.end(why)
	}
}

// closing is what the broker says when it closes a channel or the connection.
type closing struct {
	err     *amqp091.Error
	method  uint32 // class and method of what it did not like, or 0
	channel bool   // and not the connection
}

func (c *closing) Error() string { return c.err.Error() }

func (c *closing) Unwrap() error { return c.err }

func closeReason(frame []byte) *closing {
	r := fields{string(frame[min(frameHead+4, len(frame)-1) : len(frame)-1])}
	c := &closing{err: &amqp091.Error{Server: true}, channel: method(frame) == methodClose}
	c.err.Code = int(r.uint(2))
	c.err.Reason = r.short()
	c.method = uint32(r.uint(4))
	return c
}
