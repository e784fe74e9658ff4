package patterns

import (
	"context"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Result is what became of a message that was delivered to a handler.
type Result string

// Each try of a message ends with one of these.
const (
	ResultAcknowledged Result = "acknowledged"  // done; of a call: its reply was sent, maybe an error, which is Err
	ResultSkipped      Result = "skipped"       // acknowledged with nothing done: see Skip; a call whose caller had given up
	ResultRetried      Result = "retried"       // failed, and is tried again: at the queue, or in process
	ResultDeadLettered Result = "dead-lettered" // given up, to the dead-letter queue
	ResultDropped      Result = "dropped"       // given up, with nowhere to go; a call whose reply could not be sent
	ResultRequeued     Result = "requeued"      // back to its queue, no attempt counted
	ResultStale        Result = "stale"         // settled too late, or not at all: the broker delivers it again
)

// Settlement is what became of one attempt of a message, once it is settled.
type Settlement struct {
	Delivery // as it was received

	Result Result

	// Err is why: what the handler chain returned, as [Classify] left it, a [*PanicError], or what
	// kept the message from being handled or settled. It is nil for what was handled without an
	// error.
	Err error

	// Duration is how long the handler and all middleware took; 0 if they were not called.
	Duration time.Duration

	// TimeInQueue is how long the message took from its publisher to its handler, the publisher's
	// [Delay] included, by the clocks of both; RabbitMQ's time stamps have whole seconds. It is 0
	// where it is not known: for a message that was delivered before, and one that does not say
	// when it was published.
	TimeInQueue time.Duration

	// RetryIn is how long a message that is retried waits for its next attempt.
	RetryIn time.Duration
}

// SettleOption is what [OnSettle] returns; it is a BusOption, a WorkOption, a SubscribeOption, a
// ServeOption, a BatchOption and a SubscribeBatchOption.
type SettleOption struct{ hooks []SettleHook }

// SettleHook is called with what became of an attempt of a message.
//
// ctx is the message's, as middleware left it, and may have ended: a middleware can put a span
// there, which the hook ends.
type SettleHook func(ctx context.Context, s Settlement)

// OnSettle calls hooks with what became of each message: given to [New] for every subscription,
// given to a subscription for its own; those of the bus come first. There is one call for each
// attempt of each message that a worker took from the broker, whatever happened: even if the
// handler panicked, the payload did not decode, the session was lost, or the handler did not return
// by the end of a shutdown. What is taken with Get is not reported: see [OnGet].
//
// The worker calls the hooks in turn, after it has settled the message and before it takes the next
// one; for an RPC, and a message that is retried, a goroutine of its own may do so. Several
// workers do so at a time. A hook that panics is logged; one that calls [runtime.Goexit], as
// t.FailNow does, is taken to have returned.
func OnSettle(hooks ...SettleHook) SettleOption {
	return SettleOption{hooks}
}

func (o SettleOption) check() error {
	for i, hook := range o.hooks {
		if hook == nil {
			return invalid("OnSettle: hook %d is nil", i)
		}
	}
	return nil
}

func (o SettleOption) applyBus(c *busConfig) error {
	c.onSettle = append(c.onSettle, o.hooks...)
	return o.check()
}

func (o SettleOption) applyWork(c *consumeConfig) error {
	c.onSettle = append(c.onSettle, o.hooks...)
	return o.check()
}

func (o SettleOption) applyBatch(c *consumeConfig) error            { return o.applyWork(c) }
func (o SettleOption) applyServe(c *consumeConfig) error            { return o.applyWork(c) }
func (o SettleOption) applySubscribe(c *subscribeConfig) error      { return c.consume(o.applyWork) }
func (o SettleOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }

// times are what a worker remembers of the message in hand, where [OnSettle] wants to know.
type times struct {
	received time.Time
	handled  time.Duration
}

// settled reports what became of a message.
func (w *worker) settled(d *adapters.Delivery, r Result, err error, retryIn time.Duration) {
	if len(w.s.onSettle) > 0 {
		w.s.report(d.Message.Context(), w.s.settlement(d, w.times, r, err, retryIn))
	}
}

func (s *Subscription) settlement(d *adapters.Delivery, t times, r Result, err error, retryIn time.Duration) Settlement {
	copied := *d // d itself goes on
	v := Settlement{Delivery: uncloned(&copied, &s.origin), Result: r, Err: err, Duration: t.handled, RetryIn: retryIn}
	if !s.wrapped || s.origin.Call || r == ResultRetried { // else the headers are keepOriginal's, and done with
		v.Headers = maps.Clone(v.Headers)
	}
	if d.Attempt <= 1 && !d.Redelivered && d.Lost == 0 && !d.Timestamp.IsZero() {
		v.TimeInQueue = max(0, t.received.Sub(d.Timestamp))
	}
	return v
}

func (s *Subscription) report(ctx context.Context, v Settlement) {
	s.reportTo(ctx, v, s.onSettle)
}

func (s *Subscription) reportTo(ctx context.Context, v Settlement, hooks []SettleHook) {
	for i, hook := range hooks {
		func() {
			returned := false
			defer func() {
				switch p := recover(); {
				case p != nil:
					s.bus.log.LogAttrs(ctx, slog.LevelError, "motif: a hook of OnSettle panicked",
						slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				case !returned: // it called runtime.Goexit, after which only what is deferred runs
					s.reportTo(ctx, v, hooks[i+1:])
				}
			}()
			hook(ctx, v)
			returned = true
		}()
	}
}

// apart runs f in a goroutine of its own and waits for it: a hook of [OnSettle] or [OnPublish] that
// f calls may end the goroutine, by [runtime.Goexit], and there is more to be done in this one.
func apart(f func()) {
	var wg sync.WaitGroup
	wg.Go(f)
	wg.Wait()
}
