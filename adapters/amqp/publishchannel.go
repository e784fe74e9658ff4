package amqp

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// publishChannel is a channel in confirm mode. Many goroutines publish through it at the
// same time, and each publish gets an answer of its own.
type publishChannel struct {
	driver   *Driver
	conn     *connection
	ch       *amqp091.Channel
	mux      *frame.Mux
	number   uint16
	frameMax int // bytes of a frame
	opened   time.Time

	mu         sync.Mutex
	closeErr   error               // why nothing more is sent
	draining   bool                // nothing more is sent either, and the channel is left when all have their answers
	drained    chan struct{}       // closed when nothing is in flight; nil if nobody waits for that
	held       chan struct{}       // closed when others may send again; nil if they may: see solo.go
	sentAlone  pendingPublish      // what went alone last
	accepted   map[string]struct{} // exchanges that have taken something
	buf        []byte              // what is being sent
	oldest     uint64              // the lowest tag without an answer; tags count from 1
	next       uint64              // the tag of the next publish
	pending    []pendingPublish
	pendingIDs map[string]int // mandatory publishes in flight, by message id
	returnSeq  uint64

	resolved []resolvedPublish // of the goroutine that reads
}

// maxKeptPublishBuffer is the capacity of a buffer that is kept for the next message.
const maxKeptPublishBuffer = 4 * netio.LargeMessage

// nackTrustTime is how old a channel is whose refusals are believed no more. Of a quorum
// queue whose leader's node has just died, a new channel can be told that it takes
// nothing, and RabbitMQ 3.10 then never tells that channel anything else, though the
// queue has a new leader. A channel that is opened later is told the truth.
const nackTrustTime = 2 * time.Second

// pendingPublish is a publish without an answer. That of a tag is at tag modulo the
// number of places.
type pendingPublish struct {
	done      func(error) // nil: it has its answer
	exchange  string
	key       string
	size      int // of the payload
	returnKey returnKey
	mandatory bool
	returned  bool
}

// resolvedPublish is an answer.
type resolvedPublish struct {
	done func(error)
	err  error
}

// headerSeq is what a returned message is told by where its id does not do:
// while another one of the same id is in flight.
const headerSeq = "motif-seq"

// returnKey is what a returned message is told by: its id, and a number if another
// one has the same.
type returnKey struct{ id, seq string }

// errChannelClosed is in the error of a publish that was not sent because its
// channel is gone.
var errChannelClosed = errors.New("the channel is closed")

