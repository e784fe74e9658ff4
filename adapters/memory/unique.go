package memory

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// unique is the messages that were published, and are unique for a time.
type unique struct {
	mu      sync.Mutex // held while one is stored, so it comes before the locks that this takes
	until   map[uniqueKey]time.Duration
	sweepAt int // how many there are when those are forgotten whose time is over
}

type uniqueKey struct {
	to adapters.Endpoint
	id string
}

// maxUnique is how many messages are unique at a time. One more is refused: to forget another
// before its time would break what was promised for that.
const maxUnique = 100_000

// store stores a message, unless there is one with its id.
func (u *unique) store(p *adapters.Publication, id string, c *clock, store func() error) error {
	if id == "" {
		return fmt.Errorf("memory: publish: %w: a message that is unique for %v needs an id", adapters.ErrInvalid, p.UniqueFor)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now, key := c.now(), uniqueKey{p.To, id}
	if now < u.until[key] {
		return nil
	}
	if len(u.until) >= max(u.sweepAt, 100) {
		maps.DeleteFunc(u.until, func(_ uniqueKey, until time.Duration) bool { return until <= now })
		u.sweepAt = min(2*len(u.until), maxUnique)
	}
	if len(u.until) >= maxUnique {
		return fmt.Errorf("memory: publish: %w: %d messages are unique, no more are possible", adapters.ErrNacked, maxUnique)
	}
	if err := store(); err != nil {
		return err
	}
	if u.until == nil {
		u.until = make(map[uniqueKey]time.Duration)
	}
	u.until[key] = c.after(p.UniqueFor)
	return nil
}
