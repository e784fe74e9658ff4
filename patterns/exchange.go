package patterns

import (
	"context"
	"fmt"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// exchange is what PubSub, Routed and Topic have in common.
type exchange[T any] struct{ sender }

func newExchange[T any](b *Bus, kind adapters.Kind, name string, opts []ExchangeOption) exchange[T] {
	e := exchange[T]{sender{bus: b, to: adapters.Endpoint{Kind: kind, Name: name}}}
	if len(opts) == 0 {
		return e
	}
	var cfg encodingConfig
	e.err = apply(opts, func(o ExchangeOption) error { return o.applyExchange(&cfg) })
	if e.err == nil {
		e.ownCodecs, e.err = ownCodecs[T](b, cfg)
	}
	return e
}

// ownCodecs returns the codecs of a pattern whose options say cfg.
func ownCodecs[T any](b *Bus, cfg encodingConfig) (*codecs, error) {
	if b == nil || b.codecs == nil { // the first verb says what is wrong with the bus
		return nil, nil
	}
	c, err := b.codecs.with(cfg)
	if err == nil {
		err = fits[T](c)
	}
	return c, err
}

// as returns e, or of a zero value, which does not know what it is, one that does for its errors.
func (e *exchange[T]) as(kind adapters.Kind) *exchange[T] {
	if e.bus != nil {
		return e
	}
	return &exchange[T]{sender{to: adapters.Endpoint{Kind: kind, Name: e.to.Name}}}
}

// opError says for which group of e a verb failed with err.
func (e *exchange[T]) opError(verb, group string, err error) error {
	if err != nil && group != "" {
		err = fmt.Errorf("group %q: %w", clip(group, 64), err)
	}
	return opError(verb+" "+patternNames[e.to.Kind], e.to.Name, err)
}

// configure turns the options of Subscribe and Declare into a plan.
func (e *exchange[T]) configure(ctx context.Context, keys []string, options func(*subscribeConfig) error, declare bool) (subscriptionSpec, error) {
	var cfg subscribeConfig
	if err := e.bus.ready(ctx); err != nil {
		return subscriptionSpec{}, err
	}
	if e.err != nil {
		return subscriptionSpec{}, e.err
	}
	if err := options(&cfg); err != nil {
		return subscriptionSpec{}, err
	}
	if declare && cfg.handles {
		return subscriptionSpec{}, invalid("Declare with options for handling messages, which it does not do")
	}
	for _, key := range keys {
		if err := checkBinding(e.to.Kind, key); err != nil {
			return subscriptionSpec{}, err
		}
	}
	codecs, err := e.codecs().with(cfg.encoding)
	if err != nil {
		return subscriptionSpec{}, err
	}
	spec := subscriptionSpec{codecs: codecs, source: adapters.Source{Endpoint: e.to, Group: cfg.group, Keys: keys}, cfg: cfg.consumeConfig}
	switch {
	case cfg.group != "":
		spec.deadLetter = cfg.queue.applyTo(&spec.source)
	case cfg.queue.set:
		return subscriptionSpec{}, invalid("queue options without Group: a private subscription has no lasting queue")
	}
	if err := cfg.queue.check(spec.source); err != nil {
		return subscriptionSpec{}, err
	}
	if e.to.Kind.UsesKeys() && len(keys) == 0 {
		return subscriptionSpec{}, invalid("no keys: a subscription of a %s says which messages it is for", patternNames[e.to.Kind])
	}
	if err := spec.source.Validate(); err != nil {
		return subscriptionSpec{}, err
	}
	return spec, e.bus.features.Require(spec.source.Needs())
}

func (e *exchange[T]) subscribe(ctx context.Context, keys []string, handler Handler[T], opts []SubscribeOption) (*Subscription, error) {
	spec, err := e.configure(ctx, keys, subscribeOptions(opts), false)
	if err == nil && handler == nil {
		err = invalid("nil handler")
	}
	spec.handler = handlerFunc(spec.codecs, handler, spec.cfg.onUnknown)
	if err == nil {
		err = checkOrder[T](&spec.cfg)
	}
	return e.start(ctx, spec, err)
}

func (e *exchange[T]) subscribeBatch(ctx context.Context, keys []string, handler BatchHandler[T], opts []SubscribeBatchOption) (*Subscription, error) {
	spec, err := e.configure(ctx, keys, func(c *subscribeConfig) error {
		return apply(opts, func(o SubscribeBatchOption) error { return o.applySubscribeBatch(c) })
	}, false)
	if err == nil && handler == nil {
		err = invalid("nil handler")
	}
	spec.gatherer = newGatherer(handler)
	spec.handler = gatherFunc[T](spec.codecs, spec.gatherer, spec.cfg.onUnknown)
	return e.start(ctx, spec, err)
}

// start begins the subscription of a plan, unless that failed with err.
func (e *exchange[T]) start(ctx context.Context, spec subscriptionSpec, err error) (sub *Subscription, _ error) {
	if err == nil {
		spec.opError = func(err error) error { return e.opError("subscription to", spec.source.Group, err) }
		sub, err = e.bus.start(ctx, spec)
	}
	return sub, e.opError("subscribe to", spec.source.Group, err)
}

func subscribeOptions(opts []SubscribeOption) func(*subscribeConfig) error {
	return func(c *subscribeConfig) error {
		return apply(opts, func(o SubscribeOption) error { return o.applySubscribe(c) })
	}
}

func (e *exchange[T]) declare(ctx context.Context, keys []string, opts []SubscribeOption) error {
	spec, err := e.configure(ctx, keys, subscribeOptions(opts), true)
	if err == nil {
		err = e.bus.driver.Declare(ctx, spec.source)
	}
	return e.opError("declare", spec.source.Group, err)
}

func (e *exchange[T]) unbind(ctx context.Context, keys []string, group string) error {
	return e.opError("unbind from", group, e.unbindNow(ctx, adapters.Source{Endpoint: e.to, Group: group, Keys: keys}))
}

func (e *exchange[T]) unbindNow(ctx context.Context, src adapters.Source) error {
	if err := e.bus.ready(ctx); err != nil {
		return err
	}
	if e.err != nil {
		return e.err
	}
	if err := src.Validate(); err != nil {
		return err
	}
	if err := e.bus.features.Require(src.Needs() | adapters.CanUnbind); err != nil {
		return err
	}
	u, ok := e.bus.driver.(adapters.Unbinder)
	if !ok {
		return &adapters.UnsupportedError{Adapter: e.bus.features.Adapter, Missing: adapters.CanUnbind}
	}
	return u.Unbind(ctx, src)
}

// checkKey refuses what a publisher can only have written by mistake.
func checkKey(key string) error {
	if key == "" {
		return invalid("empty routing key")
	}
	for word := range strings.SplitSeq(key, ".") {
		if word == "*" || word == "#" {
			return invalid("routing key %q has a wildcard, which only a subscription may", clip(key, 64))
		}
	}
	return nil
}

// checkBinding refuses what a subscriber can only have written by mistake.
func checkBinding(kind adapters.Kind, key string) error {
	if key == "" {
		return invalid("empty key")
	}
	for word := range strings.SplitSeq(key, ".") {
		switch {
		case !strings.ContainsAny(word, "*#"):
		case kind == adapters.Direct:
			return invalid("key %q has a wildcard: a Routed matches keys exactly, a Topic has patterns", clip(key, 64))
		case len(word) > 1:
			return invalid("pattern %q: a wildcard is a whole word, * for one and # for any number", clip(key, 64))
		}
	}
	return nil
}
