package patterns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// worker handles one message after another.
type worker struct {
	s *Subscription

	// ctx is the handlers' ctx bound to the session that delivers; most
	// messages come from the same session as the one before.
	ctx     context.Context
	session context.Context
	release func()

	alone    bool            // the message in hand is handled alone
	hasTurn  atomic.Bool     // to receive, in a subscription that gathers batches
	times    times           // of the message in hand
	original message.Message // what the one in hand was; see keepOriginal

	waiting context.Context // for a message: ends with the subscription's fetching, or by stopWaiting
	state   atomic.Int32    // what it does
	retired atomic.Bool     // it is to end

	waitsSince atomic.Int64 // for a message, by the clock of its scaler; 0 if it has one
	counted    bool         // as busy by the scaler

	due atomic.Int64 // when the handler's time is over, after the bus was made; 0 if it has none, or does not run

	mu           sync.Mutex
	stopWaiting  context.CancelFunc
	inHand       adapters.Settler    // of the message the handler is at work on
	last         lastMessage         // the one that was in hand last, until it is settled
	suspect      *adapters.Delivery  // it, if it is handled alone
	received     adapters.Delivery   // inHand as it was received, for OnSettle; without a Message, if there is none
	fetchedAhead []adapters.Delivery // ahead of their turn
	member       *member             // what it was in a batch, which waits for it to be settled
	abandoned    bool                // inHand was requeued while its handler ran on
	since        time.Time           // when what is in hand was received, or the last one was; zero if nobody asked for the bus's health
}

func (w *worker) run() {
	handling := false
	defer func() {
		if handling { // a handler called runtime.Goexit, as t.FailNow does, or the function of an OrderBy
			w.stepAside()
			go w.run()
		}
	}()
	for {
		w.takeTurn()
		handling = true // what a user wrote may be called from here on
		d, err := w.next()
		if err != nil {
			handling = false
			w.stepAside()
			w.unbind()
			w.become(workerParked)
			if errors.Is(err, errRetired) {
				w.retire()
				return
			}
			w.interrupt()
			w.s.workerDone(err)
			return
		}
		w.bind(d.Message.Context())
		if len(w.s.onSettle) > 0 {
			w.times = times{received: time.Now()}
		}
		w.noteReceived()
		w.s.processor.handle(w, d)
		w.stepAside()
	}
}

// bind makes w.ctx end with session too.
func (w *worker) bind(session context.Context) {
	if w.release != nil && session.Done() == w.session.Done() { // contexts need not be comparable
		return
	}
	w.unbind()
	ctx, cancel := context.WithCancelCause(w.s.handling)
	unhook := context.AfterFunc(session, func() { cancel(context.Cause(session)) })
	w.ctx, w.session = ctx, session
	w.release = func() { unhook(); cancel(nil) }
}

func (w *worker) unbind() {
	if w.release != nil {
		w.release()
		w.ctx, w.session, w.release = nil, nil, nil
	}
}

// processor is how a subscription handles a message and settles it.
type processor interface {
	handle(w *worker, d adapters.Delivery)
	end() // called once the subscription has ended
}

// retryProcessor runs the handler, as often as the policy has it retried in process, and settles
// the message by the handler's error. It is for all but calls.
type retryProcessor struct{}

func (retryProcessor) end() {}

func (retryProcessor) handle(w *worker, d adapters.Delivery) {
	s := w.s
	if it, ok := d.Settler.(*orderedItem); ok {
		defer s.order.done(it)
		defer w.endSuspect(&d, it)
		if it.suspect && !w.beginSuspect(&d, it) {
			return
		}
	} else if s.countsLosses(&d) {
		now, alone := w.checkLosses(&d)
		if !now {
			return
		}
		w.become(workerBusy)
		if w.alone = alone; alone {
			defer s.aloneMu.Unlock()
			defer func() { w.alone = false }()
			if s.needsEmptyPrefetch(&d) {
				defer w.keepPrefetchEmpty()()
			}
		}
	}
	if wait := max(remainingDelay(&d), d.Early); wait > 0 && s.queue != "" && !s.cfg.ackOnReceive {
		w.continueDelay(&d, wait)
		return
	}
	if w.giveUpTooOld(&d) {
		return
	}
	original := w.keepOriginal(d.Message)
	if s.cfg.ackOnReceive {
		if err := w.settle(&d, adapters.Ack); err != nil { // it comes again: handling it now too would be twice
			w.settled(&d, ResultStale, err, 0)
			return
		}
	}
	for w.try(&d, original) {
		d.Attempt++
		d.Message = clone(original)
		if w.giveUpTooOld(&d) {
			return
		}
	}
}

// try runs the handler once and settles the message. It reports whether the worker is to run it
// once more instead, after a wait that is over.
func (w *worker) try(d *adapters.Delivery, original *message.Message) (again bool) {
	w.track(d, original)
	err := errGoexit
	defer func() {
		if w.untrack() {
			original.SetContext(d.Message.Context()) // as middleware left it: what is logged may need it
			d.Message = original
			again = w.decide(d, err)
		}
		if !again && w.session.Err() != nil { // else nobody asks for it
			w.forgetLast()
		}
	}()
	var produced []*message.Message
	if produced, err = w.call(w.ctx, d); err == nil && len(produced) > 0 {
		err = Reject(errors.New("the handler chain returned messages, which have no destination"))
	}
	return false
}

