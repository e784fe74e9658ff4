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

// frameMux is a connection as amqp091 has it: whole frames pass in both
// directions, so that a [publishChannel] or an [consumeChannel] can write its own between them, and what
// the broker says of those goes to it alone. What amqp091 does for each publish,
// confirm, delivery and acknowledgement costs several times as much.
//
// The channels are amqp091's: it opens and closes them. So is all else, from the
// login to the heartbeats.
type frameMux struct {
	*coalescingConn

	writeMu    sync.Mutex
	partial    []byte                          // the beginning of a frame that amqp091 is writing
	tagWaiters map[string]func(channel uint16) // by the consumer tag that is waited for

	buf         []byte // of the goroutine that reads; from first on it is not dealt with yet
	off         int
	passThrough int          // bytes there, and of what follows, that are amqp091's
	deadlineSet time.Time    // when the read deadline was
	readTimeout atomic.Int64 // how far away it is then: a time.Duration; 0: there is none

	closeMu  sync.Mutex // held by who tells dealers of the end
	mu       sync.Mutex
	handlers map[uint16]frameHandler // by channel
	closeErr error                   // why nothing more comes in
}

// frameHandler is a channel whose messages amqp091 does not see. The goroutine that
// reads calls it.
type frameHandler interface {
	// handleFrame takes a frame, or returns false if it is amqp091's.
	handleFrame(frame []byte) bool

	// closed says that nothing more comes, and that nothing must be written. It may be
	// called several times.
	closed(why error)
}

const readSize = 32 << 10

func newFrameMux(c *coalescingConn) *frameMux {
	return &frameMux{coalescingConn: c, tagWaiters: make(map[string]func(uint16)), handlers: make(map[uint16]frameHandler), buf: make([]byte, 0, readSize)}
}

// protocolHeader is what a client says first; it is not a frame.
const protocolHeader = "AMQP"

// Write lets frames out once they are whole.
func (mux *frameMux) Write(p []byte) (int, error) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	mux.partial = append(mux.partial, p...)
	whole := 0
	for {
		n := frameSize(mux.partial[whole:])
		if n == 0 || n > len(mux.partial)-whole {
			break
		}
		mux.noteConsumerTag(mux.partial[whole : whole+n])
		whole += n
	}
	if whole == 0 {
		return len(p), nil
	}
	if _, err := mux.coalescingConn.Write(mux.partial[:whole]); err != nil {
		return 0, err
	}
	mux.partial = append(mux.partial[:0], mux.partial[whole:]...)
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

// noteConsumerTag finds out on which channel a mark is sent: amqp091 does not tell the
// number of a channel. The lock is held.
func (mux *frameMux) noteConsumerTag(frame []byte) {
	if len(mux.tagWaiters) == 0 {
		return
	}
	r := fieldReader{string(frame[min(frameHead+4, len(frame)):])}
	switch methodOf(frame) {
	case methodConsume:
		r.next(2)
		r.shortString() // queue
	case methodCancel:
	default:
		return
	}
	if found := mux.tagWaiters[r.shortString()]; found != nil {
		found(binary.BigEndian.Uint16(frame[1:]))
	}
}

// awaitTag has found called before a frame with this consumer tag is sent.
func (mux *frameMux) awaitTag(tag string, found func(channel uint16)) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	mux.tagWaiters[tag] = found
}

func (mux *frameMux) forgetTag(tag string) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	delete(mux.tagWaiters, tag)
}

// methodOf returns class and method of a frame, or 0.
func methodOf(frame []byte) uint32 {
	if frame[0] != frameMethod || len(frame) < frameHead+4 {
		return 0
	}
	return binary.BigEndian.Uint32(frame[frameHead:])
}

// channelNumber finds out the number of a channel.
func (mux *frameMux) channelNumber(ch *amqp091.Channel) (n uint16, err error) {
	mark := "motif-" + rand.Text()
	mux.awaitTag(mark, func(number uint16) { n = number })
	defer mux.forgetTag(mark)
	err = ch.Cancel(mark, false) // which nobody consumes with: the broker does not mind
	if err == nil && n == 0 {
		err = fmt.Errorf("amqp: %w: a channel without a number", adapters.ErrUnavailable)
	}
	return n, err
}

// attach gives a channel's frames to d.
func (mux *frameMux) attach(channel uint16, d frameHandler) error {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	if mux.closeErr != nil {
		return mux.closeErr
	}
	mux.handlers[channel] = d
	return nil
}

// detach ends d, for a reason.
func (mux *frameMux) detach(channel uint16, d frameHandler, why error) {
	mux.mu.Lock()
	if mux.handlers[channel] == d {
		delete(mux.handlers, channel)
	}
	mux.mu.Unlock()
	d.closed(why)
}

