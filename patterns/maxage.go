package patterns

import (
	"errors"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
)

// ErrTooOld is what a message is given up for that is older than [MaxAge] allows.
var ErrTooOld = errors.New("motif: too old")

// MaxAge has messages that are older than d go to the dead letters, with [ErrTooOld] as the reason,
// in place of the handler: for work that is of no use late, or does harm. Unlike [TTL] and
// [MessageTTL], which the broker looks after, it is the receiver's, and counts from when the
// message was published however often it has been tried since.
//
// A message is as old as its PublishedAt says, by the clocks of both: its [Delay], its time in the
// queue, all its attempts and their waits are included, and for a message from an outbox the time
// since it was stored. It is looked at before each attempt. In a batch that is when it is received,
// and with [OrderBy] when its turn comes. A message without a time, as other programs may publish
// them, is never too old. RabbitMQ's time stamps have whole seconds, so that a message may count as
// up to a second older than it is.
//
// A dead letter that is sent back, by [WorkQueue.Redrive], [AsReceived] or package deadletters, is
// as old as it has been back. Where there are no dead letters a message that is too old is logged
// and passed to [OnDrop]. MaxAge is refused for a queue of dead letters. Calls have a deadline of
// their own.
func MaxAge(d time.Duration) FailureOption {
	return FailureOption{func(c *consumeConfig) error { return positive("MaxAge", d, &c.maxAge) }}
}

type tooOldError struct{ age, limit time.Duration }

func (e *tooOldError) Error() string {
	return fmt.Sprintf("too old: %v, and MaxAge is %v", e.age.Round(time.Millisecond), e.limit)
}

func (e *tooOldError) Is(target error) bool { return target == ErrTooOld }

// giveUpTooOld gives a message up that is too old to be handled, and reports whether it is.
func (w *worker) giveUpTooOld(d *adapters.Delivery) bool {
	limit := w.s.cfg.maxAge
	if limit == 0 || d.Timestamp.IsZero() {
		return false
	}
	since := d.Timestamp
	if back, err := time.Parse(time.RFC3339Nano, d.Message.Metadata[HeaderSentBackAt]); err == nil && back.After(since) {
		since = back
	}
	age := time.Since(since)
	if age <= limit {
		return false
	}
	w.giveUp(d, &tooOldError{age, limit})
	return true
}

// noteSentBack notes in the headers of a dead letter that it is sent back now: unless it has no age
// anyway.
func noteSentBack(headers map[string]string, published time.Time) {
	if published.IsZero() {
		return
	}
	headers[HeaderSentBackAt] = time.Now().UTC().Format(time.RFC3339Nano)
}
