package conformance

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var exchangeMutants = []mutant{
	{"drops the key on the way to an existing exchange", "exchange/as-it-stands", changing(func(p *adapters.Publication) {
		if p.To.Kind == adapters.Exchange {
			p.Key = ""
		}
	})},
	{"does not return what an existing exchange routes nowhere", "exchange/as-it-stands", changing(func(p *adapters.Publication) {
		if p.To.Kind == adapters.Exchange {
			p.Mandatory = false
		}
	})},
	{"declares an existing exchange that is missing", "exchange/missing", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			err := publish(ctx, p, msgs...)
			if p.To.Kind == adapters.Exchange && errors.Is(err, adapters.ErrNotFound) {
				p.To.Kind = adapters.Direct
				return publish(ctx, p, msgs...)
			}
			return err
		}
	}},
	{"remembers for good that an exchange was missing", "exchange/missing", func(m *mutated) {
		publish := m.publish
		var missing error
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if p.To.Kind != adapters.Exchange {
				return publish(ctx, p, msgs...)
			}
			if missing == nil {
				missing = publish(ctx, p, msgs...)
			}
			return missing
		}
	}},
}
