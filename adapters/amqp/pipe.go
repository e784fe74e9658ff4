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
)

// pipe is a channel in confirm mode. Many goroutines publish through it at the
// same time, and each publish gets an answer of its own.
type pipe struct {
	driver *Driver
	conn   *connection
	ch     *amqp091.Channel
	frames *frames
	number uint16
	most   int // bytes of a frame
	opened time.Time

	mu     sync.Mutex
	over   error               // why nothing more is sent
	worn   bool                // nothing more is sent either, and the channel is left when all have their answers
	empty  chan struct{}       // closed when nothing is in flight; nil if nobody waits for that
	solo   chan struct{}       // closed when others may send again; nil if they may: see solo.go
	sent   flight              // what went alone last
	taken  map[string]struct{} // exchanges that have taken something
	buf    []byte              // what is being sent
	oldest uint64              // the lowest tag without an answer; tags count from 1
	next   uint64              // the tag of the next publish
	flying []flight
	ids    map[string]int // mandatory publishes in flight, by message id
	seq    uint64

	landed []landing // of the goroutine that reads
}

// pipeKeep is the capacity of a buffer that is kept for the next message.
const pipeKeep = 4 * wireLarge

// wornAfter is how old a channel is whose refusals are believed no more. Of a quorum
// queue whose leader's node has just died, a new channel can be told that it takes
// nothing, and RabbitMQ 3.10 then never tells that channel anything else, though the
// queue has a new leader. A channel that is opened later is told the truth.
const wornAfter = 2 * time.Second

// flight is a publish without an answer. That of a tag is at tag modulo the
// number of places.
type flight struct {
	done      func(error) // nil: it has its answer
	exchange  string
	key       string
	size      int // of the payload
	ticket    ticket
	mandatory bool
	returned  bool
}

// landing is an answer.
type landing struct {
	done func(error)
	err  error
}

// headerSeq is what a returned message is told by where its id does not do:
// while another one of the same id is in flight.
const headerSeq = "motif-seq"

// ticket is what a returned message is told by: its id, and a number if another
// one has the same.
type ticket struct{ id, seq string }

// errPipeOver is in the error of a publish that was not sent because its
// channel is gone.
var errPipeOver = errors.New("the channel is closed")

func (conn *connection) newPipe() (*pipe, error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return nil, err
	}
	p := &pipe{
		driver: conn.supervisor.driver, conn: conn, ch: ch, frames: conn.mux, most: conn.amqp.Config.FrameSize, opened: time.Now(),
		oldest: 1, next: 1, flying: make([]flight, 64), ids: make(map[string]int), taken: make(map[string]struct{}),
	}
	if p.number, err = conn.mux.number(ch); err == nil {
		if err = ch.Confirm(false); err == nil {
			err = conn.mux.attach(p.number, p)
		}
	}
	if err != nil {
		_ = ch.Close()
		return nil, err
	}
	return p, nil
}

func (p *pipe) close() {
	p.frames.detach(p.number, p, adapters.ErrClosed)
	_ = p.ch.Close()
}

func (p *pipe) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over != nil || p.worn
}

// leave lets nothing more be sent. What is in flight still gets its answers.
func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worn = true
}

