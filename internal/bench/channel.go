package main

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// bareChannel carries watermill messages over a Go channel, which keeps as many
// as the broker's consumer does.
func bareChannel(_ context.Context, r *Run) error {
	return channel(r, func(m *message.Message) { m.Ack() })
}

// copyingChannel copies each message for its receiver: whoever may have to deliver it
// again cannot do without.
func copyingChannel(_ context.Context, r *Run) error {
	type copied struct { // what takes the fewest allocations
		message message.Message
		payload [small]byte
	}
	return channel(r, func(m *message.Message) {
		c := new(copied)
		c.message.UUID, c.message.Metadata = m.UUID, make(message.Metadata)
		c.message.Payload = c.payload[:copy(c.payload[:], m.Payload)]
		received = &c.message
	})
}

var received *message.Message //nolint:unused // written, so that the compiler keeps what is measured

func channel(r *Run, receive func(*message.Message)) error {
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
		receive(<-ch)
	}
	r.Stop()
	return nil
}
