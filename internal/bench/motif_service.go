package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/topology"
)

// motifDeclare declares a service: at once, as a topology, or one after another.
func motifDeclare(atOnce, exists bool) Side {
	return func(ctx context.Context, r *Run) error {
		driver, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		service := func(ctx context.Context, bus *patterns.Bus) error {
			var errs []error
			for i := range declaredQueues {
				errs = append(errs, patterns.NewWorkQueue[[]byte](bus, workName(r.Name, i)).Declare(ctx))
			}
			for i := range declaredGroups {
				errs = append(errs, patterns.NewPubSub[[]byte](bus, exchangeName(r.Name, i)).Declare(ctx, patterns.Group("g")))
			}
			return errors.Join(errs...)
		}
		declare := func() error { return service(ctx, bus) }
		if atOnce {
			declare = func() error {
				t, err := topology.Of(ctx, service)
				if err != nil {
					return err
				}
				return t.Apply(ctx, driver)
			}
		}
		if exists {
			if err := declareServiceAt(r); err != nil {
				return err
			}
		}
		if err := r.Start(); err != nil {
			return err
		}
		err = declare()
		r.Stop()
		return errors.Join(err, deleteService(r))
	}
}

func workName(run string, i int) string     { return fmt.Sprintf("%s.work%d", run, i) }
func exchangeName(run string, i int) string { return fmt.Sprintf("%s.news%d", run, i) }

// motifStart is all that a process does until it has handled its first message.
func motifStart(isNew, waits bool) Side {
	return func(ctx context.Context, r *Run) error {
		if err := r.StartWithProcess(); err != nil {
			return err
		}
		name := startName(r, isNew)
		_, bus, err := openBus(ctx, r.URL, amqp.Quorum, patterns.Bytes{})
		if err != nil {
			return err
		}
		defer bus.Close(ctx)
		queue, handled := patterns.NewWorkQueue[[]byte](bus, name), countDown(1)
		sub, err := queue.Work(ctx, func(context.Context, []byte) error { handled.one(); return nil })
		if err != nil {
			return err
		}
		if !waits {
			if err := queue.Send(ctx, make([]byte, small)); err != nil {
				return err
			}
		}
		if err := handled.wait(ctx); err != nil {
			return err
		}
		r.Stop()
		return errors.Join(sub.Stop(ctx), afterStart(r, isNew, waits))
	}
}
