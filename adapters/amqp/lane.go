package amqp

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// maxLanes bounds the channels of a session that publish.
const maxLanes = 16

// lane is a place for a channel in confirm mode. Each exchange has its own, as
// long as there are enough: the broker closes a channel for one publish that it does
// not like, and all others on it are left without an answer. The default exchange, which
// the queues share, gives no reason for that. One channel, and not several, so that what
// one goroutine publishes to one exchange stays in order.
type lane struct {
	opening chan struct{} // held while a channel is being opened
	pipe    atomic.Pointer[pipe]
}

var laneSeed = maphash.MakeSeed()

// lanesOf is how many of so many channels are for publishing.
func lanesOf(channels int) int { return min(maxLanes, max(2, channels-2*controls(channels))) }

// lane returns the lane for an exchange.
func (s *session) lane(exchange string) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.laneList) == 0 { // the first is for the default exchange alone
		s.laneList = []*lane{{opening: make(chan struct{}, 1)}}
		s.lanes[""] = s.laneList[0]
	}
	l := s.lanes[exchange]
	switch {
	case l != nil:
		return l
	case len(s.laneList) < s.maxLanes:
		l = &lane{opening: make(chan struct{}, 1)}
		s.laneList = append(s.laneList, l)
	default:
		l = s.laneList[1+maphash.String(laneSeed, exchange)%uint64(s.maxLanes-1)]
	}
	if len(s.lanes) < maxKnown {
		s.lanes[exchange] = l
	}
	return l
}

// pipe returns the open pipe for an exchange, and opens one if need be.
func (s *session) pipe(ctx context.Context, exchange string) (*pipe, error) {
	l := s.lane(exchange)
	if p := l.pipe.Load(); p != nil && !p.ch.IsClosed() {
		return p, nil
	}
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	old := l.pipe.Load()
	if old != nil && !old.ch.IsClosed() {
		return old, nil
	}
	if old != nil { // an exchange may have been deleted: declare it again
		s.mu.Lock()
		clear(s.known)
		s.mu.Unlock()
	}
	p, err := await(ctx, s.link.d, func() (*pipe, error) { return newPipe(s.conn, cap(s.link.d.inFlight)) }, (*pipe).close)
	if err == nil {
		l.pipe.Store(p)
	}
	return p, err
}

// pipe is a channel in confirm mode. Many goroutines publish through it at the
// same time, and each publish gets an answer of its own.
type pipe struct {
	ch     *amqp091.Channel
	closes chan *amqp091.Error
	most   int // publishes in flight
	seq    atomic.Uint64

	mu       sync.Mutex
	returns  chan amqp091.Return // nil until something mandatory is published
	returned map[string]struct{} // sequence numbers of returned messages
	cause    error               // why the channel is closed
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

// headerSeq is what a returned message is told by. A message id would not do:
// it is the publisher's, and need not be unique.
const headerSeq = "motif-seq"

// inFlight is a publish without an answer.
type inFlight struct {
	pipe    *pipe
	confirm *amqp091.DeferredConfirmation
	seq     string // of a mandatory one
}

// send hands a message to the broker. An error means that the broker does not
// have it, for what was sent of it is not whole.
func (p *pipe) send(o *outgoing) (inFlight, error) {
	f := inFlight{pipe: p}
	if o.mandatory {
		p.listen()
		f.seq = strconv.FormatUint(p.seq.Add(1), 36)
		o.msg.Headers[headerSeq] = f.seq
	}
	var err error
	f.confirm, err = p.ch.PublishWithDeferredConfirm(o.exchange, o.key, o.mandatory, false, o.msg)
	return f, err
}

// listen sees to it that returned messages are not lost. There is room for one
// from every publish in flight, so that amqp091's reader, which drops what it cannot hand over in
// time, never has to wait.
func (p *pipe) listen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.returns == nil {
		p.returns = p.ch.NotifyReturn(make(chan amqp091.Return, p.most))
		p.returned = make(map[string]struct{})
	}
}

// outcome is what became of f, once it is confirmed.
func (f *inFlight) outcome() error {
	p := f.pipe
	switch {
	case f.seq != "" && p.wasReturned(f.seq):
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
func (p *pipe) wasReturned(seq string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		select {
		case r, ok := <-p.returns:
			if ok {
				returned, _ := r.Headers[headerSeq].(string)
				p.returned[returned] = struct{}{}
				continue
			}
		default:
		}
		_, found := p.returned[seq]
		delete(p.returned, seq)
		return found
	}
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
