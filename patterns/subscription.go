package patterns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Subscription is handlers at work. It lives until the ctx it was started
// with ends, it or its bus is stopped, or the broker takes it away for good.
//
// It ends in two phases. First nothing more is fetched, and what was fetched
// but not begun goes back to the queue. What is in hand is finished and
// settled, until the drain timeout; then the handlers' ctx ends, with the cause
// [ErrShutdown], and what they leave unfinished goes back to the queue too,
// uncounted.
type Subscription struct {
	bus           *Bus
	driver        atomic.Pointer[adapters.Subscription] // see fetcher
	source        adapters.Source
	queue         string // "" for a private one
	deadLetter    string // "" for none; the queue's own name if failures stay in it
	brokerRejects bool   // the broker itself makes dead letters of what is rejected
	cfg           consumeConfig
	handler       message.HandlerFunc // the middleware chain around the user's
	wrapped       bool                // there is middleware
	prefetch      int
	processor     processor
	gatherer      *gatherer // of batches, or nil
	width         int       // how many messages are handled at a time, or batches
	origin        Origin
	onSettle      []SettleHook
	reports       chan struct{} // a place for each call that onSettle is being told of
	opError       func(error) error

	order        *ordered     // the driver's, if there is an OrderBy
	aloneMu      sync.Mutex   // held while a message is handled that is suspected of killing its worker
	moveTook     atomic.Int64 // how long the last suspect took to be sent on, a time.Duration
	hasSuspects  atomic.Bool  // there was such a message
	knownReturns knownReturns

	handling context.Context // of all handlers
	abort    context.CancelCauseFunc
	fetching context.Context // of the workers' Receive
	halt     context.CancelFunc
	settling context.Context // never ends

	workers  []*worker // see flow
	scaler   *scaler   // of WorkersBetween, or nil
	flow     flow
	live     atomic.Int64 // workers not finished, and replies and retries on their way
	retries  pendingRetries
	draining atomic.Bool
	drained  chan struct{} // closed when nothing is fetched any more
	expired  sync.Once     // guards expire
	done     chan struct{}

	mu      sync.Mutex
	over    bool
	cause   error         // the first failure
	cleanup []func() bool // timers, and the watch on ctx
}

// abandonAfter is how long handlers have to return once their ctx has ended.
const abandonAfter = time.Second

// subscriptionSpec is what a pattern decides about a subscription.
type subscriptionSpec struct {
	source     adapters.Source
	cfg        consumeConfig
	codecs     *codecs
	deadLetter string
	handler    message.HandlerFunc
	processor  processor         // nil: retryProcessor
	gatherer   *gatherer         // of batches, whose join the handler calls
	opError    func(error) error // says of an error what failed
	partitions *partitions       // of source, or nil
}

