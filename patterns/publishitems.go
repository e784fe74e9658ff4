package patterns

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Item is a value that is sent together with others and has options of its own, such as
// [MessageID], [Delay] or [Priority].
type Item[T any] struct {
	Key     string // the routing key, where Publish takes one; "" for a WorkQueue and a PubSub
	Value   T
	Options []PublishOption
}

// parcel is a message on its way, and how it is to be published.
type parcel struct {
	s       *sender
	cfg     publishConfig
	message *message.Message
	err     error
}

// sendItems sends each item by the sender that senderOf returns for its value, if it is not nil.
func sendItems[T any](ctx context.Context, s *sender, items []Item[T], senderOf func(T) (*sender, error)) error {
	return s.publishError(sendItemsNow(ctx, s, items, senderOf))
}

func sendItemsNow[T any](ctx context.Context, s *sender, items []Item[T], senderOf func(T) (*sender, error)) error {
	if err := s.bus.ready(ctx); err != nil {
		return err
	}
	parcels := make([]parcel, len(items))
	for i, item := range items {
		by, err := s, error(nil)
		if senderOf != nil {
			by, err = senderOf(item.Value)
		}
		if err == nil {
			err = parcels[i].pack(ctx, by, item.Key, item.Value, item.Options)
		}
		if err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	if store := storeOf(ctx); store != nil {
		return s.storeParcels(ctx, store, parcels)
	}
	return s.publishParcels(ctx, parcels)
}

func (s *sender) storeParcels(ctx context.Context, store Store, parcels []parcel) error {
	runs := make([]run, len(parcels))
	for i, p := range parcels {
		runs[i] = run{p: p.cfg.p, msgs: []*message.Message{p.message}, by: p.s}
	}
	return s.storeRuns(ctx, store, new(publishConfig), runs)
}

func (p *parcel) pack(ctx context.Context, s *sender, key string, v any, opts []PublishOption) (err error) {
	if key != "" && !s.to.Kind.UsesKeys() && s.to.Kind != adapters.Exchange {
		return invalid("key %q for a %s, which has none", clip(key, 64), patternNames[s.to.Kind])
	}
	p.s = s
	if p.cfg, err = s.configure(ctx, key, opts); err != nil {
		return err
	}
	if p.cfg.waitForRoom {
		return invalid("WaitForRoom with a batch")
	}
	p.message, err = s.encodeOne(&p.cfg, v)
	return err
}

// publishParcels has all on their way before it waits for the first.
func (s *sender) publishParcels(ctx context.Context, parcels []parcel) error {
	var whole publishContext
	whole.init(ctx, &s.bus.timeout)
	defer whole.end()
	receipts := make([]*Receipt, len(parcels))
	for i := range parcels {
		p := &parcels[i]
		receipts[i], p.err = p.s.begin(&whole, p.cfg.p, p.message)
	}
	for i, r := range receipts {
		if r == nil {
			continue
		}
		select {
		case <-r.Done():
			parcels[i].err = r.cause()
		case <-whole.Done():
			parcels[i].err = fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, whole.Err())
		}
	}
	var failed []adapters.FailedMessage
	for i := range parcels {
		p := &parcels[i]
		if p.s.source.Name != "" && errors.Is(p.err, adapters.ErrUnroutable) { // somebody deleted the queue: see republish
			p.err = p.s.publish(&whole, &p.cfg, []*message.Message{p.message})
		}
		if p.err != nil {
			failed = append(failed, adapters.FailedMessage{Index: i, UUID: p.message.UUID, Err: p.err})
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &adapters.PublishError{Failed: failed}
}
