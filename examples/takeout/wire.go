package main

import (
	"context"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// wire is all that the parts of the system know of each other. The order
// service does not know who takes order-placed, and the services do not know
// who counts what they did.
type wire struct {
	place  *patterns.RPC[Order, Receipt] // customers ask the order service
	placed *patterns.PubSub[Placed]      // it tells whoever cares
	done   *patterns.PubSub[Done]        // services tell what they did

	// Whether the broker carries calls. Else customers ask by calling a function: they are where
	// the order service is.
	calls bool
}

func newWire(bus *patterns.Bus) wire {
	return wire{
		place:  patterns.NewRPC[Order, Receipt](bus, "place-order"),
		placed: patterns.NewPubSub[Placed](bus, "order-placed"),
		done:   patterns.NewPubSub[Done](bus, "order-done"),
		calls:  bus.Driver().Features().Ability.Has(adapters.CanReply),
	}
}

// Receipt is the order service's answer to a customer.
type Receipt struct {
	OrderID string `json:"order_id"`
	Cents   int    `json:"cents"`
}

// Placed is the event order-placed.
type Placed struct {
	Run   string    `json:"run"` // of the order service: a broker may still hold orders of another evening
	At    time.Time `json:"at"`
	Order Order     `json:"order"`
}

// Done is the event that a service has handled an order.
type Done struct {
	Run     string        `json:"run"`
	Service string        `json:"service"`
	OrderID string        `json:"order_id"`
	Worked  time.Duration `json:"worked"` // how long the service took over it
	After   time.Duration `json:"after"`  // how long after it was placed it was done
}

// work stands for what a service really does.
func work(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
