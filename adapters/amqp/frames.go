package amqp

import (
	"cmp"
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

// frames is the connection for publishing as amqp091 has it: whole frames pass
// in both directions, so that a [pipe] can write its own between them, and the
// broker's answers to those go to the pipe alone. What amqp091 does for each
// publish and each confirm costs several times as much.
//
// It writes to no channel but the pipes', which amqp091 opens and closes, and
// publishes nothing on. All else, from the login to the heartbeats, is amqp091's.
type frames struct {
	*wire

	out     sync.Mutex
	partial []byte            // the beginning of a frame that amqp091 is writing
	marks   map[string]uint16 // channels, by the mark that was seen on them; 0: not yet

	in      []byte // of the goroutine that reads; from first on it is not dealt with yet
	first   int
	pass    int          // bytes there, and of what follows, that are amqp091's
	drop    int          // and bytes that are nobody's
	moved   time.Time    // when the read deadline was
	farther atomic.Int64 // how far away it is then: a time.Duration; 0: there is none

	mu    sync.Mutex
	pipes map[uint16]*pipe
	over  error // why nothing more comes in
}

const readSize = 32 << 10

func newFrames(w *wire) *frames {
	return &frames{wire: w, marks: make(map[string]uint16), pipes: make(map[uint16]*pipe), in: make([]byte, 0, readSize)}
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
	if len(f.marks) == 0 || method(frame) != methodCancel {
		return
	}
	const at = frameHead + 4 + 1 // of the consumer tag's text
	if tag := frame[at : at+int(frame[at-1])]; f.isMark(tag) {
		f.marks[string(tag)] = binary.BigEndian.Uint16(frame[1:])
	}
}

func (f *frames) isMark(tag []byte) bool { _, ok := f.marks[string(tag)]; return ok }

// method returns class and method of a frame, or 0.
func method(frame []byte) uint32 {
	if frame[0] != frameMethod || len(frame) < frameHead+4 {
		return 0
	}
	return binary.BigEndian.Uint32(frame[frameHead:])
}

// number finds out the number of a channel.
func (f *frames) number(ch *amqp091.Channel, mark string) (uint16, error) {
	f.out.Lock()
	f.marks[mark] = 0
	f.out.Unlock()
	err := ch.Cancel(mark, false) // which nobody consumes with: the broker does not mind
	f.out.Lock()
	n := f.marks[mark]
	delete(f.marks, mark)
	f.out.Unlock()
	if err == nil && n == 0 {
		err = fmt.Errorf("amqp: %w: a channel without a number", adapters.ErrUnavailable)
	}
	return n, err
}

// attach sends to p what the broker says of its publishes.
func (f *frames) attach(p *pipe) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over != nil {
		return f.over
	}
	f.pipes[p.number] = p
	return nil
}

// detach ends p, for a reason.
func (f *frames) detach(p *pipe, why error) {
	f.mu.Lock()
	if f.pipes[p.number] == p {
		delete(f.pipes, p.number)
	}
	f.mu.Unlock()
	p.end(why)
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
		case len(there) > 0 && f.drop > 0:
			n := min(f.drop, len(there))
			f.first, f.drop = f.first+n, f.drop-n
			continue
		case f.pass == 0 && f.drop == 0 && f.deal(there):
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
	p := f.pipe(channel)
	switch {
	case size > maxFrame: // amqp091 finds that out, too
		f.pass = size
		return true
	case p != nil && b[0] == frameBody: // of a return
		f.drop = size
		return true
	case p == nil && channel != 0:
		f.pass = size
		return true
	case len(b) < size:
		return false
	}
	frame := b[:size]
	if p != nil && p.deal(frame) {
		f.drop = size
		return true
	}
	f.pass = size
	switch method(frame) {
	case methodClose:
		f.detach(p, closeReason(frame))
	case methodConnClose:
		f.end(closeReason(frame))
	}
	return true
}

// maxFrame is more than a broker may send.
const maxFrame = 1 << 20

func (f *frames) pipe(channel uint16) *pipe {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pipes[channel]
}

// alive tells whether there is more to come in.
func (f *frames) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over == nil
}

// end is for when nothing more comes in.
func (f *frames) end(why error) {
	f.mu.Lock()
	if f.over == nil {
		f.over = why
	}
	pipes := slices.Collect(maps.Values(f.pipes))
	clear(f.pipes)
	f.mu.Unlock()
	for _, p := range pipes {
		p.end(why)
	}
}

// closeReason is what the broker says when it closes a channel or the
// connection.
func closeReason(frame []byte) error {
	e := &amqp091.Error{Server: true}
	if b := frame[frameHead+4:]; len(b) > 3 && len(b) > 3+int(b[2]) {
		e.Code, e.Reason = int(binary.BigEndian.Uint16(b)), string(b[3:3+int(b[2])])
	}
	return e
}
