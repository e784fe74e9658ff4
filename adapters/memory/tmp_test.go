package memory

import (
	"github.com/ThreeDotsLabs/watermill/message"
	"testing"
)

func BenchmarkSerial(b *testing.B) {
	b.ReportAllocs()
	broker := New()
	defer broker.Close()
	c := broker.Connect()
	sub := subscribe(b, c, fromQueue("orders", 256))
	p := toQueue("orders")
	for b.Loop() {
		c.Publish(ctx, p, message.NewMessage(id, body))
		d, _ := sub.Receive(ctx)
		d.Settle(ctx, 0)
	}
}
func BenchmarkSerialChan(b *testing.B) {
	b.ReportAllocs()
	ch := make(chan *message.Message, 256)
	for b.Loop() {
		ch <- message.NewMessage(id, body)
		(<-ch).Ack()
	}
}
