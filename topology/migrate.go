package topology

import (
	"context"
	"fmt"

	"github.com/motifmq/motif/adapters"
)

// Migrator is implemented by drivers that can move a queue to other properties while it is
// published to: of Motif's, that of RabbitMQ. The driver's methods say what they need, and what may
// go otherwise than straight.
type Migrator interface {
	// PrepareMigration makes what publishers need before the queue of s can be moved.
	PrepareMigration(ctx context.Context, s adapters.Source) error

	// Migrate gives the queue of s the properties that s has, and keeps what is in it. After an
	// error, or a kill, it goes on when it is called again. step may be nil.
	Migrate(ctx context.Context, s adapters.Source, step func(string)) error

	// FinishMigration removes what PrepareMigration has made.
	FinishMigration(ctx context.Context, s adapters.Source) error
}

// Prepare prepares a queue of t to be moved: see the driver's PrepareMigration. An adapter that
// cannot is adapters.ErrUnsupported, here and below.
func (t Topology) Prepare(ctx context.Context, d adapters.Driver, queue string) error {
	m, s, err := t.migrator(d, queue)
	if err != nil {
		return err
	}
	return m.PrepareMigration(ctx, s)
}

// Migrate moves a queue, which exists with other properties, to those that t has: see the driver's
// Migrate. step is told what comes next, and may be nil. After an error call it again.
func (t Topology) Migrate(ctx context.Context, d adapters.Driver, queue string, step func(string)) error {
	m, s, err := t.migrator(d, queue)
	if err != nil {
		return err
	}
	return m.Migrate(ctx, s, step)
}

// Finish cleans up once nobody uses what Prepare has made: see the driver's FinishMigration.
func (t Topology) Finish(ctx context.Context, d adapters.Driver, queue string) error {
	m, s, err := t.migrator(d, queue)
	if err != nil {
		return err
	}
	return m.FinishMigration(ctx, s)
}

func (t Topology) migrator(d adapters.Driver, queue string) (Migrator, adapters.Source, error) {
	s, err := t.Source(queue)
	if err != nil {
		return nil, s, err
	}
	m, ok := d.(Migrator)
	if !ok {
		return nil, s, fmt.Errorf("topology: %w: adapter %s cannot move a queue", adapters.ErrUnsupported, d.Features().Adapter)
	}
	return m, s, nil
}
