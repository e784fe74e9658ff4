package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var secretMutants = []mutant{
	{"repeats its URL in errors", "secret/never-shown", func(m *mutated) {
		publish := m.publish
		m.publish = func(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
			if err := publish(ctx, p, msgs...); err != nil {
				return fmt.Errorf("publishing to amqp://me:%s@host/: %w", secret, err)
			}
			return nil
		}
	}},
	{"has its URL in an error that it wraps", "secret/never-shown", func(m *mutated) {
		declare := m.declare
		m.declare = func(ctx context.Context, s adapters.Source) error {
			if err := declare(ctx, s); err != nil {
				return &quiet{errors.Join(err, errors.New("amqp://me:correct%20horse%20battery%20staple@host/"))}
			}
			return nil
		}
	}},
	{"can be printed with its password", "secret/never-shown", func(m *mutated) { m.password = secret }},
	{"names its login as the cause of a lost session", "secret/lost-session", receiving(func(d *adapters.Delivery) {
		ctx, cancel := context.WithCancelCause(context.WithoutCancel(d.Message.Context()))
		context.AfterFunc(d.Message.Context(), func() {
			cancel(fmt.Errorf("%w: connection of me:%s", context.Cause(d.Message.Context()), secret))
		})
		d.Message.SetContext(ctx)
	})},
}

// quiet does not say what it wraps.
type quiet struct{ error }

func (quiet) Error() string    { return "it failed" }
func (q *quiet) Unwrap() error { return q.error }
