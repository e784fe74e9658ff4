package main

import (
	"context"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// orderService confirms payments and tells the world. Nothing in it knows
// which services there are.
type orderService struct {
	wire
	run     string
	payment time.Duration // what confirming one takes
}

// errorCodes let the customer know what became of order-placed if the broker
// did not say that it has it.
var errorCodes = []patterns.BusOption{
	patterns.WithErrorCode("unconfirmed", adapters.ErrUnconfirmed),
	patterns.WithErrorCode("nacked", adapters.ErrNacked),
}

// order is the one step that a customer waits for.
func (s orderService) order(ctx context.Context, o Order) (Receipt, error) {
	if err := work(ctx, s.payment); err != nil {
		return Receipt{}, fmt.Errorf("payment: %w", err)
	}
	event := Placed{Run: s.run, At: time.Now(), Order: o}
	// nil means that there is a copy in the queue of every service. Mandatory:
	// if there is no service at all, nobody is told that all is well.
	if err := s.placed.Publish(ctx, event, patterns.Mandatory()); err != nil {
		return Receipt{}, err
	}
	return Receipt{OrderID: o.ID, Cents: o.Total()}, nil
}

// start answers customers until ctx ends.
func (s orderService) start(ctx context.Context) error {
	if !s.calls {
		return nil
	}
	_, err := s.place.Serve(ctx, s.order, patterns.Workers(100))
	return err
}
