package main

import (
	"context"
	"errors"
	"time"

	"github.com/motifmq/motif/patterns"
)

// Order is what is to be paid.
type Order struct {
	Dish  string
	Cents int
}

// Receipt says that an order was paid.
type Receipt struct {
	Order string // its message's id
	Cents int
}

var errDeclined = errors.New("card declined")

// Bank charges the customer's card.
type Bank interface {
	// Charge returns errDeclined if it is no use to try again. With the same key it charges once.
	Charge(ctx context.Context, key string, cents int) error
}

// receiptSender is what the handler needs of a queue of receipts.
type receiptSender interface {
	Send(ctx context.Context, r Receipt, opts ...patterns.PublishOption) error
}

type billing struct {
	bank     Bank
	receipts receiptSender
}

// charge is the handler. It may be called again for the same order, so what it does has a key.
func (b *billing) charge(ctx context.Context, o Order) error {
	d, _ := patterns.DeliveryFrom(ctx)
	if o.Cents <= 0 {
		return patterns.Reject(errors.New("nothing to pay"))
	}
	if err := b.bank.Charge(ctx, d.ID, o.Cents); err != nil {
		if errors.Is(err, errDeclined) {
			return patterns.Reject(err)
		}
		return err // again in a minute
	}
	return b.receipts.Send(ctx, Receipt{Order: d.ID, Cents: o.Cents}, patterns.MessageID("receipt of "+d.ID))
}

func orderQueue(bus *patterns.Bus) *patterns.WorkQueue[Order] {
	return patterns.NewWorkQueue[Order](bus, "testing.orders")
}

func receiptQueue(bus *patterns.Bus) *patterns.WorkQueue[Receipt] {
	return patterns.NewWorkQueue[Receipt](bus, "testing.receipts")
}

// retries are the options of the service's subscription.
var retries = patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: time.Minute})

// start is the service.
func start(ctx context.Context, bus *patterns.Bus, bank Bank) (*patterns.Subscription, error) {
	b := &billing{bank: bank, receipts: receiptQueue(bus)}
	return orderQueue(bus).Work(ctx, b.charge, retries)
}