// start subscribes and sets the workers to work.
func (b *Bus) start(ctx context.Context, spec subscriptionSpec) (*Subscription, error) {
	src, cfg := spec.source, spec.cfg
	if err := cfg.check(src.Private()); err != nil {
		return nil, err
	}
	if cfg.onUnknown != nil && spec.codecs.types == nil {
		return nil, errNoTypes
	}
	if cfg.maxAge > 0 && spec.deadLetter != "" && spec.deadLetter == src.QueueName() {
		return nil, invalid("MaxAge of a queue of dead letters: what is too old is sent there")
	}
	var need adapters.Ability
	if cfg.order != nil && cfg.lossLimit > 0 {
		need = adapters.CanGet // for the notes of losses
	}
	cfg = cfg.withDefaults()
	width, most := cfg.workers, max(cfg.workers, cfg.between.max)
	handlerTimeout := cfg.timeout
	if spec.gatherer != nil {
		if cfg.order != nil {
			return nil, invalid("OrderBy of batches: it is for handlers of one message")
		}
		if cfg.between.max > 0 {
			return nil, invalid("WorkersBetween of batches: it is for handlers of one message")
		}
		if err := spec.gatherer.configure(&cfg); err != nil {
			return nil, err
		}
		handlerTimeout = 0 // the time of a batch is kept by the gatherer
		most = cfg.workers
	}
	src.Prefetch = cfg.prefetch
	if src.Prefetch == 0 && spec.partitions != nil {
		src.Prefetch = partitionPrefetch
	}
	if src.Prefetch == 0 && cfg.order != nil {
		src.Prefetch = defaultOrderPrefetch(most)
	}
	if src.Prefetch == 0 {
		src.Prefetch = most
	}
	cfg.retry.InProcess = cfg.retry.InProcess || cfg.order != nil && !cfg.overtake
	held := src.Prefetch * spec.queues()
	src.HoldTime = cfg.holdTime(held)
	if held < most {
		return nil, invalid("Prefetch(%d) for %d workers, of whom some could never work: at least as many are needed", src.Prefetch, most)
	}
	if err := src.ValidateSubscribe(); err != nil {
		return nil, err
	}
	cfg.retry = cfg.retry.withDefaults()
	cfg.retry.InProcess = cfg.retry.InProcess || src.Private()
	need |= src.Needs()
	if spec.processor == nil {
		spec.processor = retryProcessor{}
		need |= spec.retryNeeds(cfg)
	}
	if err := b.features.Require(need); err != nil {
		return nil, err
	}
	if err := b.canKeepOrder(cfg, src); err != nil {
		return nil, err
	}
	mw := append(append([]message.HandlerMiddleware(nil), b.middleware...), cfg.middleware...)
	s := &Subscription{
		bus: b, source: src, queue: src.QueueName(), deadLetter: spec.deadLetter, brokerRejects: src.Queue.DeadLetter != "", cfg: cfg,
		handler: chain(b.withTimeout(spec.handler, handlerTimeout), mw), wrapped: len(mw) > 0, opError: spec.opError, prefetch: held,
		settling: context.WithoutCancel(ctx),
		workers:  make([]*worker, cfg.workers),
		drained:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	if s.gatherer, s.width = spec.gatherer, width; s.gatherer != nil {
		s.gatherer.s = s
	}
	s.processor, s.origin, s.onSettle = spec.processor, originOf(src), slices.Concat(b.onSettle, cfg.onSettle)
	_, s.origin.Call = spec.processor.(*callServer)
	s.origin.Batch = spec.gatherer != nil
	if len(s.onSettle) > 0 {
		s.reports = make(chan struct{}, held)
	}
	s.handling, s.abort = context.WithCancelCause(s.settling)
	s.fetching, s.halt = context.WithCancel(ctx) // its end stops the workers themselves, before drain gets to run
	if cfg.between.max > 0 {
		s.scaler = newScaler(s, cfg.between)
	}
	s.live.Store(int64(cfg.workers))
	for i := range s.workers {
		s.workers[i] = &worker{s: s}
	}
	var fetcher adapters.Subscription
	var err error
	if len(cfg.gates) > 0 {
		fetcher, err = s.newGated(ctx, src)
	} else if spec.partitions != nil {
		fetcher, err = b.subscribePartitions(ctx, spec.partitions, src)
	} else {
		fetcher, err = b.driver.Subscribe(ctx, src)
	}
	if err != nil {
		s.halt()
		return nil, err
	}
	if cfg.order != nil {
		s.order = s.newOrdered(fetcher, spec.codecs)
		fetcher = s.order
	}
	s.driver.Store(&fetcher)
	if err := b.add(s); err != nil {
		s.halt()
		return nil, errors.Join(err, fetcher.Stop())
	}
	s.onEnd(context.AfterFunc(ctx, s.drain))
	for _, w := range s.currentWorkers() {
		go w.run()
	}
	return s, nil
}

// queues is how many queues the subscription is to.
func (spec subscriptionSpec) queues() int {
	if spec.partitions != nil {
		return len(spec.partitions.senders)
	}
	return 1
}

// retryNeeds is what the adapter has to be able to do for retries.
func (spec subscriptionSpec) retryNeeds(cfg consumeConfig) adapters.Ability {
	retries := cfg.retry.Attempts > 1 && !cfg.retry.InProcess
	keepsFailures := spec.deadLetter != "" && spec.deadLetter == spec.source.QueueName()
	if (retries || keepsFailures) && !cfg.ackOnReceive {
		return adapters.CanDelay
	}
	return 0
}

// chain wraps handler so that the first middleware is the outermost.
func chain(handler message.HandlerFunc, mw []message.HandlerMiddleware) message.HandlerFunc {
	for i := len(mw) - 1; i >= 0; i-- {
		handler = mw[i](handler)
	}
	return handler
}

// Done is closed when the subscription has ended and nothing is in hand.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Wait returns when the subscription has ended: nil if it was stopped and
// drained, [ErrAbandoned] if handlers ran on past the drain timeout (or replies were
// still to be confirmed), or why the broker ended it.
func (s *Subscription) Wait() error {
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opError(s.cause)
}

// Stop ends the subscription and waits as Wait does. If ctx ends while
// handlers are still running, their ctx ends at once rather than at the drain
// timeout. A handler must not stop its own subscription so: it would wait for
// itself. It can end the ctx that the subscription was started with.
func (s *Subscription) Stop(ctx context.Context) error {
	s.drain()
	select {
	case <-s.done:
	case <-ctx.Done():
		s.expire()
	}
	return s.Wait()
}

// drain is the first phase: fetch no more. It returns when nothing is fetched.
func (s *Subscription) drain() {
	s.flow.mu.Lock() // so that no worker comes later
	first := s.draining.CompareAndSwap(false, true)
	s.flow.mu.Unlock()
	if !first {
		<-s.drained
		return
	}
	defer close(s.drained)
	s.halt() // first: what a handler gives back at its ctx's end must not be fetched again
	s.onEnd(time.AfterFunc(s.cfg.drain, s.expire).Stop)
	sub := s.fetcher()
	if _, isGated := sub.(*gated); !isGated && s.hasSuspects.Load() { // which does so itself
		s.requeueSuspects(sub)
	}
	if err := sub.Stop(); err != nil {
		s.bus.log.Warn("motif: stopping a subscription", "queue", s.queue, "error", err)
	}
}

// expire is the second phase: end the handlers' ctx, and soon after give up
// waiting for them.
func (s *Subscription) expire() {
	s.expired.Do(func() {
		s.onEnd(time.AfterFunc(abandonAfter, s.abandon).Stop)
		s.abort(ErrShutdown)
	})
}

// abandon requeues what handlers hold that ignore the end of their ctx, and ends
// the subscription without them, and without a worker that waits for something
// else, as a callback that does not return.
func (s *Subscription) abandon() {
	ctx, cancel := context.WithTimeout(s.settling, abandonAfter)
	defer cancel()
	var settled []Settlement
	for _, w := range s.currentWorkers() {
		settled = append(settled, w.requeueInHand(ctx)...)
	}
	if s.order != nil {
		s.order.giveBack()
	}
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		for _, v := range settled {
			apart(func() { s.report(s.settling, v) })
		}
	}()
	select {
	case <-reported:
	case <-ctx.Done(): // a hook of OnSettle does not return
	}
	if running := s.live.Load(); running > 0 {
		s.finish(fmt.Errorf("%w: %d", ErrAbandoned, running))
	}
}

