package prometheus

import (
	"context"
	"errors"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// publish implements [patterns.PublishHook].
func (c *Collector) publish(_ context.Context, p *patterns.Publishing) func(error) {
	if p.Cause == patterns.CauseReply {
		return nil // the time is in serveDuration, and the outcome in the settlement
	}
	cause, destination, count, start := p.Cause, c.label(p.To.Name), p.Len(), time.Now()
	if cause == patterns.CauseCall {
		return func(err error) {
			c.callDuration.WithLabelValues(destination, middleware.ErrorType(err)).Observe(time.Since(start).Seconds())
		}
	}
	return func(err error) {
		c.publishDuration.WithLabelValues(string(cause), destination).Observe(time.Since(start).Seconds())
		var failed *adapters.PublishError
		if count == 1 || !errors.As(err, &failed) {
			c.sent.WithLabelValues(string(cause), destination, middleware.ErrorType(err)).Add(float64(count))
			return
		}
		for _, m := range failed.Failed {
			c.sent.WithLabelValues(string(cause), destination, middleware.ErrorType(m.Err)).Inc()
		}
		if stored := count - len(failed.Failed); stored > 0 {
			c.sent.WithLabelValues(string(cause), destination, "").Add(float64(stored))
		}
	}
}

// settle is called with what became of each message.
func (c *Collector) settle(_ context.Context, s patterns.Settlement) {
	source, group := c.label(s.Source.Name), ""
	if s.Group != "" {
		group = c.label(s.Group)
	}
	c.settled.WithLabelValues(source, group, string(s.Result)).Inc()
	if s.Call {
		c.serveDuration.WithLabelValues(source, middleware.ErrorType(s.Err)).Observe(s.Duration.Seconds())
	} else {
		c.handlerDuration.WithLabelValues(source, group).Observe(s.Duration.Seconds())
	}
	if s.TimeInQueue > 0 {
		c.timeInQueue.WithLabelValues(source, group).Observe(s.TimeInQueue.Seconds())
	}
	if s.Redelivered {
		c.redelivered.WithLabelValues(source, group).Inc()
	}
}
