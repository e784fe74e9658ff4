package patterns

import (
	"context"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// exchange is what PubSub, Routed and Topic have in common.
type exchange[T any] struct{ sender }

func newExchange[T any](b *Bus, kind adapters.Kind, name string) exchange[T] {
	return exchange[T]{sender{bus: b, to: adapters.Endpoint{Kind: kind, Name: name}}}
}

// configure turns the options of Subscribe and Declare into a plan.
func (e *exchange[T]) configure(ctx context.Context, keys []string, opts []SubscribeOption) (plan, error) {
	cfg := subscribeConfig{consumeConfig: defaultConsume()}
	if err := e.bus.ready(ctx); err != nil {
		return plan{}, err
	}
	if err := apply(opts, func(o SubscribeOption) error { return o.applySubscribe(&cfg) }); err != nil {
		return plan{}, err
	}
	for _, key := range keys {
		if err := checkBinding(e.to.Kind, key); err != nil {
			return plan{}, err
		}
	}
	p := plan{source: adapters.Source{Endpoint: e.to, Group: cfg.group, Keys: keys}, cfg: cfg.consumeConfig}
	switch {
	case cfg.group != "":
		p.deadLetter = cfg.queue.build(&p.source)
	case cfg.queue.set:
		return plan{}, invalid("queue options without Group: a private subscription has no lasting queue")
	}
	if err := cfg.queue.check(); err != nil {
		return plan{}, err
	}
	if e.to.Kind.UsesKeys() && len(keys) == 0 {
		return plan{}, invalid("no keys: a subscription of a %s says which messages it is for", patternNames[e.to.Kind])
	}
	if err := p.source.Validate(); err != nil {
		return plan{}, err
	}
	return p, e.bus.features.Require(p.source.Needs())
}

func (e *exchange[T]) subscribe(ctx context.Context, keys []string, handler Handler[T], opts []SubscribeOption) (*Subscription, error) {
	p, err := e.configure(ctx, keys, opts)
	if err != nil {
		return nil, err
	}
	if handler == nil {
		return nil, invalid("nil handler")
	}
	p.handler = typed(e.bus, handler)
	return e.bus.start(ctx, p)
}

func (e *exchange[T]) declare(ctx context.Context, keys []string, opts []SubscribeOption) error {
	p, err := e.configure(ctx, keys, opts)
	if err != nil {
		return err
	}
	return e.bus.driver.Declare(ctx, p.source)
}

func (e *exchange[T]) unbind(ctx context.Context, keys []string, group string) error {
	if err := e.bus.ready(ctx); err != nil {
		return err
	}
	src := adapters.Source{Endpoint: e.to, Group: group, Keys: keys}
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
