package deadletters

import (
	"context"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Queue is a queue of dead letters.
type Queue struct {
	driver adapters.Driver
	name   string
}

// New names a queue of the broker of d, which stays the caller's to close. Nothing is declared, now
// or later: a queue that does not exist is ErrNotFound.
func New(d adapters.Driver, name string) *Queue { return &Queue{d, name} }

// Name returns the name of the queue.
func (q *Queue) Name() string { return q.name }

// Look is what List found.
type Look struct {
	Letters []Letter // as picked, in the order of the queue; without Settler
	Seen    int      // how many letters were looked at, picked or not
	Unseen  int      // how many wait behind them
}

// List looks at the letters in the queue, and returns those that f picks, of the first limit ones:
// 1 to [adapters.MaxBrowse]. It leaves them in their places; the adapter's Browse says what a look
// changes nevertheless. It takes an adapter that can inspect and browse.
func (q *Queue) List(ctx context.Context, f Filter, limit int) (Look, error) {
	ops, err := q.inspector(adapters.CanBrowse)
	if err != nil {
		return Look{}, err
	}
	found, err := ops.Browse(ctx, q.name, limit)
	if err != nil {
		return Look{}, err
	}
	look := Look{Seen: len(found)}
	if len(found) > 0 {
		look.Unseen = found[len(found)-1].Remaining
	}
	now := time.Now()
	for _, d := range found {
		if l := (Letter{Delivery: d, Queue: q.name}); f.Match(&l, now) {
			look.Letters = append(look.Letters, l)
		}
	}
	return look, nil
}

// inspector returns the driver as one that can do what is needed.
func (q *Queue) inspector(need adapters.Ability) (adapters.Inspector, error) {
	features := q.driver.Features()
	if err := features.Require(need); err != nil {
		return nil, err
	}
	ops, ok := q.driver.(adapters.Inspector)
	if !ok {
		return nil, &adapters.UnsupportedError{Adapter: features.Adapter, Missing: need}
	}
	return ops, nil
}

// CountsLooks reports whether List changes how often letters count as returned, as with RabbitMQ.
func (q *Queue) CountsLooks() bool { return q.driver.Features().Adapter == "amqp" }
