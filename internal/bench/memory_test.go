package main

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

const (
	id     = "0193f5a0-1111-7000-8000-000000000000"
	window = 256 // most messages under way, here and there
)

var (
	body  = make([]byte, 256)
	queue = adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}
)

// pairs runs ours and theirs in turn, n operations each, and reports the
// median time of each and of their ratio.
func pairs(b *testing.B, n int, ours, theirs func(n int) time.Duration) (our, their time.Duration, ratio float64) {
	b.Helper()
	const count = 9
	ours(n / 4) // to warm up
	theirs(n / 4)
	var a, z []time.Duration
	var ratios []float64
	for range count {
		a, z = append(a, ours(n)), append(z, theirs(n))
		ratios = append(ratios, float64(a[len(a)-1])/float64(z[len(z)-1]))
	}
	slices.Sort(a)
	slices.Sort(z)
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op") // of the whole: means nothing
	return a[count/2] / time.Duration(n), z[count/2] / time.Duration(n), ratios[count/2]
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func connect(b *testing.B) (*memory.Broker, *memory.Client) {
	broker := memory.New()
	b.Cleanup(broker.Close)
	return broker, broker.Connect()
}

// overChannel carries watermill messages from one goroutine to another over a
// Go channel.
func overChannel(payload []byte) func(n int) time.Duration {
	return func(n int) time.Duration {
		start := time.Now()
		ch := make(chan *message.Message, window)
		go func() {
			for range n {
				ch <- message.NewMessage(id, payload)
			}
		}()
		for range n {
			(<-ch).Ack()
		}
		return time.Since(start)
	}
}

// overSeam carries them through the broker: published, confirmed, delivered
// and acknowledged. Like the channel, no more than window wait.
func overSeam(b *testing.B, payload []byte) func(n int) time.Duration {
	_, c := connect(b)
	ctx := context.Background()
	sub, err := c.Subscribe(ctx, adapters.Source{Endpoint: queue, Prefetch: window})
	must(b, err)
	return func(n int) time.Duration {
		start := time.Now()
		credit := make(chan struct{}, 2)
		failed := make(chan error, 1)
		go func() {
			for i := range n {
				if i%(window/2) == 0 {
					credit <- struct{}{}
				}
				if err := c.Publish(ctx, adapters.Publication{To: queue}, message.NewMessage(id, payload)); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		for i := range n {
			d, err := sub.Receive(ctx)
			must(b, err)
			must(b, d.Settle(ctx, adapters.Ack))
			if i%(window/2) == window/2-1 {
				<-credit
			}
		}
		must(b, <-failed)
		return time.Since(start)
	}
}

// Publish to ack at the seam. At least 0.5 of the channel's speed.
func BenchmarkMemorySeam(b *testing.B) {
	for range b.N {
		ours, theirs, ratio := pairs(b, 200_000, overSeam(b, body), overChannel(body))
		b.ReportMetric(float64(ours), "ns/message")
		b.ReportMetric(float64(theirs), "channel-ns/message")
		b.ReportMetric(1/ratio, "x-channel-speed")
	}
}

type ticket struct {
	ID       string   `json:"id"`
	Customer string   `json:"customer"`
	Dishes   []string `json:"dishes"`
	Cents    int      `json:"cents"`
}

// A typed work queue with JSON. At most 2 times marshalling, unmarshalling and
// the seam.
func BenchmarkMemoryWorkQueueJSON(b *testing.B) {
	v := ticket{"o-1", "Ada Lovelace", []string{"pad thai", "green curry", "mango sticky rice"}, 2790}
	data, err := json.Marshal(v)
	must(b, err)
	for range b.N {
		_, c := connect(b)
		bus := patterns.New(c)
		q := patterns.NewWorkQueue[ticket](bus, "orders")
		ctx := context.Background()
		handled := make(chan struct{}, window)
		_, err := q.Work(ctx, func(context.Context, ticket) error { handled <- struct{}{}; return nil }, patterns.Prefetch(window))
		must(b, err)
		typed := func(n int) time.Duration {
			start := time.Now()
			sent := make(chan error, 1)
			credit := make(chan struct{}, 2)
			go func() {
				for i := range n {
					if i%(window/2) == 0 {
						credit <- struct{}{}
					}
					if err := q.Send(ctx, v); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			for i := range n {
				<-handled
				if i%(window/2) == window/2-1 {
					<-credit
				}
			}
			must(b, <-sent)
			return time.Since(start)
		}
		seam := overSeam(b, data)
		parts := func(n int) time.Duration {
			start := time.Now()
			for range n {
				data, err := json.Marshal(v)
				must(b, err)
				var back ticket
				must(b, json.Unmarshal(data, &back))
			}
			return time.Since(start) + seam(n)
		}
		ours, theirs, ratio := pairs(b, 50_000, typed, parts)
		b.ReportMetric(float64(ours), "ns/message")
		b.ReportMetric(float64(theirs), "json+seam-ns/message")
		b.ReportMetric(ratio, "x-json+seam-cost")
		must(b, bus.Close(ctx))
	}
}

// A publish to a topic exchange with 10,000 bindings, one of which matches,
// beside one to a queue. Under 10 us.
func BenchmarkMemoryTopic10000(b *testing.B) {
	for range b.N {
		_, c := connect(b)
		ctx := context.Background()
		news := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
		sources := []adapters.Source{{Endpoint: queue}}
		for g := range 100 {
			s := adapters.Source{Endpoint: news, Group: fmt.Sprint("g", g)}
			for k := range 100 {
				s.Keys = append(s.Keys, fmt.Sprintf([]string{"r%d.s%d.*", "*.s%[2]d.x%[1]d", "r%d.#.t%d"}[k%3], g, k))
			}
			sources = append(sources, s)
		}
		for _, s := range sources {
			must(b, c.Declare(ctx, s))
		}
		m := message.NewMessage(id, body)
		publish := func(p adapters.Publication) func(n int) time.Duration {
			return func(n int) time.Duration {
				start := time.Now()
				for range n {
					must(b, c.Publish(ctx, p, m))
				}
				elapsed := time.Since(start)
				for _, s := range sources {
					_, err := c.Broker().Purge(s.QueueName())
					must(b, err)
				}
				return elapsed
			}
		}
		ours, theirs, ratio := pairs(b, 20_000,
			publish(adapters.Publication{To: news, Key: "r7.s3.t1", Mandatory: true}), publish(adapters.Publication{To: queue}))
		b.ReportMetric(float64(ours), "ns/publish")
		b.ReportMetric(float64(theirs), "queue-ns/publish")
		b.ReportMetric(ratio, "x-queue-cost")
	}
}

// A million messages of 256 bytes that wait. Under 1 KiB each, beside the same
// as watermill messages in a slice.
func BenchmarkMemoryWaiting(b *testing.B) {
	const n = 1_000_000
	for range b.N {
		_, c := connect(b)
		ctx := context.Background()
		must(b, c.Declare(ctx, adapters.Source{Endpoint: queue}))
		before := heap()
		for range n {
			must(b, c.Publish(ctx, adapters.Publication{To: queue}, message.NewMessage(id, body)))
		}
		ours := heap() - before
		_, err := c.Broker().Purge("orders")
		must(b, err)
		after := heap()

		plain := make([]*message.Message, 0, n)
		for range n {
			plain = append(plain, message.NewMessage(id, slices.Clone(body)))
		}
		theirs := heap() - after
		runtime.KeepAlive(plain)
		b.ReportMetric(float64(ours)/n, "B/message")
		b.ReportMetric(float64(theirs)/n, "slice-B/message")
		b.ReportMetric(float64(int64(after)-int64(before))/n, "B/message-purged")
		b.ReportMetric(0, "ns/op")
	}
}

// A thousand subscriptions of one worker.
func BenchmarkMemorySubscriptions(b *testing.B) {
	const n = 1000
	for range b.N {
		_, c := connect(b)
		bus := patterns.New(c)
		ps := patterns.NewPubSub[int](bus, "ticks")
		goroutines, before := runtime.NumGoroutine(), heap()
		for range n {
			_, err := ps.Subscribe(context.Background(), func(context.Context, int) error { return nil })
			must(b, err)
		}
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/n, "goroutines/subscription")
		b.ReportMetric(float64(heap()-before)/n, "B/subscription")
		b.ReportMetric(0, "ns/op")
		must(b, bus.Close(context.Background()))
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
