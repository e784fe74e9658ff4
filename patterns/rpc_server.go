package patterns

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// callServer is the server side of RPC, a [process]: the calls being handled, and those
// that were cancelled before they came.
type callServer struct {
	bus      *Bus
	codecs   *codecs
	function string
	expose   bool // callers are told what an error says
	workers  atomic.Int64
	nested   atomic.Int64          // handlers that wait for a call of their own function
	cancels  adapters.Subscription // nil if callers cannot tell
	halt     context.CancelFunc
	done     chan struct{}

	mu        sync.Mutex
	running   map[string]*context.CancelCauseFunc
	cancelled map[string]struct{} // ids, forgotten in the order of order
	order     []string
	next      int
}

// callServerKey is for the ctx of a handler of calls: which server it is part of.
type callServerKey struct{}

// rememberCancelled is how many calls may be cancelled before they come and
// still not be run.
const rememberCancelled = 1024

// errCallerGone is the cause with which a handler's ctx ends when the caller
// has given up.
var errCallerGone = errors.New("motif: the caller gave up")

func (b *Bus) newCallServer(ctx context.Context, cancel adapters.Endpoint, codecs *codecs) (*callServer, error) {
	sub, err := b.driver.Subscribe(ctx, adapters.Source{Endpoint: cancel, Prefetch: replyPrefetch})
	listening, halt := context.WithCancel(context.Background())
	c := &callServer{
		bus: b, codecs: codecs, halt: halt, done: make(chan struct{}),
		running: map[string]*context.CancelCauseFunc{}, cancelled: map[string]struct{}{}, order: make([]string, rememberCancelled),
	}
	if err != nil {
		close(c.done)
		return c, err
	}
	c.cancels = sub
	go c.listen(listening)
	return c, nil
}

// listen cancels calls as their callers give up.
func (c *callServer) listen(ctx context.Context) {
	defer close(c.done)
	for {
		d, err := c.cancels.Receive(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.bus.log.Warn("motif: no longer told of calls that were given up", "error", err)
			}
			return
		}
		c.cancel(d.CorrelationID)
		if err := d.Settle(ctx, adapters.Ack); err != nil && ctx.Err() == nil {
			c.bus.log.Debug("motif: acknowledging a cancellation", "error", err)
		}
	}
}

func (c *callServer) end() {
	c.halt()
	if c.cancels == nil {
		return
	}
	_ = c.cancels.Stop() // a private queue goes with its session if not with this
	<-c.done
}

func (c *callServer) cancel(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		(*cancel)(errCallerGone)
		return
	}
	delete(c.cancelled, c.order[c.next])
	c.order[c.next] = id
	c.next = (c.next + 1) % len(c.order)
	c.cancelled[id] = struct{}{}
}

// begin returns the ctx of a call, or false if nobody waits for its reply.
func (c *callServer) begin(parent context.Context, d *adapters.Delivery) (context.Context, func(), bool) {
	ctx, cancel := context.WithCancelCause(parent)
	release := func() { cancel(nil) }
	if d.TTL > 0 { // what the caller had left when it called; clocks are not compared
		timed, stop := context.WithTimeout(ctx, d.TTL)
		ctx, release = timed, func() { stop(); cancel(nil) }
	}
	id := d.CorrelationID
	if id == "" {
		return ctx, release, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, gone := c.cancelled[id]; gone {
		release()
		return nil, nil, false
	}
	c.running[id] = &cancel
	return ctx, func() {
		c.mu.Lock()
		if c.running[id] == &cancel { // and not that of a redelivery, begun before this was over
			delete(c.running, id)
		}
		c.mu.Unlock()
		release()
	}, true
}

// handle handles one request: run, reply, acknowledge.
func (c *callServer) handle(w *worker, d adapters.Delivery) {
	ctx, release, wanted := c.begin(w.ctx, &d)
	if !wanted {
		w.finish(&d, adapters.Ack, ResultSkipped, errCallerGone)
		return
	}
	if w.s.cfg.ackOnReceive {
		if err := w.settle(&d, adapters.Ack); err != nil {
			release()
			w.settled(&d, ResultStale, err, 0)
			return
		}
	}
	original := d.Message
	if len(w.s.onSettle) > 0 && w.s.wrapped {
		original = clone(original)
	}
	w.track(&d, original)
	var produced []*message.Message
	err := errGoexit
	defer func() {
		callerGone := errors.Is(context.Cause(ctx), errCallerGone)
		release()
		if !w.untrack() {
			return
		}
		switch {
		case w.sessionLost() && !w.s.cfg.ackOnReceive: // another server runs it
			w.settled(&d, ResultStale, w.s.noteStale(&d, adapters.ErrStaleDelivery), 0)
		case err != nil && w.s.isShutdown(err) && !w.s.cfg.ackOnReceive:
			w.requeue(&d, err) // another server runs it
		case callerGone, d.ReplyTo == "": // nobody to reply to
			w.finish(&d, adapters.Ack, ResultAcknowledged, err)
		default:
			c.reply(w, &d, produced, err)
		}
	}()
	produced, err = w.call(ctx, &d)
}
