package patterns

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

const (
	defaultCallTimeout = 30 * time.Second
	cancelTimeout      = time.Second // for telling the servers that a caller gave up
	replyPrefetch      = 256
	addressCheck       = time.Second // how often a call looks whether its answer still has a way back
)

// replies is the client side of RPC: one reply address for all calls of a
// bus, and who waits for which answer.
type replies struct {
	bus   *Bus
	slots chan struct{} // a place for each call
	gone  chan struct{} // a place for each call that is being cancelled

	mu      sync.Mutex
	way     *way // nil while there is none
	pending map[string]chan adapters.Delivery
	closed  bool
	opening chan struct{} // held while the address is being made

	stopped context.Context // ends with the bus
	stop    context.CancelFunc
	reader  sync.WaitGroup
}

// way is how answers come back.
type way struct {
	lost    chan struct{} // closed when none come any more
	address string
	sub     adapters.Subscription // whose address may change; nil where a driver hands answers over
}

func (r *replies) init(b *Bus, maxCalls int) {
	r.bus = b
	r.slots = make(chan struct{}, maxCalls)
	r.gone = make(chan struct{}, maxCalls)
	r.opening = make(chan struct{}, 1)
	r.pending = map[string]chan adapters.Delivery{}
	r.stopped, r.stop = context.WithCancel(context.Background())
}

// current returns the way back that there is now, or nil.
func (r *replies) current() *way {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.way
}

// open returns the way back, making it at the first call.
func (r *replies) open(ctx context.Context) (*way, error) {
	if w := r.current(); w != nil {
		return w, nil
	}
	select {
	case r.opening <- struct{}{}:
		defer func() { <-r.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if w := r.current(); w != nil {
		return w, nil
	}
	w, err := r.direct(ctx)
	if errors.Is(err, adapters.ErrUnsupported) {
		w, err = r.subscribe(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, adapters.ErrClosed // w goes with the driver
	}
	select {
	case <-w.lost:
		return nil, errNoWayBack
	default:
	}
	r.way = w
	if w.sub != nil {
		r.reader.Go(func() { r.read(w) })
	}
	return w, nil
}

// errNoWayBack: if something was asked, it may have been done.
var errNoWayBack = fmt.Errorf("the answer has no way back: %w", adapters.ErrSessionLost)

// direct has the driver hand answers over.
func (r *replies) direct(ctx context.Context) (*way, error) {
	driver, ok := r.bus.driver.(adapters.ReplyReceiver)
	if !ok {
		return nil, adapters.ErrUnsupported
	}
	w := &way{lost: make(chan struct{})}
	var err error
	w.address, err = driver.ReceiveReplies(ctx, r.received, func(error) { r.lose(w) })
	return w, err
}

// subscribe has them come through a queue.
func (r *replies) subscribe(ctx context.Context) (*way, error) {
	sub, err := r.bus.driver.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: replyPrefetch})
	if err != nil {
		return nil, err
	}
	return &way{lost: make(chan struct{}), sub: sub}, nil
}

// to returns the address for the answer to a request that is sent now.
func (w *way) to() string {
	if w.sub != nil {
		return w.sub.Address()
	}
	return w.address
}

// read hands answers to their callers until there are no more.
func (r *replies) read(w *way) {
	defer func() { _ = w.sub.Stop() }()
	defer r.lose(w)
	for {
		d, err := w.sub.Receive(r.stopped)
		if err != nil {
			return
		}
		r.received(d)
		if err := d.Settle(r.stopped, adapters.Ack); err != nil && r.stopped.Err() == nil {
			r.bus.log.Debug("motif: acknowledging an answer", "error", err)
		}
	}
}

func (r *replies) received(d adapters.Delivery) {
	if answer := r.forget(d.CorrelationID); answer != nil {
		answer <- d // has room: it is only ever sent one
	} else {
		r.bus.counters.lateReplies.Add(1)
	}
}

// lose ends the calls that wait for an answer by this way. The next call makes
// another.
func (r *replies) lose(w *way) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.way == w {
		r.way = nil
	}
	close(w.lost) // under the lock: open must not take it for a way after this
}

func (r *replies) expect(id string) chan adapters.Delivery {
	answer := make(chan adapters.Delivery, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[id] = answer
	return answer
}

// forget ends the wait for an answer, and returns who waited.
func (r *replies) forget(id string) chan adapters.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.pending[id]
	delete(r.pending, id)
	return answer
}

func (r *replies) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
}

func (r *replies) wait() { r.reader.Wait() }

