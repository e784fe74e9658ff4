package memory

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

var body = make([]byte, 256)

const id = "0193f5a0-1111-7000-8000-000000000000"

// BenchmarkBareChannel is what BenchmarkSeam is measured by.
func BenchmarkBareChannel(b *testing.B) {
	b.ReportAllocs()
	ch := make(chan *message.Message, 256)
	go func() {
		for range b.N {
			ch <- message.NewMessage(id, body)
		}
	}()
	b.ResetTimer()
	for range b.N {
		(<-ch).Ack()
	}
}

func BenchmarkSeam(b *testing.B) {
	b.ReportAllocs()
	ctx := context.Background()
	broker := New()
	defer broker.Close()
	var c adapters.Driver = broker.Connect()
	sub, err := c.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Prefetch: 256})
	if err != nil {
		b.Fatal(err)
	}
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}}
	const window = 128
	credit := make(chan struct{}, 2) // bounds what is under way, as the channel's capacity does
	credit <- struct{}{}
	b.ResetTimer()
	go func() {
		for i := range b.N {
			if i%window == 0 {
				<-credit
			}
			if err := c.Publish(ctx, p, message.NewMessage(id, body)); err != nil {
				panic(err)
			}
		}
	}()
	for i := range b.N {
		if i%window == 0 {
			credit <- struct{}{}
		}
		d, err := sub.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Settle(ctx, adapters.Ack); err != nil {
			b.Fatal(err)
		}
	}
}