// workerDone counts a worker out. err is why it got no message.
func (s *Subscription) workerDone(err error) {
	if s.fetching.Err() != nil {
		err = nil // it was asked to
	}
	s.setCause(err)
	s.drain() // the others end for the same reason
	s.countOut()
}

// countOut counts a worker, a reply or a retry out of the live ones, and with the last ends the
// subscription, for which it does not wait.
func (s *Subscription) countOut() {
	if s.live.Add(-1) == 0 {
		go s.finish(nil)
	}
}

func (s *Subscription) setCause(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil && !s.over {
		s.cause = err
	}
}

// finish ends the subscription, once.
func (s *Subscription) finish(err error) {
	s.setCause(err)
	s.mu.Lock()
	over, cleanup, cause := s.over, s.cleanup, s.cause
	s.over, s.cleanup = true, nil
	s.mu.Unlock()
	if over {
		return
	}
	for _, stop := range cleanup {
		stop()
	}
	s.halt()
	s.abort(nil)
	s.bus.remove(s, s.opError(cause))
	s.processor.end()
	close(s.done)
	s.flow.note()
}

// onEnd has stop called when the subscription ends, at once if it has.
func (s *Subscription) onEnd(stop func() bool) {
	s.mu.Lock()
	over := s.over
	if !over {
		s.cleanup = append(s.cleanup, stop)
	}
	s.mu.Unlock()
	if over {
		stop()
	}
}
