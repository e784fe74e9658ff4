package middleware

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/patterns"
)

// ErrDuplicate is why [Once] skips a message.
var ErrDuplicate = errors.New("motif: handled before")

// Store remembers which messages were handled.
type Store interface {
	// Do calls handle and remembers key if that returns nil, or returns [ErrDuplicate] without
	// calling it if key is remembered. What handle returns Do returns. If handle fails or panics
	// nothing is remembered. Of several calls with one key at a time one calls handle; the others
	// wait for it, as long as ctx allows, and then do as if they had come later.
	Do(ctx context.Context, key Key, handle func(ctx context.Context) error) error
}

// Key identifies a message for those who handle it: two queues may get the same message, which each
// of them handles once.
type Key struct {
	Queue string // its queue; for a private subscription, a name that no other one has
	ID    string // the publisher's
}

// Once skips a message that was handled before: one that the broker delivers again, for instance
// after its acknowledgement was lost, or that its publisher sent twice with one
// [patterns.MessageID]. It is acknowledged, and its result is [patterns.ResultSkipped]. A message
// that failed was not handled: neither its next attempt nor a dead letter that is sent back is a
// duplicate. What a handler skipped itself ([patterns.Skip]) counts as handled.
//
// How reliable that is depends on the store. With [NewSQLStore] the handler's own writes and the
// record that the message was handled are one transaction.
//
// A message without an id, as programs without Motif may send, is handled each time. Give Once
// last, so that it is next to the handler. It is no option of [patterns.RPC.Serve],
// because a store does not keep replies. With an SQLStore it is not for batches
// ([patterns.WorkQueue.WorkBatch]): messages go back to their place, and the log says why.
func Once(store Store) patterns.FailureOption {
	if store == nil {
		return patterns.Options(patterns.WithMiddleware(nil))
	}
	return patterns.Options(patterns.WithMiddleware(func(next message.HandlerFunc) message.HandlerFunc {
		private := rand.Text()
		return func(m *message.Message) ([]*message.Message, error) {
			whole := m.Context()
			d, _ := patterns.DeliveryFrom(whole)
			key := Key{Queue: d.Queue, ID: m.UUID}
			if key.Queue == "" {
				key.Queue = private
			}
			var produced []*message.Message
			var skipped error
			err := store.Do(whole, key, func(ctx context.Context) (err error) {
				m.SetContext(ctx)
				defer m.SetContext(whole)
				if produced, err = next(m); errors.Is(err, patterns.ErrSkipped) {
					skipped, err = err, nil
				}
				return err
			})
			switch {
			case errors.Is(err, ErrDuplicate):
				return nil, patterns.Skip(err)
			case err == nil:
				err = skipped
			}
			return produced, err
		}
	}))
}
