package patterns

import (
	"cmp"
	"context"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Outgoing is a message that is to be published, with all that a bus needs for it: it may be kept,
// and published later by another process ([Bus.PublishOutgoing]).
type Outgoing struct {
	Publication adapters.Publication
	Queue       adapters.Source // what is declared before: the queue of a WorkQueue, or with no Name nothing
	Message     *message.Message
}

// Store keeps messages instead of publishing them, as an outbox does: a table of the program's own
// database. It is safe for concurrent use, as far as what it stores into is.
type Store interface {
	// Store keeps all messages or, with an error, none of them. They are in the order of the call.
	// ctx is that of the verb.
	Store(ctx context.Context, msgs []Outgoing) error
}

type storeKey struct{}

// StoreIn returns a ctx with which the verbs that publish give their messages to s instead of the
// broker: Send and Publish, of one and of several, with all options but [WaitForRoom]. They check
// and encode as always, and call the hooks of [OnPublish], which set headers; nothing is declared,
// and the broker need not be there. nil then means that s has the messages.
//
// What the library itself sends, such as a retry or by [WorkQueue.Redrive], goes to the broker as
// always. What cannot be stored is refused as adapters.ErrInvalid: an asynchronous publish, an
// [RPC.Call], and a message [AsReceived] with properties that only its broker can express, as those
// of programs without Motif have.
func StoreIn(ctx context.Context, s Store) context.Context {
	return context.WithValue(ctx, storeKey{}, s)
}

// storeOf returns the store of ctx, or nil.
func storeOf(ctx context.Context) Store {
	s, _ := ctx.Value(storeKey{}).(Store)
	return s
}

// store gives messages to a store.
func (s *sender) store(ctx context.Context, store Store, cfg *publishConfig, msgs []*message.Message) error {
	out, err := s.outgoing(cfg, msgs)
	if err != nil {
		return err
	}
	return store.Store(ctx, out)
}

// storeRuns is store for messages of several types: all of them or none.
func (s *sender) storeRuns(ctx context.Context, store Store, cfg *publishConfig, runs []run) (err error) {
	var all []Outgoing
	for _, r := range runs {
		cfg.p = r.p
		if s.bus.hooks != nil {
			o := s.bus.hooks.observe(ctx, CausePublish, cfg.p, r.msgs)
			defer func() { o.end(err) }()
		}
		out, err := cmp.Or(r.by, s).outgoing(cfg, r.msgs)
		if err != nil {
			return err
		}
		all = append(all, out...)
	}
	return store.Store(ctx, all)
}

// outgoing makes what a store is given of messages.
func (s *sender) outgoing(cfg *publishConfig, msgs []*message.Message) ([]Outgoing, error) {
	switch {
	case cfg.waitForRoom:
		return nil, invalid("WaitForRoom with a message that is stored: whoever publishes it later waits")
	case cfg.p.Foreign != nil:
		return nil, invalid("AsReceived: this message came with properties that cannot be stored, as those of programs without Motif do")
	}
	if s.source.Name != "" {
		if err := s.source.Validate(); err != nil {
			return nil, err
		}
		if err := s.bus.features.Require(s.source.Needs()); err != nil {
			return nil, err
		}
	}
	out := make([]Outgoing, len(msgs))
	for i, m := range msgs {
		if err := adapters.ValidateMessage(m); err != nil {
			return nil, err
		}
		out[i] = Outgoing{Publication: cfg.p, Queue: s.source, Message: m}
	}
	return out, nil
}

// PublishOutgoing publishes a message that a [Store] was given, as its verb would have: it declares
// the queue first, and calls the hooks of [OnPublish], with [CauseRelay]. It does not wait for the
// broker. If it returns nil, done is called once with the outcome; if it returns an error, nothing
// was sent and done is not called. Messages that one goroutine publishes to one endpoint keep their
// order.
//
// It waits only while as many publishes are in flight as [MaxInFlight] allows, and for the
// declaration. done must not block: it may be called by the goroutine that reads from the broker,
// or before PublishOutgoing returns.
func (b *Bus) PublishOutgoing(ctx context.Context, o Outgoing, done func(error)) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	if o.Message == nil || done == nil {
		return invalid("PublishOutgoing without a message, or with nobody to tell")
	}
	if err := o.Publication.Validate(); err != nil {
		return err
	}
	if err := b.features.Require(o.Publication.Needs()); err != nil {
		return err
	}
	s := &sender{bus: b, to: o.Publication.To, source: o.Queue}
	r, m := &Receipt{s: s, told: done}, o.Message
	if b.hooks != nil {
		msgs := []*message.Message{m}
		r.observation = b.hooks.observe(ctx, CauseRelay, o.Publication, msgs)
		m = msgs[0]
	}
	err := r.publish(ctx, o.Publication, m)
	if err != nil {
		r.observation.end(err)
	}
	return s.publishError(err)
}
