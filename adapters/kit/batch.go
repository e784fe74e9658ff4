package kit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// PublishEach calls publish for each message in turn. It returns nil if all calls did, else an
// [*adapters.PublishError] with those that failed: what [adapters.Driver] asks of Publish. A
// message may be nil; adapters.ValidateMessage refuses it.
func PublishEach(msgs []*message.Message, publish func(*message.Message) error) (err error) {
	var failed []adapters.FailedMessage // small enough to be inlined: messages may stay on the caller's stack
	for i, m := range msgs {
		if e := publish(m); e != nil {
			failed = append(failed, failure(i, m, e))
			err = &adapters.PublishError{Failed: failed}
		}
	}
	return err
}

// Batch gathers the results of publishes that are under way together. Its methods may be called
// concurrently.
type Batch struct {
	msgs     []*message.Message
	resolved chan struct{} // closed when every message has its result

	mu      sync.Mutex
	pending []bool // by index: there is no result yet
	left    int    // how many are pending
	failed  []adapters.FailedMessage
}

// NewBatch returns a Batch for the messages of one Publish call.
func NewBatch(msgs []*message.Message) *Batch {
	b := &Batch{msgs: msgs, resolved: make(chan struct{}), pending: make([]bool, len(msgs)), left: len(msgs)}
	for i := range b.pending {
		b.pending[i] = true
	}
	if b.left == 0 {
		close(b.resolved)
	}
	return b
}

// Resolve sets the result of the message with index i: nil if the broker has it. The first result
// of a message counts, and later ones are ignored.
func (b *Batch) Resolve(i int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.pending[i] {
		return
	}
	b.pending[i] = false
	if err != nil {
		b.failed = append(b.failed, failure(i, b.msgs[i], err))
	}
	if b.left--; b.left == 0 {
		close(b.resolved)
	}
}

// Resolved returns a channel that is closed once every message has its result.
func (b *Batch) Resolved() <-chan struct{} { return b.resolved }

// Wait waits until every message has its result, and returns what [Batch.Err] does. When ctx ends
// first, those without a result have failed: with an error that wraps adapters.ErrUnconfirmed and
// ctx's error.
func (b *Batch) Wait(ctx context.Context) error {
	select {
	case <-b.resolved:
	case <-ctx.Done():
		for i := range b.msgs {
			b.Resolve(i, fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, ctx.Err()))
		}
	}
	return b.Err()
}

// Err returns nil if no message has failed so far, else an [*adapters.PublishError] with those that
// have, in the order of the call.
func (b *Batch) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	failed := slices.Clone(b.failed)
	slices.SortFunc(failed, func(x, y adapters.FailedMessage) int { return cmp.Compare(x.Index, y.Index) })
	return publishError(failed)
}

func failure(i int, m *message.Message, err error) adapters.FailedMessage {
	f := adapters.FailedMessage{Index: i, Err: err}
	if m != nil {
		f.UUID = m.UUID
	}
	return f
}

func publishError(failed []adapters.FailedMessage) error {
	if len(failed) == 0 {
		return nil
	}
	return &adapters.PublishError{Failed: failed}
}