// keepOriginal returns what the message is to be if it is sent again: middleware may change the
// metadata and replace the payload. It is good until the next call.
func (w *worker) keepOriginal(m *message.Message) *message.Message {
	if !w.s.wrapped {
		return m
	}
	w.original.UUID, w.original.Payload, w.original.Metadata = m.UUID, m.Payload, nil
	if len(m.Metadata) > 0 {
		w.original.Metadata = maps.Clone(m.Metadata)
	}
	return &w.original
}

// clone returns a copy with metadata of its own, which can be set.
func clone(m *message.Message) *message.Message {
	c := &message.Message{UUID: m.UUID, Payload: m.Payload, Metadata: maps.Clone(m.Metadata)}
	if c.Metadata == nil {
		c.Metadata = message.Metadata{}
	}
	c.SetContext(m.Context())
	return c
}

// call runs the chain once, and honours an ack or nack that a middleware sent
// on its own.
func (w *worker) call(ctx context.Context, d *adapters.Delivery) (produced []*message.Message, err error) {
	msg := d.Message
	c := newContext(d)
	*c = deliveryContext{Context: ctx, d: *d, origin: &w.s.origin, worker: w}
	msg.SetContext(c)
	if len(w.s.onSettle) > 0 {
		start := time.Now()
		defer func() { w.times.handled = time.Since(start) }()
	}
	produced, err = protect(w.s.handler, msg)
	switch {
	case err == nil && !msg.Ack():
		err = errors.New("the message was nacked by the handler chain")
	case err != nil && !msg.Nack():
		err = &ackedError{err}
	}
	return produced, err
}

// withTimeout has the handler's ctx end after a time. It is inside all middleware, which may
// wait for its turn first.
func (b *Bus) withTimeout(handler message.HandlerFunc, after time.Duration) message.HandlerFunc {
	if after == 0 {
		return handler
	}
	return func(m *message.Message) ([]*message.Message, error) {
		whole, due := m.Context(), time.Now().Add(after)
		ctx, cancel := context.WithDeadline(whole, due)
		defer cancel()
		if c, ok := whole.Value(deliveryKey{}).(*deliveryContext); ok && c.worker != nil {
			c.worker.due.Store(int64(due.Sub(b.made)))
			defer c.worker.due.Store(0)
		}
		m.SetContext(ctx)
		defer m.SetContext(whole)
		return handler(m)
	}
}

// protect makes errors of panics.
func protect(handler message.HandlerFunc, m *message.Message) (produced []*message.Message, err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &PanicError{Value: v, Stack: debug.Stack()}
			if !isInspectable(p) {
				p.Value = fmt.Sprint(v)
			}
			err = p
		}
	}()
	if produced, err = handler(m); err != nil && !isInspectable(err) {
		err = fmt.Errorf("the handler returned a %T whose methods panic", err)
	}
	return produced, err
}

// ackedError is a failure after the handler chain acknowledged the message itself.
type ackedError struct{ error }

func (e *ackedError) Unwrap() error { return e.error }

// track notes what is in hand, so that it can be requeued if the handler ignores a shutdown.
// original is its message, which middleware does not change.
func (w *worker) track(d *adapters.Delivery, original *message.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inHand, w.last = d.Settler, lastMessage{d.Message.UUID, d.Settler, w.session}
	if w.alone { // it must not be given back as others are
		copied := *d
		w.suspect = &copied
	}
	if len(w.s.onSettle) > 0 {
		w.received = *d
		w.received.Message = original
	}
}

// untrack ends that, and reports whether the message is still the worker's to settle.
func (w *worker) untrack() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inHand, w.suspect, w.received.Message = nil, nil, nil
	return !w.abandoned
}

// requeueInHand requeues what is in hand and what was fetched ahead. It returns what [OnSettle] is
// to be told of it.
func (w *worker) requeueInHand(ctx context.Context) (settled []Settlement) {
	w.mu.Lock()
	defer w.mu.Unlock()
	requeue := func(held adapters.Settler, o adapters.Outcome, received adapters.Delivery) {
		v := Settlement{Result: ResultRequeued, Err: ErrAbandoned}
		if err := held.Settle(ctx, o); err != nil {
			w.s.bus.counters.stale.Add(1)
			v.Result = ResultStale
		}
		if len(w.s.onSettle) > 0 {
			v.Delivery = public(&received, &w.s.origin)
			settled = append(settled, v)
		}
	}
	for _, d := range w.fetchedAhead {
		requeue(d.Settler, adapters.Requeue, d)
	}
	w.fetchedAhead = nil
	if w.inHand == nil || w.s.cfg.ackOnReceive {
		return settled
	}
	w.abandoned = true
	w.s.bus.counters.requeued.Add(1)
	outcome := adapters.Requeue
	if w.suspect != nil && w.s.resendToQueue(ctx, w.suspect, 0) == nil {
		outcome = adapters.Ack // see requeue
	}
	requeue(w.inHand, outcome, w.received)
	return settled
}
