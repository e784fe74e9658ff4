package memory

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the broker's.
type clock struct {
	epoch time.Time

	// Asking the system for the time of day takes a tenth of all that a message costs, so it is
	// asked once a tick. The timer runs only after a publish.
	cached atomic.Pointer[time.Time]
	mu     sync.Mutex
	timer  *time.Timer
}

const tick = time.Millisecond

// now returns the time since the broker was made. It never goes back.
func (c *clock) now() time.Duration { return time.Since(c.epoch) }

// after is the time d from now, or the end of time.
func (c *clock) after(d time.Duration) time.Duration {
	now := c.now()
	if d > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + d
}

// time returns the time of day, at most a tick old.
func (c *clock) time() time.Time {
	if today := c.cached.Load(); today != nil {
		return *today
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	today := time.Now().Round(0)
	c.cached.Store(&today)
	if c.timer == nil {
		c.timer = time.AfterFunc(tick, func() { c.cached.Store(nil) })
	} else {
		c.timer.Reset(tick)
	}
	return today
}

// stop stops the timer for good.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.cached.Store(nil)
	}
}
