package middleware

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// RateLimit limits a subscription to n messages in each per, evenly: one every per/n, and up to
// burst at once after a quiet time. A message that has to wait does so at the broker, where another
// process can have it, and uses up neither [patterns.HandlerTimeout] nor the time for which the
// broker lets a message be held.
//
// An option that is given to several subscriptions is one limit for all of them together; they may
// exceed a burst by one message each, and make up for it. The limit is that of this process. High
// rates may not be reached, because each worker fetches its messages one at a time, see
// [patterns.WithGate]: more [patterns.Workers] help. For the same reason [patterns.Prefetch] is
// refused beside it, except in private subscriptions.
func RateLimit(n int, per time.Duration, burst int) patterns.FailureOption {
	l := &rateLimit{burst: burst}
	if n > 0 {
		l.interval = per / time.Duration(n)
	}
	return patterns.WithGate(l)
}

// rateLimit is a token bucket, kept as the time at which it is full again.
type rateLimit struct {
	interval time.Duration // of one token
	burst    int

	mu   sync.Mutex
	full time.Time
}

// Validate reports what is wrong with the arguments; [patterns.WithGate] asks.
func (l *rateLimit) Validate(prefetch int) error {
	switch {
	case l.interval <= 0 || l.burst < 1:
		return fmt.Errorf("%w: RateLimit of one message every %v, with a burst of %d", adapters.ErrInvalid, l.interval, l.burst)
	case time.Duration(l.burst) > math.MaxInt64/l.interval:
		return fmt.Errorf("%w: RateLimit with a burst of %d messages, for which %v each are more than 292 years", adapters.ErrInvalid, l.burst, l.interval)
	case prefetch > 0:
		return fmt.Errorf("%w: Prefetch with RateLimit, which fetches one message at a time", adapters.ErrInvalid)
	}
	return nil
}

// Wait implements [patterns.Gate].
func (l *rateLimit) Wait(ctx context.Context) (ahead bool, err error) {
	for {
		wait := l.untilToken()
		if wait <= 0 {
			return false, ctx.Err()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

func (l *rateLimit) untilToken() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := max(0, time.Until(l.full)) // which is far below 0 at first
	return missing - time.Duration(l.burst-1)*l.interval
}

// Fetched implements [patterns.Gate].
func (l *rateLimit) Fetched() { l.Reserve() }

// Release gives a token back.
func (l *rateLimit) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = l.full.Add(-l.interval)
}

// Reserve takes a token, so that several workers may fetch at a time, see [patterns.WithGate].
func (l *rateLimit) Reserve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.full.Before(now) {
		l.full = now
	}
	l.full = l.full.Add(l.interval)
}