// allLanded waits until the flights of a channel that is over have their answers, so
// that what is sent through the next one comes after them. The answer to a ping has to be there, too, for
// amqp091 would not understand it.
func (p *pipe) allLanded(ctx context.Context) error {
	for {
		p.mu.Lock()
		wait := p.landing()
		if p.solo != nil {
			wait = p.solo
		}
		p.mu.Unlock()
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

// landing returns a channel that is closed when nothing is in flight, or nil if nothing is. The
// lock is held, and nothing more must be sent.
func (p *pipe) landing() <-chan struct{} {
	if p.oldest == p.next {
		return nil
	}
	if p.empty == nil {
		p.empty = make(chan struct{})
	}
	return p.empty
}

// hasLanded lets those go on who wait until nothing is in flight. The lock is held.
func (p *pipe) hasLanded() {
	if p.empty != nil && p.oldest == p.next {
		close(p.empty)
		p.empty = nil
	}
}

// send hands a message to the broker, and has done called with its answer: once,
// by the goroutine that reads. An error means that the broker does not have it, for what
// was sent of it is not whole, and that done is not called. It waits, as long as ctx allows, while
// another goes alone, or to go alone itself.
func (p *pipe) send(ctx context.Context, o *outgoing, done func(error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	alone, err := p.turn(ctx, o)
	if err != nil {
		return err
	}
	if err := p.write(o, done, alone); err != nil {
		p.othersToo(alone)
		return err
	}
	return nil
}

// write is send once it is o's turn. The lock is held.
func (p *pipe) write(o *outgoing, done func(error), alone bool) error {
	f := flight{done: done, exchange: o.exchange, key: o.key, size: len(o.message.Payload), mandatory: o.p.Mandatory}
	if f.mandatory {
		f.ticket = p.ticket(o.message.UUID)
	}
	buf, err := o.appendTo(p.buf[:0], p.number, f.ticket.seq, p.most)
	if err != nil {
		return err
	}
	if alone {
		buf, p.sent = appendPing(buf, p.number), f
	}
	if p.buf = buf; cap(buf) > pipeKeep {
		p.buf = nil
	}
	if p.next-p.oldest == uint64(len(p.flying)) {
		p.grow()
	}
	if _, err := p.frames.wire.Write(buf); err != nil { // between two of amqp091's
		return err
	}
	if f.mandatory {
		p.ids[f.ticket.id]++
	}
	*p.at(p.next) = f
	p.next++
	return nil
}

func (p *pipe) at(tag uint64) *flight { return &p.flying[tag%uint64(len(p.flying))] }

// grow makes room for twice as many flights.
func (p *pipe) grow() {
	more := make([]flight, 2*len(p.flying))
	for tag := p.oldest; tag < p.next; tag++ {
		more[tag%uint64(len(more))] = *p.at(tag)
	}
	p.flying = more
}

// ticket returns what a return of a message will be told by. Ids are the
// publishers' own, and need not be unique: of two in flight with one id, the second gets
// a number.
func (p *pipe) ticket(id string) ticket {
	if p.ids[id] == 0 {
		return ticket{id: id}
	}
	p.seq++
	return ticket{id: id, seq: strconv.FormatUint(p.seq, 36)}
}

// deal takes what the broker says of a publish, or returns false if a frame is
// about something else.
func (p *pipe) deal(frame []byte) bool {
	switch frame[0] {
	case frameBody: // of a return
		return true
	case frameHeader:
		p.returned(readTicket(string(frame[frameHead : len(frame)-1])))
		return true
	}
	switch m := method(frame); m {
	case methodReturn: // its header says of what
		return true
	case methodAck, methodNack:
		const at = frameHead + 4
		if len(frame) < at+8+1+1 {
			return false
		}
		p.answered(binary.BigEndian.Uint64(frame[at:]), frame[at+8]&1 != 0, m == methodAck)
		return true
	case methodCancelOk: // it can only be ours
		p.pong()
		return true
	}
	return false
}

// returned notes that the broker returned a message. Its answer comes behind.
func (p *pipe) returned(t ticket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for tag := p.oldest; tag < p.next; tag++ {
		if f := p.at(tag); f.done != nil && f.mandatory && f.ticket == t {
			f.returned = true
			return
		}
	}
}

// answered gives one flight its answer, or all up to tag.
func (p *pipe) answered(tag uint64, multiple, ack bool) {
	p.mu.Lock()
	if p.over != nil {
		p.mu.Unlock()
		return
	}
	flying := p.oldest < p.next
	if !ack && flying && time.Since(p.opened) > wornAfter {
		p.worn = true
	}
	from := tag
	if multiple {
		from = p.oldest
	}
	if tag >= p.next { // never sent: not for us to know what is meant
		tag = p.next - 1
	}
	for ; from >= p.oldest && from <= tag; from++ {
		err := error(nil)
		if !ack {
			err = adapters.ErrNacked
		}
		p.land(p.at(from), err)
	}
	for p.oldest < p.next && p.at(p.oldest).done == nil {
		p.oldest++
	}
	p.hasLanded()
	p.mu.Unlock()
	p.tell()
}

// land notes the answer of a flight. The lock is held.
func (p *pipe) land(f *flight, err error) {
	if f.done == nil {
		return
	}
	if f.mandatory {
		if p.ids[f.ticket.id]--; p.ids[f.ticket.id] == 0 {
			delete(p.ids, f.ticket.id)
		}
		if f.returned {
			err = adapters.ErrUnroutable
		}
	}
	p.landed = append(p.landed, landing{f.done, err})
	*f = flight{}
}

// tell calls back, without the lock: whoever is called may publish.
func (p *pipe) tell() {
	for i, l := range p.landed {
		l.done(l.err)
		<-p.driver.inFlight
		p.landed[i] = landing{}
	}
	p.landed = p.landed[:0]
}

// end lets nothing more be sent. What has no answer yet is unconfirmed, unless it is certain that the
// broker did not take it.
func (p *pipe) end(why error) {
	if p.driver.ctx.Err() != nil {
		why = adapters.ErrClosed
	}
	p.mu.Lock()
	if p.over != nil {
		p.mu.Unlock()
		return
	}
	p.over = why
	refused := p.refused(why)
	var landed []landing
	for tag := p.oldest; tag < p.next; tag++ {
		f := p.at(tag)
		switch {
		case f.done == nil:
		case f.returned:
			landed = append(landed, landing{f.done, adapters.ErrUnroutable})
		default:
			landed = append(landed, landing{f.done, refused.answer(tag, why)})
		}
	}
	p.flying, p.ids = nil, nil
	p.oldest = p.next
	p.hasLanded()
	p.othersToo(p.solo != nil)
	p.mu.Unlock()
	for _, l := range landed {
		l.done(l.err)
		<-p.driver.inFlight
	}
}

// readTicket reads from the header of a returned message what it is told by.
func readTicket(header string) (t ticket) {
	r := fields{header}
	r.take(12) // class, weight, size
	flags := uint16(r.uint(2))
	for _, flag := range []uint16{flagContentType, flagEncoding} {
		if flags&flag != 0 {
			r.short()
		}
	}
	if flags&flagHeaders != 0 {
		for table := (fields{r.long()}); len(table.s) > 0; {
			// Between a publish and its return the broker may have added headers of any type.
			name, kind := table.field()
			if value, _ := table.value(kind, 0).(string); name == headerSeq {
				t.seq = value
			}
		}
	}
	for _, flag := range []uint16{flagDeliveryMode, flagPriority} {
		if flags&flag != 0 {
			r.take(1)
		}
	}
	for _, flag := range []uint16{flagCorrelation, flagReplyTo, flagExpiration} {
		if flags&flag != 0 {
			r.short()
		}
	}
	if flags&flagMessageID != 0 {
		t.id = r.short()
	}
	return t
}
