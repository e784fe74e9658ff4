package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// bareChannel carries watermill messages over a Go channel, which keeps as many
// as the broker's consumer does.
func bareChannel(_ context.Context, r *Run) error {
	body := make([]byte, small)
	if err := r.Start(); err != nil {
		return err
	}
	ch := make(chan *message.Message, window)
	go func() {
		for range r.Messages {
			ch <- message.NewMessage(memoryID, body)
		}
	}()
	for range r.Messages {
		(<-ch).Ack()
	}
	r.Stop()
	return nil
}
