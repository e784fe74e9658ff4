package memory

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// What is carried: new messages of 256 bytes, at most window of them under way.
const window = 256

var body = make([]byte, 256)

func newMessage() *message.Message {
	return message.NewMessage("0193f5a0-1111-7000-8000-000000000000", body)
}

// overChannel carries n messages over a Go channel.
func overChannel(n int) {
	ch := make(chan *message.Message, window)
	go func() {
		for range n {
			ch <- newMessage()
		}
	}()
	for range n {
		(<-ch).Ack()
	}
}

// overSeam publishes, receives and acknowledges n messages that next makes.
func overSeam(b *testing.B, d adapters.Driver, sub adapters.Subscription, n int, next func() *message.Message) {
	credit := make(chan struct{}, 2)
	go func() {
		for i := range n {
			if i%(window/2) == 0 {
				credit <- struct{}{}
			}
			if err := d.Publish(ctx, toQueue("q"), next()); err != nil {
				b.Error(err)
			}
		}
	}()
	for i := range n {
		d, err := sub.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Settle(ctx, adapters.Ack); err != nil {
			b.Fatal(err)
		}
		if i%(window/2) == window/2-1 {
			<-credit
		}
	}
}

// BenchmarkBareChannel is what BenchmarkSeam is measured by.
func BenchmarkBareChannel(b *testing.B) {
	b.ReportAllocs()
	overChannel(b.N)
}

// BenchmarkSeam carries messages through the broker, and reports how fast that is
// beside a bare channel in the same minute. A channel hands its messages over and
// needs a new one each time; a publisher keeps its own and may do without.
func BenchmarkSeam(b *testing.B) {
	same := newMessage()
	b.Run("new-messages", func(b *testing.B) { benchmarkSeam(b, newMessage) })
	b.Run("same-message", func(b *testing.B) { benchmarkSeam(b, func() *message.Message { return same }) })
}

func benchmarkSeam(b *testing.B, next func() *message.Message) {
	_, c := connect(b)
	sub := subscribe(b, c, fromQueue("q", window))
	const block = 10_000 // short enough that both see the same noise
	var bare, ours time.Duration
	b.ReportAllocs()
	for left := b.N; left > 0; left -= block {
		n := min(left, block)
		start := time.Now()
		overSeam(b, c, sub, n, next)
		ours += time.Since(start)
		b.StopTimer()
		start = time.Now()
		overChannel(n)
		bare += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(bare)/float64(ours), "x-bare-channel")
}

// BenchmarkTopic10000 publishes to an exchange with 10,000 bindings, of which
// one matches, and no consumer.
func BenchmarkTopic10000(b *testing.B) {
	_, c := connect(b)
	for i := range 10_000 {
		pattern := [...]string{"a%d.*.b", "*.k%d.#", "#.c%d", "d%d.#.e"}[i%4]
		declare(b, c, from(adapters.Topic, fmt.Sprint(i/100), fmt.Sprintf(pattern, i)))
	}
	m := newMessage()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Publish(ctx, to(adapters.Topic, "x.k5001.y.z"), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFanout100 copies each message to 100 private queues.
func BenchmarkFanout100(b *testing.B) {
	_, c := connect(b)
	for range 100 {
		subscribe(b, c, from(adapters.Fanout, ""))
	}
	m := newMessage()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Publish(ctx, to(adapters.Fanout, ""), m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWaiting measures what a message costs that waits among a million.
func BenchmarkWaiting(b *testing.B) {
	for b.Loop() {
		broker, c := connect(b)
		declare(b, c, fromQueue("q", 1))
		const n = 1_000_000
		before := heapInUse()
		m := newMessage()
		for range n {
			if err := c.Publish(ctx, toQueue("q"), m); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heapInUse()-before)/n, "B/message")
		if _, err := broker.Purge("q"); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(max(0, float64(heapInUse()-before))/n, "B/message-after")
	}
}

// BenchmarkSubscription measures what an idle subscription costs.
func BenchmarkSubscription(b *testing.B) {
	_, c := connect(b)
	before, goroutines := heapInUse(), runtime.NumGoroutine()
	for range b.N {
		subscribe(b, c, from(adapters.Fanout, ""))
	}
	b.ReportMetric(float64(heapInUse()-before)/float64(b.N), "B/subscription")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(b.N), "goroutines/subscription")
}

func heapInUse() float64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // a second time for what the first found in pools
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