// roundTrip sends a request and waits for its answer.
func (b *Bus) roundTrip(ctx context.Context, p adapters.Publication, m *message.Message, cancel adapters.Endpoint) (adapters.Delivery, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultCallTimeout)
		var release context.CancelFunc
		ctx, release = context.WithDeadline(ctx, deadline)
		defer release()
	}
	r := &b.replies
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return adapters.Delivery{}, ctx.Err()
	case <-r.stopped.Done():
		return adapters.Delivery{}, adapters.ErrClosed
	}
	defer func() { <-r.slots }()
	w, err := r.open(ctx)
	if err != nil {
		return adapters.Delivery{}, err
	}
	// Whoever can guess an id can answer in the server's place.
	p.CorrelationID, p.ReplyTo = rand.Text(), w.to()
	p.TTL = min(time.Until(deadline), adapters.MaxTTL)
	p.Mandatory, p.Transient = true, true
	if p.TTL <= 0 {
		return adapters.Delivery{}, context.DeadlineExceeded
	}
	answer := r.expect(p.CorrelationID)
	defer r.forget(p.CorrelationID)
	sent := make(chan error, 1)
	if async, ok := b.driver.(adapters.AsyncPublisher); !ok {
		sent <- b.driver.Publish(ctx, p, m)
	} else if err := async.PublishAsync(ctx, p, m, func(err error) {
		if err != nil { // else there is nothing to wake up for
			sent <- err
		}
	}); err != nil {
		return adapters.Delivery{}, err
	}
	d, err := r.await(ctx, sent, answer, w, p.ReplyTo)
	switch {
	case err == nil:
		return d, nil
	case r.forget(p.CorrelationID) == nil:
		return <-answer, nil // it came at the same moment
	case errors.Is(err, adapters.ErrUnroutable):
		return adapters.Delivery{}, ErrNoServer
	}
	b.cancelCall(cancel, p.CorrelationID)
	return adapters.Delivery{}, err
}

// await waits for an answer, or for the reason why none can come. The
// request's confirm is not waited for: the answer is often there before. A
// subscription does not tell of a lost session before there is a message, but
// its address is another then.
func (r *replies) await(ctx context.Context, sent <-chan error, answer <-chan adapters.Delivery, w *way, address string) (adapters.Delivery, error) {
	var check <-chan time.Time
	if w.sub != nil {
		ticker := time.NewTicker(addressCheck)
		defer ticker.Stop()
		check = ticker.C
	}
	for {
		select {
		case d := <-answer:
			return d, nil
		case err := <-sent:
			if err != nil {
				return adapters.Delivery{}, err
			}
			sent = nil
		case <-ctx.Done():
			return adapters.Delivery{}, ctx.Err()
		case <-r.stopped.Done():
			return adapters.Delivery{}, adapters.ErrClosed
		case <-w.lost:
			return adapters.Delivery{}, r.noWayBack()
		case <-check:
			if w.to() != address {
				return adapters.Delivery{}, r.noWayBack()
			}
		}
	}
}

// noWayBack is errNoWayBack, or ErrClosed if the bus was closed, which takes the way away.
func (r *replies) noWayBack() error {
	if r.stopped.Err() != nil {
		return adapters.ErrClosed
	}
	return errNoWayBack
}

// cancelCall tells every server that nobody waits for the answer any more. It
// does not keep the caller waiting, and gives up where too many are under way.
func (b *Bus) cancelCall(to adapters.Endpoint, id string) {
	select {
	case b.replies.gone <- struct{}{}:
	default:
		return
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.replies.gone
		return
	}
	b.background.Add(1) // under mu: Close waits for those before it only
	b.mu.Unlock()
	go func() {
		defer b.background.Done()
		defer func() { <-b.replies.gone }()
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		p := adapters.Publication{To: to, Properties: adapters.Properties{CorrelationID: id, Transient: true}}
		if err := b.driver.Publish(ctx, p, b.message("", nil, nil)); err != nil {
			b.log.Debug("motif: cancelling a call", "function", to.Name, "error", err)
		}
	}()
}

// readAnswer decodes an answer into resp, or returns the error that it is.
func (b *Bus) readAnswer(c *codecs, d adapters.Delivery, resp any) error {
	code, failed := d.Message.Metadata[HeaderErrorCode]
	if !failed {
		return c.unmarshal(d.ContentType, d.ContentEncoding, d.Message.Payload, resp)
	}
	e := &RemoteError{Code: code, Message: d.Message.Metadata[HeaderError]}
	for _, known := range b.errorCodes {
		if known.code == code {
			e.known = known.err
			break
		}
	}
	return e
}
