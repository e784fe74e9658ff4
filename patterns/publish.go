package patterns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// sender publishes values to one endpoint: what all patterns but RPC have in
// common.
type sender struct {
	bus        *Bus
	to         adapters.Endpoint
	ownCodecs  *codecs         // nil: the bus's
	source     adapters.Source // of a work queue: what to declare before the first send
	err        error           // of the pattern's options
	partitions *partitions     // of which source is one, or nil
}

func (s *sender) codecs() *codecs {
	if s.ownCodecs != nil {
		return s.ownCodecs
	}
	return s.bus.codecs
}

// configure works out how to publish, or says why not.
func (s *sender) configure(ctx context.Context, key string, opts []PublishOption) (cfg publishConfig, err error) {
	if err := s.bus.ready(ctx); err != nil {
		return cfg, err
	}
	if s.err != nil {
		return cfg, s.err
	}
	if len(opts) > 0 {
		var given publishConfig // on the heap, where cfg need not be
		if err := apply(opts, func(o PublishOption) error { return o.applyPublish(&given) }); err != nil {
			return cfg, err
		}
		cfg = given
	}
	if s.to.Kind.UsesKeys() {
		if err := checkKey(key); err != nil {
			return cfg, err
		}
	}
	if cfg.codecs, err = s.codecs().with(cfg.encoding); err != nil {
		return cfg, err
	}
	cfg.p.To, cfg.p.Key, cfg.p.ContentType, cfg.p.ContentEncoding = s.to, key, cfg.codecs.contentType, string(cfg.codecs.coding)
	if s.to.Kind == adapters.Queue && cfg.p.Delay == 0 && s.bus.features.Ability.Has(adapters.CanReturn) {
		cfg.p.Mandatory = true
	}
	if limit := s.bus.features.MaxDelay; limit > 0 && cfg.p.Delay > limit {
		return cfg, invalid("delay of %v, at most %v is possible", cfg.p.Delay, limit)
	}
	if s.source.Name != "" && !s.source.Passive && s.source.Queue.MaxPriority == 0 && cfg.p.Priority > 0 {
		return cfg, invalid("Priority(%d) to queue %q, which has no MaxPriority: it would overtake nothing", cfg.p.Priority, clip(s.source.Name, 64))
	}
	cfg.typeGiven = cfg.p.Type != ""
	if cfg.received != nil {
		cfg.applyReceived()
	}
	if cfg.p.UniqueFor > 0 && cfg.id == "" {
		return cfg, invalid("UniqueFor(%v) without a MessageID: what would it be the same as?", cfg.p.UniqueFor)
	}
	if err := cfg.p.Validate(); err != nil {
		return cfg, err
	}
	return cfg, s.bus.features.Require(cfg.p.Needs())
}

// encode makes the message for a value.
func (s *sender) encode(cfg *publishConfig, v any) (*message.Message, error) {
	if cfg.received != nil {
		return encodeReceived(cfg, v)
	}
	payload, err := cfg.codecs.marshal(v)
	if err != nil {
		return nil, err
	}
	return s.bus.message(cfg.id, payload, cfg.headers), nil
}

// encodeOne is encode for the only message of a publish, whose properties may depend on the value.
func (s *sender) encodeOne(cfg *publishConfig, v any) (m *message.Message, err error) {
	if cfg.codecs.isPlain() {
		return s.encode(cfg, v)
	}
	if cfg.p, m, err = s.sealOne(cfg, v); err == nil {
		err = cfg.p.Validate()
	}
	return m, err
}

// encodeAll makes the messages for several, or none if one cannot be made.
func (s *sender) encodeAll(cfg *publishConfig, values []any, room []*message.Message) (msgs []*message.Message, err error) {
	if (cfg.id != "" || cfg.received != nil) && len(values) > 1 {
		return nil, invalid("one message id for %d messages", len(values))
	}
	if msgs = room; len(values) != len(room) {
		msgs = make([]*message.Message, len(values))
	}
	for i, v := range values {
		if msgs[i], err = s.encode(cfg, v); err != nil {
			if len(values) > 1 {
				err = fmt.Errorf("message %d: %w", i, err)
			}
			return nil, err
		}
	}
	return msgs, nil
}

// declare makes the queue of a work queue exist.
func (s *sender) declare(ctx context.Context) error {
	if s.source.Name == "" {
		return nil
	}
	if s.partitions != nil {
		if err := s.partitions.check(ctx, s.bus); err != nil {
			return err
		}
	}
	err := s.bus.declareOnce(ctx, s.source)
	if errors.Is(err, adapters.ErrAccess) && s.bus.features.Ability.Has(adapters.CanReturn) {
		return nil // it may be there: who may send to it need not be allowed to declare it; else the message is returned
	}
	return err
}

// message makes a message of its own headers map, which drivers only read.
func (b *Bus) message(id string, payload []byte, headers map[string]string) *message.Message {
	if id == "" {
		id = newID()
	}
	return &message.Message{UUID: id, Payload: payload, Metadata: headers}
}

// newID returns 26 random letters and digits. An id has to be unique, not a
// secret: this source has 128 good bits at a tenth of the cost of those that
// are. It is no longer than that because the properties of most messages then
// fit in 64 bytes, past which RabbitMQ takes 5% longer over a small message.
func newID() string {
	const digits = "abcdefghijklmnopqrstuvwxyz234567" // base32, 5 bits each
	var text [26]byte
	for half := range 2 {
		bits := rand.Uint64()
		for i := range len(text) / 2 {
			text[half*len(text)/2+i] = digits[bits&31]
			bits >>= 5
		}
	}
	return string(text[:])
}

