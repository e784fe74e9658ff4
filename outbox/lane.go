package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// errNoAnswer is of what was published when the broker has not said for long whether it has it.
var errNoAnswer = fmt.Errorf("the broker does not answer: %w", adapters.ErrUnconfirmed)

// lane is the rows of a batch for one destination, and what became of them. Its fields may be read
// once it is over.
type lane struct {
	relay         *relay
	to            adapters.Endpoint
	refusedBefore bool          // it is tried again
	mismatched    bool          // its queue exists with other properties than its messages say
	patient       time.Duration // how long it waits for an answer
	over          chan struct{} // closed when run has returned

	sent    []int64  // the broker has them
	faulty  []faulty // cannot be sent, for a fault of their own
	failed  *row     // the first that is to be sent again; nothing behind it that was not on its way is sent
	failure error    // why
	counts  bool     // it counts as an attempt of the row's

	mu       sync.Mutex // guards what follows
	rows     []*row
	isLeft   bool // the relay goes on without it
	isJudged bool
	outcomes []outcome // of each row that was published
	pending  int       // rows whose outcome is not known yet
	idle     chan struct{}
	stopped  context.CancelFunc
}

type faulty struct {
	row *row
	err error
}

type outcome struct {
	known bool
	err   error
}

// run publishes the rows in order, until one has to be sent again, and waits for the outcomes.
func (l *lane) run(ctx context.Context) {
	defer close(l.over)
	defer l.judge()
	l.idle = make(chan struct{}, 1)
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	l.stopped = stop
	for publishing.Err() == nil {
		i, o, err := l.begin()
		if i < 0 {
			break
		}
		if err != nil {
			l.end(i, err)
			continue
		}
		wait := l.oneByOne(o)
		l.send(publishing, i, o)
		if wait && !l.settled(ctx) {
			return
		}
	}
	l.settled(ctx)
}

// leave has the lane end without the relay, which has more to do: it publishes no more rows, and
// keeps of the others what it needs to say which are sent. It reports false if it has ended.
func (l *lane) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isJudged {
		return false
	}
	l.isLeft = true
	l.rows = slices.Clone(l.rows[:len(l.outcomes)])
	for _, r := range l.rows {
		r.envelope, r.payload = "", nil
	}
	return true
}

// oneByOne reports whether the next message has to wait for the outcome of this one, because it
// might be taken and this one not.
func (l *lane) oneByOne(o patterns.Outgoing) bool {
	q := o.Queue
	switch {
	case l.refusedBefore:
		return true
	case q.Name != "" && !q.Passive:
		return q.Queue.MaxLength > 0 && q.Queue.Overflow != adapters.DropHead
	case o.Publication.Mandatory && l.to.Kind != adapters.Queue:
		return true
	}
	return l.relay.box.config.Strict
}

// send publishes one.
func (l *lane) send(ctx context.Context, i int, o patterns.Outgoing) {
	told := func(err error) { l.end(i, err) }
	if l.mismatched {
		o.Queue = adapters.Source{}
	}
	err := l.relay.bus.PublishOutgoing(ctx, o, told)
	if errors.Is(err, adapters.ErrMismatch) && o.Queue.Name != "" {
		// It is there, and not as the program that stored the message wanted it. That cannot be
		// mended by waiting, and the message was accepted: it goes to the queue as it is.
		l.relay.box.log.WarnContext(ctx, "outbox: a queue exists with other properties, and gets its messages all the same", "queue", l.to.Name, "error", err)
		l.mismatched, o.Queue = true, adapters.Source{}
		err = l.relay.bus.PublishOutgoing(ctx, o, told)
	}
	if err != nil {
		l.end(i, err)
	}
}

// begin returns the next row, as a message that is on its way from now on; -1 if there is none.
func (l *lane) begin() (i int, o patterns.Outgoing, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i = len(l.outcomes); i == len(l.rows) {
		return -1, o, nil
	}
	l.outcomes = append(l.outcomes, outcome{})
	l.pending++
	o, err = l.rows[i].outgoing(time.Now())
	return i, o, err
}

// end notes the outcome of one. After one that has to be sent again no other begins.
func (l *lane) end(i int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[i] = outcome{true, err}
	if err != nil && !isFaulty(err) {
		l.stopped()
	}
	if l.pending--; l.pending == 0 {
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

// settled waits for all outcomes, and reports whether they are known. What is not in time may be
// stored, and will be sent again.
func (l *lane) settled(ctx context.Context) bool {
	late := time.NewTimer(l.patient)
	defer late.Stop()
	done := ctx.Done()
	for {
		l.mu.Lock()
		pending := l.pending
		l.mu.Unlock()
		if pending == 0 {
			return true
		}
		select {
		case <-l.idle:
		case <-late.C:
			l.stopped()
			return false
		case <-done: // what is on its way has a little more time
			done = nil
			late.Reset(min(l.relay.box.settle, l.patient))
		}
	}
}

// judge sorts the rows by their outcomes.
func (l *lane) judge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isJudged = true
	for i, o := range l.outcomes {
		r := l.rows[i]
		switch {
		case !o.known:
			o.err = errNoAnswer
		case o.err == nil:
			l.sent = append(l.sent, r.id)
			continue
		}
		counts := isCounted(o.err)
		switch {
		case !l.isLeft && (isFaulty(o.err) || counts && r.attempts+1 >= l.relay.box.config.Attempts): // else at the next try
			l.faulty = append(l.faulty, faulty{r, o.err})
		case l.failed == nil && !errors.Is(o.err, context.Canceled): // which the one before has brought about, or a shutdown
			l.failed, l.failure, l.counts = r, o.err, counts
		}
	}
}

// isFaulty reports whether a message cannot be sent for a fault of its own, whoever tries.
func isFaulty(err error) bool {
	return errors.Is(err, adapters.ErrTooLarge) || errors.Is(err, adapters.ErrUnsupported) ||
		errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrAccess)
}

// isCounted reports whether err may be the message's own fault, so that it is not tried without
// end: it is not known to be that of its destination or of the broker.
func isCounted(err error) bool {
	for _, others := range []error{
		adapters.ErrNacked, adapters.ErrAccess, adapters.ErrNotFound, adapters.ErrMismatch,
		adapters.ErrUnavailable, adapters.ErrUnconfirmed, adapters.ErrClosed, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, others) {
			return false
		}
	}
	return true
}

// waitAfter returns how long to wait after a failure, at first and at most.
func waitAfter(err error) (first, most time.Duration) {
	switch {
	case errors.Is(err, adapters.ErrNacked): // there may be room soon
		return 20 * time.Millisecond, time.Second
	case errors.Is(err, adapters.ErrAccess), errors.Is(err, adapters.ErrNotFound), errors.Is(err, adapters.ErrMismatch):
		return 250 * time.Millisecond, 30 * time.Second // until somebody has done something
	case isCounted(err):
		return 250 * time.Millisecond, 5 * time.Second
	}
	return 50 * time.Millisecond, time.Second // of the broker
}
