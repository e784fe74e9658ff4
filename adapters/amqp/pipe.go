package amqp

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// pipe is a channel in confirm mode. Many goroutines publish through it at the
// same time, and each publish gets an answer of its own.
type pipe struct {
	ch     *amqp091.Channel
	closes chan *amqp091.Error
	most   int // publishes in flight

	mu       sync.Mutex
	returns  chan amqp091.Return // nil until something mandatory is published
	flying   map[string]int      // mandatory publishes in flight, by message id
	returned map[ticket]struct{} // of those that were returned
	seq      uint64
	cause    error // why the channel is closed
}

func newPipe(conn *amqp091.Connection, most int) (*pipe, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	p := &pipe{ch: ch, most: most, closes: ch.NotifyClose(make(chan *amqp091.Error, 1))}
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close()
		return nil, err
	}
	return p, nil
}

func (p *pipe) close() { _ = p.ch.Close() }

// headerSeq is what a returned message is told by where its id does not do:
// while another one of the same id is in flight.
const headerSeq = "motif-seq"

// ticket is what a returned message is told by: its id, or else a number.
type ticket struct{ id, seq string }

// inFlight is a publish without an answer.
type inFlight struct {
	pipe      *pipe
	confirm   *amqp091.DeferredConfirmation
	mandatory bool
	ticket    ticket // of a mandatory one
	id        string // the message's
}

// send hands a message to the broker. An error means that the broker does not
// have it, for what was sent of it is not whole.
func (p *pipe) send(o *outgoing) (inFlight, error) {
	f := inFlight{pipe: p, id: o.msg.MessageId, mandatory: o.mandatory}
	if f.mandatory {
		f.ticket = p.announce(o)
	}
	var err error
	f.confirm, err = p.ch.PublishWithDeferredConfirm(o.exchange, o.key, o.mandatory, false, o.msg)
	if err != nil && f.mandatory {
		p.mu.Lock()
		p.landed(f.id)
		p.mu.Unlock()
	}
	return f, err
}

// announce notes that a mandatory message takes off, and returns what its
// return will be told by. Ids are the publishers' own, and need not be unique: of two
// messages in flight with one id, the second gets a header.
//
// No return is lost: there is room for one from every publish in flight, so that
// amqp091's reader, which drops what it cannot hand over in time, never has to wait.
func (p *pipe) announce(o *outgoing) ticket {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.returns == nil {
		p.returns = p.ch.NotifyReturn(make(chan amqp091.Return, p.most))
		p.flying = make(map[string]int)
		p.returned = make(map[ticket]struct{})
	}
	id := o.msg.MessageId
	delete(o.msg.Headers, headerSeq) // of an earlier attempt
	if p.flying[id]++; p.flying[id] == 1 {
		return ticket{id: id}
	}
	p.seq++
	seq := strconv.FormatUint(p.seq, 36)
	o.msg.Headers[headerSeq] = seq
	return ticket{seq: seq}
}

// landed is announce's counterpart. The lock is held.
func (p *pipe) landed(id string) {
	if p.flying[id]--; p.flying[id] == 0 {
		delete(p.flying, id)
	}
}

// outcome is what became of f, once it is confirmed.
func (f *inFlight) outcome() error {
	p := f.pipe
	switch {
	case f.mandatory && p.wasReturned(f):
		return adapters.ErrUnroutable
	case f.confirm.Acked():
		return nil
	case !p.ch.IsClosed():
		return adapters.ErrNacked
	}
	// amqp091 says "not acked" of what was in flight when the channel went: it
	// may be stored.
	return fmt.Errorf("amqp: %w: %w", adapters.ErrUnconfirmed, p.why())
}

// wasReturned tells whether the broker returned a message before it confirmed
// it. A return comes before its confirm, so that it is in the channel by then.
func (p *pipe) wasReturned(f *inFlight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.landed(f.id)
	for len(p.returns) > 0 {
		r := <-p.returns // nobody else receives
		t := ticket{id: r.MessageId}
		if seq, ok := r.Headers[headerSeq].(string); ok {
			t = ticket{seq: seq}
		}
		p.returned[t] = struct{}{}
	}
	if len(p.returned) == 0 {
		return false
	}
	_, found := p.returned[f.ticket]
	delete(p.returned, f.ticket)
	return found
}

// why is the cause of the channel's end.
func (p *pipe) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == nil {
		p.cause = adapters.ErrClosed
		select {
		case e := <-p.closes:
			if e != nil {
				p.cause = e
			}
		default:
		}
	}
	return p.cause
}