func (s *sender) send(ctx context.Context, key string, opts []PublishOption, values ...any) error {
	return s.publishError(s.sendNow(ctx, key, opts, values))
}

func (s *sender) sendNow(ctx context.Context, key string, opts []PublishOption, values []any) error {
	cfg, err := s.configure(ctx, key, opts)
	if err != nil {
		return err
	}
	if !cfg.codecs.isPlain() {
		runs, err := s.sealAll(&cfg, values)
		if err != nil {
			return err
		}
		return s.sendRuns(ctx, &cfg, runs)
	}
	var parcel struct { // one allocation
		ctx publishContext
		one [1]*message.Message
	}
	msgs, err := s.encodeAll(&cfg, values, parcel.one[:])
	if err != nil {
		return err
	}
	return s.sendMessages(ctx, &cfg, msgs, &parcel.ctx)
}

// sendMessages sends messages that have all their properties in common, in a ctx that try becomes.
func (s *sender) sendMessages(ctx context.Context, cfg *publishConfig, msgs []*message.Message, try *publishContext) (err error) {
	var o *observation
	if s.bus.hooks != nil {
		o = s.bus.hooks.observe(ctx, CausePublish, cfg.p, msgs)
	}
	if store := storeOf(ctx); store != nil {
		err = s.store(ctx, store, cfg, msgs)
	} else if cfg.waitForRoom {
		err = s.sendWithRoom(ctx, cfg, msgs)
	} else {
		try.init(ctx, &s.bus.timeout)
		defer try.end()
		err = s.publish(try, cfg, msgs)
	}
	o.end(err)
	return err
}

// sendWithRoom sends a message again and again until the queue has room for it.
func (s *sender) sendWithRoom(ctx context.Context, cfg *publishConfig, msgs []*message.Message) error {
	switch {
	case len(msgs) > 1:
		return invalid("WaitForRoom with a batch")
	case s.neverRefuses():
		return invalid("WaitForRoom to queue %q, which has no MaxLength, or DropOldest: it never refuses", clip(s.to.Name, 64))
	case s.to.Kind != adapters.Queue:
		return invalid("WaitForRoom with a %s: each attempt would be another copy for the queues that have room", s.to.Kind)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		var try publishContext
		try.init(ctx, &s.bus.timeout)
		err := s.publish(&try, cfg, msgs)
		try.end()
		if !errors.Is(err, adapters.ErrNacked) {
			return err
		}
		if sleep(ctx, wait+rand.N(wait)) != nil {
			return fmt.Errorf("%w while held back: %w", ctx.Err(), err)
		}
	}
}

// neverRefuses reports whether a work queue never refuses a message.
func (s *sender) neverRefuses() bool {
	q := s.source.Queue
	return s.source.Name != "" && !s.source.Passive && (q.MaxLength == 0 || q.Overflow == adapters.DropHead)
}

// publish makes the queue exist and gives it the messages.
func (s *sender) publish(ctx context.Context, cfg *publishConfig, msgs []*message.Message) error {
	if err := s.declare(ctx); err != nil {
		return err
	}
	err := s.bus.driver.Publish(ctx, cfg.p, msgs...)
	if s.source.Name != "" && errors.Is(err, adapters.ErrUnroutable) {
		err = s.republish(ctx, cfg, msgs, err)
	}
	if len(msgs) == 1 {
		err = singleError(err)
	}
	return err
}

// republish is for a queue that somebody deleted since it was declared. What
// was unroutable is certainly not stored: it declares again, and sends that again.
func (s *sender) republish(ctx context.Context, cfg *publishConfig, msgs []*message.Message, err error) error {
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		return err
	}
	var again []*message.Message
	var rest, indexes []adapters.FailedMessage
	for _, f := range failed.Failed {
		if errors.Is(f.Err, adapters.ErrUnroutable) {
			again, indexes = append(again, msgs[f.Index]), append(indexes, f)
		} else {
			rest = append(rest, f)
		}
	}
	s.bus.forget(s.source)
	if err2 := s.bus.declareOnce(ctx, s.source); err2 != nil {
		return fmt.Errorf("%w, and not declared again: %w", err, err2)
	}
	if err2 := s.bus.driver.Publish(ctx, cfg.p, again...); err2 != nil {
		failed, ok := errors.AsType[*adapters.PublishError](err2)
		if !ok {
			return fmt.Errorf("%w, and not sent again: %w", err, err2)
		}
		for _, f := range failed.Failed {
			f.Index = indexes[f.Index].Index
			rest = append(rest, f)
		}
	}
	if len(rest) == 0 {
		return nil
	}
	slices.SortFunc(rest, func(a, b adapters.FailedMessage) int { return a.Index - b.Index })
	return &adapters.PublishError{Failed: rest}
}

func (s *sender) publishError(err error) error {
	if err == nil {
		return nil // which costs nothing
	}
	return opError("publish to "+patternNames[s.to.Kind], s.to.Name, err)
}

var patternNames = map[adapters.Kind]string{
	adapters.Queue: "work queue", adapters.Fanout: "PubSub", adapters.Direct: "Routed", adapters.Topic: "Topic", adapters.Exchange: "Exchange",
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func toAny[T any](values []T) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = v
	}
	return out
}
