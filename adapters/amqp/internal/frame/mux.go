// Package frame reads, writes and multiplexes the frames of AMQP 0-9-1. It knows nothing of
// connections, their topology or Motif's messages.
package frame

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// Mux is the connection as amqp091 sees it. Whole frames pass in both directions, so that a
// [Handler] can write its own between those of amqp091, and alone receives what the broker sends on
// its channel. What amqp091 does for each publish, confirm, delivery and acknowledgement costs
// several times as much.
//
// amqp091 opens and closes the channels, and does everything else, from login to heartbeats.
type Mux struct {
	*netio.Conn

	writeMu    sync.Mutex
	partial    []byte                          // the start of a frame that amqp091 is writing
	tagWaiters map[string]func(channel uint16) // by consumer tag

	buf         []byte // owned by the goroutine that reads; what precedes off is dispatched
	off         int
	passThrough int          // bytes, from off on, that are for amqp091
	deadlineSet time.Time    // when the read deadline was extended
	readTimeout atomic.Int64 // a time.Duration; 0 if there is no deadline

	// closed has the channels that the broker closed, until they are opened again; owned by the
	// goroutine that reads. RabbitMQ (4.0, after a consumer timeout) may still deliver on them, for
	// which amqp091 would close the connection.
	closed map[uint16]bool

	closeMu  sync.Mutex // held while handlers are told of the end
	mu       sync.Mutex
	handlers map[uint16]Handler // by channel
	closeErr error              // why no more frames come in
}

// Handler handles the frames of one channel, which amqp091 then does not see. The goroutine that
// reads the connection calls it.
type Handler interface {
	// HandleFrame handles a whole frame, which it must not retain, or returns false if the frame is
	// for amqp091.
	HandleFrame(frame []byte) bool

	// Closed says that no more frames come and that none must be written. It may be called more
	// than once.
	Closed(why error)
}

const readSize = 32 << 10

// NewMux returns a Mux over c, without handlers.
func NewMux(c *netio.Conn) *Mux {
	return &Mux{
		Conn: c, tagWaiters: make(map[string]func(uint16)), handlers: make(map[uint16]Handler), closed: make(map[uint16]bool),
		buf: make([]byte, 0, readSize),
	}
}

// ProtocolHeader is what a client sends first. It is no frame.
const ProtocolHeader = "AMQP"

// Write passes on amqp091's frames, each once it is whole.
func (mux *Mux) Write(p []byte) (int, error) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	mux.partial = append(mux.partial, p...)
	whole := 0
	for {
		n := Size(mux.partial[whole:])
		if n == 0 || n > len(mux.partial)-whole {
			break
		}
		mux.noteConsumerTag(mux.partial[whole : whole+n])
		whole += n
	}
	if whole == 0 {
		return len(p), nil
	}
	if _, err := mux.Conn.Write(mux.partial[:whole]); err != nil {
		return 0, err
	}
	mux.partial = append(mux.partial[:0], mux.partial[whole:]...)
	return len(p), nil
}

// Size returns the size of the frame that b begins with, or 0 if b is too short to tell.
func Size(b []byte) int {
	switch {
	case len(b) >= len(ProtocolHeader) && string(b[:len(ProtocolHeader)]) == ProtocolHeader:
		return len(ProtocolHeader) + 4
	case len(b) < HeadSize:
		return 0
	}
	return HeadSize + int(binary.BigEndian.Uint32(b[3:])) + 1
}

// noteConsumerTag tells those who wait for a consumer tag on which channel it is sent: amqp091 does
// not reveal the number of a channel. mux.writeMu is held.
func (mux *Mux) noteConsumerTag(raw []byte) {
	if len(mux.tagWaiters) == 0 {
		return
	}
	r := Reader{S: string(raw[min(HeadSize+4, len(raw)):])}
	switch MethodOf(raw) {
	case MethodConsume:
		r.Next(2)
		r.ShortString() // queue
	case MethodCancel:
	default:
		return
	}
	if found := mux.tagWaiters[r.ShortString()]; found != nil {
		found(binary.BigEndian.Uint16(raw[1:]))
	}
}

// AwaitTag has found called, with the channel's number, before a frame with this consumer tag is
// sent.
func (mux *Mux) AwaitTag(tag string, found func(channel uint16)) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	mux.tagWaiters[tag] = found
}

// ForgetTag undoes AwaitTag.
func (mux *Mux) ForgetTag(tag string) {
	mux.writeMu.Lock()
	defer mux.writeMu.Unlock()
	delete(mux.tagWaiters, tag)
}

// MethodOf returns class and method of a frame, or 0 if it is no method.
func MethodOf(raw []byte) uint32 {
	if raw[0] != TypeMethod || len(raw) < HeadSize+4 {
		return 0
	}
	return binary.BigEndian.Uint32(raw[HeadSize:])
}

// ChannelNumber finds out the number of a channel, which amqp091 does not reveal.
func (mux *Mux) ChannelNumber(ch *amqp091.Channel) (n uint16, err error) {
	tag := "motif-" + rand.Text()
	mux.AwaitTag(tag, func(number uint16) { n = number })
	defer mux.ForgetTag(tag)
	err = ch.Cancel(tag, false) // there is no such consumer, which the broker does not mind
	if err == nil && n == 0 {
		err = errors.New("amqp: a channel without a number")
	}
	return n, err
}

// Attach gives the frames of a channel to h from now on.
func (mux *Mux) Attach(channel uint16, h Handler) error {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	if mux.closeErr != nil {
		return mux.closeErr
	}
	mux.handlers[channel] = h
	return nil
}

