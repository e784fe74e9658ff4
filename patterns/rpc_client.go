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
	defaultCallTimeout   = 30 * time.Second
	cancelTimeout        = 5 * time.Second // for telling the servers that a caller gave up
	replyPrefetch        = 256
	addressCheckInterval = time.Second // how often a call looks whether its reply address is still the one it gave
)

// replies is the client side of RPC: one reply address for all calls of a
// bus, and who waits for which reply.
type replies struct {
	bus         *Bus
	callSlots   chan struct{} // one for each call
	cancelSlots chan struct{} // one for each call that is being cancelled

	mu      sync.Mutex
	address *replyAddress // nil while there is none
	pending map[string]chan adapters.Delivery
	closed  bool
	opening chan struct{} // held while the address is being made

	stopped context.Context // ends with the bus
	stop    context.CancelFunc
	reader  sync.WaitGroup
}

// replyAddress is where replies come back to.
type replyAddress struct {
	lost chan struct{} // closed when none come any more
	name string
	sub  adapters.Subscription // whose address may change; nil where a driver hands replies over
}

func (r *replies) init(b *Bus, maxCalls int) {
	r.bus = b
	r.callSlots = make(chan struct{}, maxCalls)
	r.cancelSlots = make(chan struct{}, maxCalls)
	r.opening = make(chan struct{}, 1)
	r.pending = map[string]chan adapters.Delivery{}
	r.stopped, r.stop = context.WithCancel(context.Background())
}

// current returns the address that there is now, or nil.
func (r *replies) current() *replyAddress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// open returns the reply address, making it at the first call.
func (r *replies) open(ctx context.Context) (*replyAddress, error) {
	if addr := r.current(); addr != nil {
		return addr, nil
	}
	select {
	case r.opening <- struct{}{}:
		defer func() { <-r.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if addr := r.current(); addr != nil {
		return addr, nil
	}
	addr, err := r.openDirect(ctx)
	if errors.Is(err, adapters.ErrUnsupported) {
		addr, err = r.openQueue(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, adapters.ErrClosed // addr goes with the driver
	}
	select {
	case <-addr.lost:
		return nil, errAddressLost
	default:
	}
	r.address = addr
	if addr.sub != nil {
		r.reader.Go(func() { r.read(addr) })
	}
	return addr, nil
}

// errAddressLost: the reply has no way back. The function may have run.
var errAddressLost = fmt.Errorf("the reply has no way back: %w", adapters.ErrSessionLost)

// openDirect has the driver hand replies over.
func (r *replies) openDirect(ctx context.Context) (*replyAddress, error) {
	driver, ok := r.bus.driver.(adapters.ReplyReceiver)
	if !ok {
		return nil, adapters.ErrUnsupported
	}
	addr := &replyAddress{lost: make(chan struct{})}
	var err error
	addr.name, err = driver.ReceiveReplies(ctx, r.deliver, func(error) { r.loseAddress(addr) })
	return addr, err
}

// openQueue has them come through a queue.
func (r *replies) openQueue(ctx context.Context) (*replyAddress, error) {
	sub, err := r.bus.driver.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: replyPrefetch})
	if err != nil {
		return nil, err
	}
	return &replyAddress{lost: make(chan struct{}), sub: sub}, nil
}

// current returns the name of the address, for a request that is sent now.
func (addr *replyAddress) current() string {
	if addr.sub != nil {
		return addr.sub.Address()
	}
	return addr.name
}

// read hands replies to their callers until there are no more.
func (r *replies) read(addr *replyAddress) {
	defer func() { _ = addr.sub.Stop() }()
	defer r.loseAddress(addr)
	for {
		d, err := addr.sub.Receive(r.stopped)
		if err != nil {
			return
		}
		r.deliver(d)
		if err := d.Settle(r.stopped, adapters.Ack); err != nil && r.stopped.Err() == nil {
			r.bus.log.Debug("motif: acknowledging a reply", "error", err)
		}
	}
}

func (r *replies) deliver(d adapters.Delivery) {
	if reply := r.forget(d.CorrelationID); reply != nil {
		reply <- d // has room: it is only ever sent one
	} else {
		r.bus.counters.lateReplies.Add(1)
	}
}

// loseAddress ends the calls that wait for a reply at this address. The next call makes another.
func (r *replies) loseAddress(addr *replyAddress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.address == addr {
		r.address = nil
	}
	close(addr.lost) // under the lock: open must not hand it out after this
}

func (r *replies) expect(id string) chan adapters.Delivery {
	reply := make(chan adapters.Delivery, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[id] = reply
	return reply
}

// forget ends the wait for a reply, and returns who waited.
func (r *replies) forget(id string) chan adapters.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := r.pending[id]
	delete(r.pending, id)
	return reply
}

func (r *replies) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
}

