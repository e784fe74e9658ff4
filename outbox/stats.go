package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Stats is how an outbox is doing.
type Stats struct {
	Pending int64         // messages that wait in the database
	Oldest  time.Duration // how long the one that is next has waited; 0 for none
	Parked  int64         // messages that are parked

	Sent      uint64    // by this process
	NewParked uint64    // by this process
	Relaying  bool      // this process is the one that relays now
	Waiting   []Waiting // destinations that refuse, if this process relays, or was the last that did
}

// Waiting is a destination that does not take messages now.
type Waiting struct {
	To    adapters.Endpoint
	Since time.Time
	Err   error // of the last try
}

// Stats asks the database. It counts rows, which takes a while where there are very many.
func (b *Box) Stats(ctx context.Context) (Stats, error) {
	s := Stats{Sent: b.sent.Load(), NewParked: b.parked.Load()}
	var oldest int64
	err := b.db.QueryRowContext(ctx, b.query(
		"SELECT (SELECT COUNT(*) FROM %[1]s), (SELECT COUNT(*) FROM %[1]s_parked), COALESCE((SELECT stored_at FROM %[1]s ORDER BY id LIMIT 1), 0)",
	)).Scan(&s.Pending, &s.Parked, &oldest)
	if err != nil {
		return s, fmt.Errorf("outbox: counting: %w", err)
	}
	if oldest > 0 {
		s.Oldest = max(time.Since(time.UnixMicro(oldest)), 0)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Relaying = b.relaying
	for _, w := range b.waiting {
		s.Waiting = append(s.Waiting, w)
	}
	return s, nil
}

// tellWaiting notes for [Box.Stats] what the relay knows.
func (r *relay) tellWaiting(relaying bool) {
	b := r.box
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relaying = relaying
	clear(b.waiting)
	for to, refused := range r.refusals {
		b.waiting[to] = Waiting{to, refused.since, refused.err}
	}
}
