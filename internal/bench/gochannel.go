package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
)

// goChannel carries them over watermill's gochannel, window of them under way
// at most: the subscriber's buffer does not hold the publisher back.
func goChannel(ctx context.Context, r *Run) error {
	pubsub := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: window}, watermill.NopLogger{})
	defer pubsub.Close()
	messages, err := pubsub.Subscribe(ctx, "orders")
	if err != nil {
		return err
	}
	body := make([]byte, small)
	if err := r.Start(); err != nil {
		return err
	}
	credit := newCredit(r.Messages)
	failed := make(chan error, 1)
	go func() {
		failed <- credit.publish(func() error { return pubsub.Publish("orders", message.NewMessage(memoryID, body)) })
	}()
	for range r.Messages {
		(<-messages).Ack()
		credit.received()
	}
	err = <-failed
	r.Stop()
	return err
}
