package kit

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before each next attempt: first Min, then twice as long each time,
// up to Max. Each wait is shortened at random by up to a half, so that clients that lost one broker
// together do not come back together. It is not safe for concurrent use.
type Backoff struct {
	Min, Max time.Duration // Min must be positive, and at most Max

	next time.Duration
}

// Next returns the next wait.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, b.Min)
	b.next = min(2*d, b.Max)
	return d/2 + rand.N(d/2+1)
}

// Reset begins anew, after an attempt that succeeded.
func (b *Backoff) Reset() { b.next = 0 }