func (conn *connection) newPublishChannel() (*publishChannel, error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return nil, err
	}
	pc := &publishChannel{
		driver: conn.supervisor.driver, conn: conn, ch: ch, mux: conn.mux, frameMax: conn.amqp.Config.FrameSize, opened: time.Now(),
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

// drain lets nothing more be sent. What is in flight still gets its answers.
func (pc *publishChannel) drain() {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	pc.draining = true
}

// awaitDrained waits until the flights of a channel that is over have their answers, so
// that what is sent through the next one comes after them. The answer to a ping has to be there, too, for
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

// whenDrained returns a channel that is closed when nothing is in flight, or nil if nothing is. The
// lock is held, and nothing more must be sent.
func (pc *publishChannel) whenDrained() <-chan struct{} {
	if pc.oldest == pc.next {
		return nil
	}
	if pc.drained == nil {
		pc.drained = make(chan struct{})
	}
	return pc.drained
}

// signalDrained lets those go on who wait until nothing is in flight. The lock is held.
func (pc *publishChannel) signalDrained() {
	if pc.drained != nil && pc.oldest == pc.next {
		close(pc.drained)
		pc.drained = nil
	}
}

// send hands a message to the broker, and has done called with its answer: once,
// by the goroutine that reads. An error means that the broker does not have it, for what
// was sent of it is not whole, and that done is not called. It waits, as long as ctx allows, while
// another goes alone, or to go alone itself.
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

// write is send once it is o's turn. The lock is held.
func (pc *publishChannel) write(o *outgoing, done func(error), alone bool) error {
	pub := pendingPublish{done: done, exchange: o.exchange, key: o.key, size: len(o.message.Payload), mandatory: o.p.Mandatory}
	if pub.mandatory {
		pub.returnKey = pc.returnKey(o.message.UUID)
	}
	buf, err := o.appendTo(pc.buf[:0], pc.number, pub.returnKey.seq, pc.frameMax)
	if err != nil {
		return err
	}
	if alone {
		buf, pc.sentAlone = appendProbe(buf, pc.number), pub
	}
	if pc.buf = buf; cap(buf) > maxKeptPublishBuffer {
		pc.buf = nil
	}
	if pc.next-pc.oldest == uint64(len(pc.pending)) {
		pc.grow()
	}
	if err := pc.mux.WriteFrames(buf); err != nil { // between two of amqp091's
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

// grow makes room for twice as many flights.
func (pc *publishChannel) grow() {
	more := make([]pendingPublish, 2*len(pc.pending))
	for tag := pc.oldest; tag < pc.next; tag++ {
		more[tag%uint64(len(more))] = *pc.at(tag)
	}
	pc.pending = more
}

// returnKey returns what a return of a message will be told by. Ids are the
// publishers' own, and need not be unique: of two in flight with one id, the second gets
// a number.
func (pc *publishChannel) returnKey(id string) returnKey {
	if pc.pendingIDs[id] == 0 {
		return returnKey{id: id}
	}
	pc.returnSeq++
	return returnKey{id: id, seq: strconv.FormatUint(pc.returnSeq, 36)}
}

// handleFrame takes what the broker says of a publish, or returns false if a frame is
// about something else.
func (pc *publishChannel) HandleFrame(raw []byte) bool {
	switch raw[0] {
	case frame.TypeBody: // of a return
		return true
	case frame.TypeHeader:
		pc.markReturned(readReturnKey(string(raw[frame.HeadSize : len(raw)-1])))
		return true
	}
	switch m := frame.MethodOf(raw); m {
	case frame.MethodReturn: // its header says of what
		return true
	case frame.MethodAck, frame.MethodNack:
		const at = frame.HeadSize + 4
		if len(raw) < at+8+1+1 {
			return false
		}
		pc.confirm(binary.BigEndian.Uint64(raw[at:]), raw[at+8]&1 != 0, m == frame.MethodAck)
		return true
	case frame.MethodCancelOK: // it can only be ours
		pc.probeAnswered()
		return true
	}
	return false
}

// markReturned notes that the broker returned a message. Its answer comes behind.
func (pc *publishChannel) markReturned(t returnKey) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for tag := pc.oldest; tag < pc.next; tag++ {
		if pub := pc.at(tag); pub.done != nil && pub.mandatory && pub.returnKey == t {
			pub.returned = true
			return
		}
	}
}

// confirm gives one flight its answer, or all up to tag.
func (pc *publishChannel) confirm(tag uint64, multiple, ack bool) {
	pc.mu.Lock()
	if pc.closeErr != nil {
		pc.mu.Unlock()
		return
	}
	flying := pc.oldest < pc.next
	if !ack && flying && time.Since(pc.opened) > nackTrustTime {
		pc.draining = true
	}
	from := tag
	if multiple {
		from = pc.oldest
	}
	if tag >= pc.next { // never sent: not for us to know what is meant
		tag = pc.next - 1
	}
	for ; from >= pc.oldest && from <= tag; from++ {
		err := error(nil)
		if !ack {
			err = adapters.ErrNacked
		}
		pc.resolve(pc.at(from), err)
	}
	for pc.oldest < pc.next && pc.at(pc.oldest).done == nil {
		pc.oldest++
	}
	pc.signalDrained()
	pc.mu.Unlock()
	pc.notify()
}

// resolve notes the answer of a flight. The lock is held.
func (pc *publishChannel) resolve(pub *pendingPublish, err error) {
	if pub.done == nil {
		return
	}
	if pub.mandatory {
		if pc.pendingIDs[pub.returnKey.id]--; pc.pendingIDs[pub.returnKey.id] == 0 {
			delete(pc.pendingIDs, pub.returnKey.id)
		}
		if pub.returned {
			err = adapters.ErrUnroutable
		}
	}
	pc.resolved = append(pc.resolved, resolvedPublish{pub.done, err})
	*pub = pendingPublish{}
}

// notify calls back, without the lock: whoever is called may publish.
func (pc *publishChannel) notify() {
	for i, l := range pc.resolved {
		l.done(l.err)
		<-pc.driver.inFlight
		pc.resolved[i] = resolvedPublish{}
	}
	pc.resolved = pc.resolved[:0]
}

// closed lets nothing more be sent. What has no answer yet is unconfirmed, unless it is certain that the
// broker did not take it.
func (pc *publishChannel) Closed(why error) {
	if pc.driver.ctx.Err() != nil {
		why = adapters.ErrClosed
	}
	pc.mu.Lock()
	if pc.closeErr != nil {
		pc.mu.Unlock()
		return
	}
	pc.closeErr = why
	refused := pc.findRefused(why)
	var landed []resolvedPublish
	for tag := pc.oldest; tag < pc.next; tag++ {
		pub := pc.at(tag)
		switch {
		case pub.done == nil:
		case pub.returned:
			landed = append(landed, resolvedPublish{pub.done, adapters.ErrUnroutable})
		default:
			landed = append(landed, resolvedPublish{pub.done, refused.answer(tag, why)})
		}
	}
	pc.pending, pc.pendingIDs = nil, nil
	pc.oldest = pc.next
	pc.signalDrained()
	pc.releaseOthers(pc.held != nil)
	pc.mu.Unlock()
	for _, l := range landed {
		l.done(l.err)
		<-pc.driver.inFlight
	}
}

// readReturnKey reads from the header of a returned message what it is told by.
func readReturnKey(header string) (t returnKey) {
	r := frame.Reader{S: header}
	r.Next(12) // class, weight, size
	flags := uint16(r.Uint(2))
	for _, flag := range []uint16{flagContentType, flagEncoding} {
		if flags&flag != 0 {
			r.ShortString()
		}
	}
	if flags&flagHeaders != 0 {
		for table := (frame.Reader{S: r.LongString()}); len(table.S) > 0; {
			// Between a publish and its return the broker may have added headers of any type.
			name, kind := table.Field()
			if value, _ := table.Value(kind).(string); name == headerSeq {
				t.seq = value
			}
		}
	}
	for _, flag := range []uint16{flagDeliveryMode, flagPriority} {
		if flags&flag != 0 {
			r.Next(1)
		}
	}
	for _, flag := range []uint16{flagCorrelation, flagReplyTo, flagExpiration} {
		if flags&flag != 0 {
			r.ShortString()
		}
	}
	if flags&flagMessageID != 0 {
		t.id = r.ShortString()
	}
	return t
}
