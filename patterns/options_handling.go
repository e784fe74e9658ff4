package patterns

import (
	"cmp"
	"math"
	"time"
)

// Workers is how many messages of a subscription are handled at a time, or batches (1 without it).
// With one, messages are handled in the order of the queue.
func Workers(n int) ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error { return atLeast1("Workers", n, &c.workers) }}
}

// BatchSize is how many values a [BatchHandler] is given at most (100 without it).
func BatchSize(n int) GatherOption {
	return GatherOption{func(c *consumeConfig) error { return atLeast1("BatchSize", n, &c.batchSize) }}
}

// BatchWait is how long after its first message a batch waits for more (100 ms without it).
func BatchWait(d time.Duration) GatherOption {
	return GatherOption{func(c *consumeConfig) error { return positive("BatchWait", d, &c.batchWait) }}
}

// Prefetch is how many messages a subscription holds at a time, those being handled
// included. Without it, as many as it has workers, so that no message waits
// behind a busy worker while another is idle; where it handles batches, [BatchSize] times as many,
// and with [OrderBy] four times as many, at least 32. More is faster for short handlers, and less
// fair.
func Prefetch(n int) ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error { return atLeast1("Prefetch", n, &c.prefetch) }}
}

// AckOnReceive acknowledges a message before its handler runs: at most once,
// for work that is better lost than done twice. A failure is then final: it is
// logged and passed to [OnDrop]. The broker does not confirm an acknowledgement: if
// the process or its connection dies in the first moments of a handler, the message
// may be delivered once more, marked Redelivered.
func AckOnReceive() ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error { return setOnce("AckOnReceive", &c.ackOnReceive, true) }}
}

// DrainTimeout is how long handlers may finish once the subscription is being
// stopped (30 s without it). Then their ctx ends, with the cause
// [ErrShutdown], and their messages go back to the queue.
func DrainTimeout(d time.Duration) ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error {
		if d < 0 {
			return invalid("DrainTimeout %v is negative", d)
		}
		c.drain = d
		return setOnce("DrainTimeout", &c.drainGiven, true)
	}}
}

// HandlerTimeout ends a handler's ctx after d; what the handler then returns counts as any other
// error. The time that middleware takes, such as a throttle, is not included. Without
// HandlerTimeout a handler may take as long as the broker lets a message be held: on RabbitMQ 30
// minutes, unless an operator says otherwise. Then its ctx ends with the cause
// [adapters.ErrConsumerTimeout], and the message is delivered again, see [LossLimit]. With it the
// broker is asked to wait long enough, where it can be asked (RabbitMQ 4.3); elsewhere the log
// warns of a timeout that is longer than the broker's may be.
func HandlerTimeout(d time.Duration) ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error { return positive("HandlerTimeout", d, &c.timeout) }}
}

// check refuses options that would have no effect together, and what its gates refuse.
func (c *consumeConfig) check(private bool) error {
	switch {
	case c.ackOnReceive && c.retry != (RetryPolicy{}):
		return invalid("Retry and AckOnReceive: what is acknowledged is not tried again")
	case c.ackOnReceive && c.lossLimit > 0:
		return invalid("LossLimit and AckOnReceive: what is acknowledged does not come back")
	case private && c.lossLimit > 0:
		return invalid("LossLimit without Group: what a private subscription loses does not come back")
	case c.workers > 0 && c.between.max > 0:
		return invalid("Workers and WorkersBetween: one says how many there are")
	case c.overtake && c.order == nil:
		return invalid("OvertakeRetries without OrderBy: there is no order to keep")
	case c.order != nil && len(c.gates) > 0:
		return invalid("OrderBy and WithGate: what a gate gives back would lose its place")
	}
	ahead := c.prefetch
	if private {
		ahead = 0
	}
	for _, gate := range c.gates {
		if v, ok := gate.(interface{ Validate(prefetch int) error }); ok {
			if err := v.Validate(ahead); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c consumeConfig) withDefaults() consumeConfig {
	c.workers = cmp.Or(c.workers, c.between.min, 1)
	c.lossLimit = cmp.Or(c.lossLimit, defaultLossLimit)
	if !c.drainGiven {
		c.drain = 30 * time.Second
	}
	return c
}

// holdTime is how long a message may be held, with room to spare, or 0 if nothing bounds it: it
// waits for those that were fetched before it, and is handled.
func (c *consumeConfig) holdTime(prefetch int) time.Duration {
	if c.timeout == 0 {
		return 0
	}
	each := c.timeout
	if c.order != nil { // all may have the same key
		retry := c.retry.withDefaults()
		if !c.retry.InProcess {
			retry.Attempts = 1
		}
		return saturated(saturated(each, retry.Attempts, retry.waits()), prefetch+1, time.Minute)
	}
	if c.retry.InProcess {
		retry := c.retry.withDefaults()
		each = saturated(each, 1, retry.Max+retry.Max/10)
		each = saturated(each, retry.Attempts, 0)
	}
	rounds := (prefetch + c.workers - 1) / c.workers
	return saturated(each, rounds+1, time.Minute+min(c.batchWait, 24*time.Hour))
}

// saturated is d*n + more, or the longest time there is.
func saturated(d time.Duration, n int, more time.Duration) time.Duration {
	if d > (math.MaxInt64-more)/time.Duration(max(n, 1)) {
		return math.MaxInt64
	}
	return d*time.Duration(n) + more
}

// OnDrop calls f with each message that is given up and goes nowhere: from a
// private subscription (even when its session is lost, and its queue with it),
// from a queue without dead letters, or acknowledged on receipt. It runs in the
// worker, before the message is settled. Every drop is logged too.
func OnDrop(f func(Delivery, error)) FailureOption {
	return FailureOption{func(c *consumeConfig) error {
		if f == nil {
			return invalid("OnDrop of nil")
		}
		if c.onDrop != nil {
			return givenTwice("OnDrop")
		}
		c.onDrop = f
		return nil
	}}
}