// SetReadDeadline is how amqp091 gives up a broker that says nothing: after
// each frame that it reads.
func (mux *frameMux) SetReadDeadline(t time.Time) error {
	far := time.Duration(0)
	if !t.IsZero() {
		far = time.Until(t)
	}
	mux.readTimeout.Store(int64(far))
	return mux.coalescingConn.SetReadDeadline(t)
}

// extendDeadline moves the deadline for the frames that amqp091 does not see.
func (mux *frameMux) extendDeadline() {
	far := time.Duration(mux.readTimeout.Load())
	if now := time.Now(); far > 0 && now.Sub(mux.deadlineSet) > far/8 {
		mux.deadlineSet = now
		_ = mux.coalescingConn.SetReadDeadline(now.Add(far))
	}
}

// Read returns what is for amqp091.
func (mux *frameMux) Read(p []byte) (int, error) {
	for {
		there := mux.buf[mux.off:]
		switch {
		case len(there) > 0 && mux.passThrough > 0:
			n := copy(p, there[:min(mux.passThrough, len(there))])
			mux.off, mux.passThrough = mux.off+n, mux.passThrough-n
			return n, nil
		case mux.passThrough == 0 && mux.dispatch(there):
			continue
		}
		if err := mux.fill(); err != nil {
			mux.closeAll(err)
			return 0, err
		}
	}
}

// fill reads more, behind what is there.
func (mux *frameMux) fill() error {
	if mux.off > 0 {
		mux.buf, mux.off = mux.buf[:copy(mux.buf, mux.buf[mux.off:])], 0
	}
	if len(mux.buf) == cap(mux.buf) { // one frame takes it all
		mux.buf = slices.Grow(mux.buf, cap(mux.buf))
	}
	n, err := mux.coalescingConn.Read(mux.buf[len(mux.buf):cap(mux.buf)])
	mux.buf = mux.buf[:len(mux.buf)+n]
	if n > 0 {
		mux.extendDeadline()
		return nil
	}
	return cmp.Or(err, io.ErrNoProgress)
}

// dispatch looks at what b begins with and decides whose it is, or returns false if
// it takes more of it to tell.
func (mux *frameMux) dispatch(b []byte) bool {
	if len(b) < frameHead {
		return false
	}
	channel, size := binary.BigEndian.Uint16(b[1:]), frameSize(b)
	d := mux.handler(channel)
	switch {
	case size > maxFrame: // amqp091 finds that out, too
		mux.passThrough = size
		return true
	case d == nil && channel != 0:
		mux.passThrough = size
		return true
	case len(b) < size:
		return false
	}
	frame := b[:size]
	if d != nil && d.handleFrame(frame) {
		mux.off += size
		return true
	}
	mux.passThrough = size
	switch methodOf(frame) {
	case methodClose:
		if d != nil {
			mux.detach(channel, d, parseClose(frame))
		}
	case methodConnClose:
		mux.closeAll(parseClose(frame))
	}
	return true
}

// maxFrame is more than a broker sends, which does not split headers: those of a publisher whose
// frames may be larger than ours come in one that is larger.
const maxFrame = 16 << 20

func (mux *frameMux) handler(channel uint16) frameHandler {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	return mux.handlers[channel]
}

// alive reports whether there is more to come in.
func (mux *frameMux) alive() bool {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	return mux.closeErr == nil
}

// closeAll is for when nothing more comes in. When it returns all dealers have been told,
// by whomever.
func (mux *frameMux) closeAll(why error) {
	mux.closeMu.Lock()
	defer mux.closeMu.Unlock()
	mux.mu.Lock()
	if mux.closeErr == nil {
		mux.closeErr = why
	}
	dealers := slices.Collect(maps.Values(mux.handlers))
	clear(mux.handlers)
	mux.mu.Unlock()
	for _, d := range dealers {
		d.closed(why)
	}
}

// closeError is what the broker says when it closes a channel or the connection.
type closeError struct {
	err     *amqp091.Error
	method  uint32 // class and method of what it did not like, or 0
	channel bool   // and not the connection
}

func (c *closeError) Error() string { return c.err.Error() }

func (c *closeError) Unwrap() error { return c.err }

func parseClose(frame []byte) *closeError {
	r := fieldReader{string(frame[min(frameHead+4, len(frame)-1) : len(frame)-1])}
	c := &closeError{err: &amqp091.Error{Server: true}, channel: methodOf(frame) == methodClose}
	c.err.Code = int(r.uint(2))
	c.err.Reason = r.shortString()
	c.method = uint32(r.uint(4))
	return c
}
