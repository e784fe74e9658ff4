package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// A queue that is published to by its name cannot be replaced without loss: RabbitMQ (3.10, 4.3)
// confirms what is on its way to a queue while that is deleted, and drops it. So whoever publishes
// to a queue that is to be moved does it by way of an exchange, the detour, from which Migrate
// leads it elsewhere.

const migratePrefix = "motif.migrate." // of the names of all that a migration needs

// Names of a queue's detour, and of the exchange that gets what the detour has no queue for.
func detourOf(queue string) string { return migratePrefix + queue }
func restOf(queue string) string   { return migratePrefix + queue + ".rest" }

// migrates reports whether a queue is one that is being moved.
func (c *Config) migrates(queue string) bool {
	return len(c.Migrating) > 0 && slices.Contains(c.Migrating, queue)
}

// takeDetour leads a publish to a queue over the queue's detour.
func (r *route) takeDetour() {
	r.exchange, r.detour = detourOf(r.p.To.Name), true
	r.p.Mandatory = true // while the detour leads nowhere it is held back
}

// detourPause is the wait between two looks at a queue that is being moved.
const detourPause = 5 * time.Millisecond

// publishDetoured publishes a message to a queue that is being moved. While it leads nowhere, which
// takes a moment at the end of the move, the message is held back. If time is up then, the error
// says so, unless it is not known any more whether the message was stored.
func (d *Driver) publishDetoured(ctx context.Context, r *route, m *message.Message) error {
	var nowhere error // what became of the attempt before
	for {
		err := d.publishDirectly(ctx, r, m)
		switch {
		case errors.Is(err, adapters.ErrUnroutable):
			nowhere = err
			if sleep(ctx, detourPause) {
				continue
			}
			err = ctx.Err()
		case err == nil, nowhere == nil:
			return err
		case errors.Is(err, adapters.ErrUnconfirmed):
			return fmt.Errorf("amqp: queue %q is being moved: %w (before: %v)", clip(r.p.To.Name), err, nowhere) //nolint:errorlint // wrapped, it would say that the message was not stored
		}
		return fmt.Errorf("amqp: queue %q is being moved: %w (%w)", clip(r.p.To.Name), nowhere, err)
	}
}

// declareMigrating looks for a queue that is being moved, whatever its properties. In the moment in
// which it is missing it is waited for.
func (conn *connection) declareMigrating(ch *amqp091.Channel, src adapters.Source) error {
	if src.Kind.IsExchange() {
		if err := conn.declareExchange(ch, src.Endpoint); err != nil {
			return err
		}
	}
	_, err := conn.passive(ch, src.QueueName())
	if err != nil && errors.Is(sentinel(err), adapters.ErrNotFound) && sleep(conn.ctx, detourPause) {
		return errDeclareAgain
	}
	return err
}
