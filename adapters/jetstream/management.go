package jetstream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// management asks again what the server does not answer. A server says nothing to a request for
// which its cluster has no leader at the moment, as after a restart, and nothing is all that a
// client hears of it. What is asked here may be asked twice: what has been made is made already,
// and what has been deleted is not found.
type management struct{ jetstream.JetStream }

// patient calls ask until there is an answer, as long as ctx allows, or for three times apiTimeout.
func patient[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*apiTimeout)
		defer cancel()
	}
	for wait := apiTimeout / 8; ; wait *= 2 {
		attempt, cancel := context.WithTimeout(ctx, wait)
		answer, err := ask(attempt)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
}

func (m management) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return patient(ctx, func(ctx context.Context) (jetstream.Stream, error) { return m.JetStream.Stream(ctx, name) })
}

func (m management) CreateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	return patient(ctx, func(ctx context.Context) (jetstream.Stream, error) { return m.JetStream.CreateStream(ctx, c) })
}

func (m management) DeleteStream(ctx context.Context, name string) error {
	_, err := patient(ctx, func(ctx context.Context) (any, error) { return nil, m.JetStream.DeleteStream(ctx, name) })
	return err
}

func (m management) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	return patient(ctx, func(ctx context.Context) (jetstream.Consumer, error) { return m.JetStream.Consumer(ctx, stream, name) })
}

func (m management) CreateConsumer(ctx context.Context, stream string, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return patient(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return m.JetStream.CreateConsumer(ctx, stream, c)
	})
}