func (r *replies) wait() { r.reader.Wait() }

// roundTrip sends a request and waits for its reply.
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
	case r.callSlots <- struct{}{}:
	case <-ctx.Done():
		return adapters.Delivery{}, ctx.Err()
	case <-r.stopped.Done():
		return adapters.Delivery{}, adapters.ErrClosed
	}
	defer func() { <-r.callSlots }()
	addr, err := r.open(ctx)
	if err != nil {
		return adapters.Delivery{}, err
	}
	// Whoever can guess an id can reply in the server's place.
	p.CorrelationID, p.ReplyTo = rand.Text(), addr.current()
	p.TTL = min(time.Until(deadline), adapters.MaxTTL)
	p.Mandatory, p.Transient = true, true
	if p.TTL <= 0 {
		return adapters.Delivery{}, context.DeadlineExceeded
	}
	reply := r.expect(p.CorrelationID)
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
	d, err := r.await(ctx, sent, reply, addr, p.ReplyTo)
	switch {
	case err == nil:
		return d, nil
	case r.forget(p.CorrelationID) == nil:
		return <-reply, nil // it came at the same moment
	case errors.Is(err, adapters.ErrUnroutable):
		return adapters.Delivery{}, ErrNoServer
	}
	b.cancelCall(cancel, p.CorrelationID)
	return adapters.Delivery{}, err
}

// await waits for a reply, or for the reason why none can come. The
// request's confirm is not waited for: the reply is often there before. A
// subscription does not tell of a lost session before there is a message, but
// its address is another then.
func (r *replies) await(ctx context.Context, sent <-chan error, reply <-chan adapters.Delivery, addr *replyAddress, address string) (adapters.Delivery, error) {
	var check <-chan time.Time
	if addr.sub != nil {
		ticker := time.NewTicker(addressCheckInterval)
		defer ticker.Stop()
		check = ticker.C
	}
	for {
		select {
		case d := <-reply:
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
		case <-addr.lost:
			return adapters.Delivery{}, r.addressLost()
		case <-check:
			if addr.current() != address {
				return adapters.Delivery{}, r.addressLost()
			}
		}
	}
}

// addressLost is errAddressLost, or ErrClosed if the bus was closed, which takes the address away.
func (r *replies) addressLost() error {
	if r.stopped.Err() != nil {
		return adapters.ErrClosed
	}
	return errAddressLost
}

// cancelCall tells every server that nobody waits for the reply any more. It
// does not keep the caller waiting, and gives up where too many are under way.
func (b *Bus) cancelCall(to adapters.Endpoint, id string) {
	select {
	case b.replies.cancelSlots <- struct{}{}:
	default:
		return
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.replies.cancelSlots
		return
	}
	b.background.Add(1) // under mu: Close waits for those before it only
	b.mu.Unlock()
	go func() {
		defer b.background.Done()
		defer func() { <-b.replies.cancelSlots }()
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		p := adapters.Publication{To: to, Properties: adapters.Properties{CorrelationID: id, Transient: true}}
		if err := b.driver.Publish(ctx, p, b.message("", nil, nil)); err != nil {
			b.log.Debug("motif: cancelling a call", "function", to.Name, "error", err)
		}
	}()
}

// decodeReply decodes a reply into resp, or returns the error that it is.
func (b *Bus) decodeReply(c *codecs, d adapters.Delivery, resp any) error {
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