// Detach takes the channel from h, and tells h why.
func (mux *Mux) Detach(channel uint16, h Handler, why error) {
	mux.mu.Lock()
	if mux.handlers[channel] == h {
		delete(mux.handlers, channel)
	}
	mux.mu.Unlock()
	h.Closed(why)
}

// SetReadDeadline is what amqp091 calls after each frame that it reads, to give up a silent broker.
func (mux *Mux) SetReadDeadline(t time.Time) error {
	far := time.Duration(0)
	if !t.IsZero() {
		far = time.Until(t)
	}
	mux.readTimeout.Store(int64(far))
	return mux.Conn.SetReadDeadline(t)
}

// extendDeadline extends the read deadline for frames that amqp091 does not see.
func (mux *Mux) extendDeadline() {
	far := time.Duration(mux.readTimeout.Load())
	if now := time.Now(); far > 0 && now.Sub(mux.deadlineSet) > far/8 {
		mux.deadlineSet = now
		_ = mux.Conn.SetReadDeadline(now.Add(far))
	}
}

// Read returns the frames that are for amqp091.
func (mux *Mux) Read(p []byte) (int, error) {
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
			mux.CloseAll(err)
			return 0, err
		}
	}
}

// fill reads more from the connection, behind what is buffered.
func (mux *Mux) fill() error {
	if mux.off > 0 {
		mux.buf, mux.off = mux.buf[:copy(mux.buf, mux.buf[mux.off:])], 0
	}
	if len(mux.buf) == cap(mux.buf) { // one frame fills it
		mux.buf = slices.Grow(mux.buf, cap(mux.buf))
	}
	n, err := mux.Conn.Read(mux.buf[len(mux.buf):cap(mux.buf)])
	mux.buf = mux.buf[:len(mux.buf)+n]
	if n > 0 {
		mux.extendDeadline()
		return nil
	}
	return cmp.Or(err, io.ErrNoProgress)
}

// dispatch decides whose the frame is that b begins with, or returns false if it takes more of the
// frame to tell.
func (mux *Mux) dispatch(b []byte) bool {
	if len(b) < HeadSize {
		return false
	}
	channel, size := binary.BigEndian.Uint16(b[1:]), Size(b)
	h := mux.handler(channel)
	switch {
	case size > maxFrame: // amqp091 will refuse it
		mux.passThrough = size
		return true
	case h == nil && channel != 0 && b[0] != TypeMethod && !mux.closed[channel]:
		mux.passThrough = size
		return true
	case len(b) < size:
		return false
	}
	raw := b[:size]
	if h != nil && h.HandleFrame(raw) || mux.closed[channel] && MethodOf(raw) != MethodChannelOpenOK {
		mux.off += size
		return true
	}
	mux.passThrough = size
	switch MethodOf(raw) {
	case MethodChannelOpenOK:
		delete(mux.closed, channel)
	case MethodChannelClose:
		mux.closed[channel] = true
		if h != nil {
			mux.Detach(channel, h, parseClose(raw))
		}
	case MethodConnectionClose:
		mux.CloseAll(parseClose(raw))
	}
	return true
}

// maxFrame is larger than any frame that a broker sends. Brokers do not split headers: the headers
// of a publisher that negotiated larger frames come in one frame, which is larger than ours.
const maxFrame = 16 << 20

func (mux *Mux) handler(channel uint16) Handler {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	return mux.handlers[channel]
}

// Alive reports whether more frames may come in.
func (mux *Mux) Alive() bool {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	return mux.closeErr == nil
}

// CloseAll tells all handlers that no more frames come in. When it returns they have all been told,
// by this call or another.
func (mux *Mux) CloseAll(why error) {
	mux.closeMu.Lock()
	defer mux.closeMu.Unlock()
	mux.mu.Lock()
	if mux.closeErr == nil {
		mux.closeErr = why
	}
	handlers := slices.Collect(maps.Values(mux.handlers))
	clear(mux.handlers)
	mux.mu.Unlock()
	for _, h := range handlers {
		h.Closed(why)
	}
}

// CloseError is the broker's reason for closing a channel or the connection.
type CloseError struct {
	Err     *amqp091.Error
	Method  uint32 // class and method of what the broker refused, or 0
	Channel bool   // the channel, and not the connection
}

func (c *CloseError) Error() string { return c.Err.Error() }

func (c *CloseError) Unwrap() error { return c.Err }

func parseClose(raw []byte) *CloseError {
	r := Reader{S: string(raw[min(HeadSize+4, len(raw)-1) : len(raw)-1])}
	c := &CloseError{Err: &amqp091.Error{Server: true}, Channel: MethodOf(raw) == MethodChannelClose}
	c.Err.Code = int(r.Uint(2))
	c.Err.Reason = r.ShortString()
	c.Method = uint32(r.Uint(4))
	return c
}

// WriteFrames writes whole frames between two of amqp091's. It does not block.
func (mux *Mux) WriteFrames(b []byte) error {
	_, err := mux.Conn.Write(b)
	return err
}

// ClientFault returns why the broker closed the connection, or nil if that was not for anything
// that a client did.
func (mux *Mux) ClientFault() *CloseError {
	mux.mu.Lock()
	defer mux.mu.Unlock()
	var c *CloseError
	if !errors.As(mux.closeErr, &c) || c.Channel || c.Err.Code == amqp091.ConnectionForced {
		return nil
	}
	return c
}
