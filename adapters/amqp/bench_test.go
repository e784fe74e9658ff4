package amqp

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// The baseline of each benchmark is amqp091-go used by hand, as well as that
// can be done without what this package does: pipelined, and with
// acknowledgements one by one. cpu-us/op is the client's own time.

const window = 256 // messages under way

var (
	benchBody = make([]byte, 256)
	benchIDs  = ids("0123456789abcdef-", 2*window) // as messages have them, no two in flight the same
	benchNext atomic.Uint64
)

func benchID() string { return benchIDs[benchNext.Add(1)%uint64(len(benchIDs))] }

func benchMessage() *message.Message {
	return &message.Message{UUID: benchID(), Payload: benchBody}
}

func measure(b *testing.B, run func(n int)) {
	runtime.GC()
	before := cpuTime()
	b.ReportAllocs()
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1e3, "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func benchQueue(b *testing.B, d *Driver) string {
	name := unique(b)
	declare(b, d, fromQueue(name, 1))
	b.Cleanup(func() {
		_ = d.Do(ctx, func(ch *amqp091.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err })
	})
	return name
}

func rawChannel(b *testing.B) *amqp091.Channel {
	conn, err := amqp091.Dial(brokerURL(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func rawMessage() amqp091.Publishing {
	id := benchID()
	return amqp091.Publishing{
		DeliveryMode: amqp091.Persistent, MessageId: id, Timestamp: time.Now(),
		Headers: amqp091.Table{"_watermill_message_uuid": id}, Body: benchBody,
	}
}

func BenchmarkPublishRaw(b *testing.B) {
	d := connect(b)
	name := benchQueue(b, d)
	ch := rawChannel(b)
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	measure(b, func(n int) {
		var flying [window]*amqp091.DeferredConfirmation
		for i := range n + window {
			if f := flying[i%window]; f != nil && !f.Wait() {
				b.Fatal("not confirmed")
			}
			flying[i%window] = nil
			if i < n {
				f, err := ch.PublishWithDeferredConfirm("", name, true, false, rawMessage())
				if err != nil {
					b.Fatal(err)
				}
				flying[i%window] = f
			}
		}
	})
}

func BenchmarkPublishAsync(b *testing.B) {
	d := connect(b, func(c *Config) { c.MaxInFlight = window })
	p := mandatory(benchQueue(b, d))
	measure(b, func(n int) {
		var all sync.WaitGroup
		all.Add(n)
		done := func(err error) {
			if err != nil {
				b.Error(err)
			}
			all.Done()
		}
		for range n {
			if err := d.PublishAsync(ctx, p, benchMessage(), done); err != nil {
				b.Fatal(err)
			}
		}
		all.Wait()
	})
}

func BenchmarkPublishersRaw(b *testing.B) {
	d := connect(b)
	name := benchQueue(b, d)
	ch := rawChannel(b)
	if err := ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	measure(b, func(n int) {
		inParallel(n, func() error {
			f, err := ch.PublishWithDeferredConfirm("", name, true, false, rawMessage())
			if err == nil && !f.Wait() {
				b.Error("not confirmed")
			}
			return err
		})
	})
}

func BenchmarkPublishers(b *testing.B) {
	d := connect(b)
	p := mandatory(benchQueue(b, d))
	measure(b, func(n int) {
		inParallel(n, func() error { return d.Publish(ctx, p, benchMessage()) })
	})
}

// inParallel runs f n times, by as many goroutines as there may be messages
// under way.
func inParallel(n int, f func() error) {
	work := make(chan struct{}, window)
	var all sync.WaitGroup
	for range window {
		all.Go(func() {
			for range work {
				if err := f(); err != nil {
					panic(err)
				}
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
}

// filled returns a queue with n messages.
func filled(b *testing.B, d *Driver, n int) string {
	name := benchQueue(b, d)
	var all sync.WaitGroup
	all.Add(n)
	for range n {
		err := d.PublishAsync(ctx, toQueue(name), benchMessage(), func(err error) {
			if err != nil {
				b.Error(err)
			}
			all.Done()
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	all.Wait()
	return name
}

func BenchmarkConsumeRaw(b *testing.B) {
	d := connect(b)
	name := filled(b, d, b.N)
	ch := rawChannel(b)
	if err := ch.Qos(window, 0, false); err != nil {
		b.Fatal(err)
	}
	measure(b, func(n int) {
		deliveries, err := ch.Consume(name, "", false, false, false, false, nil)
		if err != nil {
			b.Fatal(err)
		}
		for range n {
			m := <-deliveries
			if err := m.Ack(false); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkConsume(b *testing.B) {
	d := connect(b)
	name := filled(b, d, b.N)
	measure(b, func(n int) {
		sub := subscribe(b, d, fromQueue(name, window))
		for range n {
			m, err := sub.Receive(ctx)
			if err == nil {
				err = m.Settle(ctx, adapters.Ack)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := sub.Stop(); err != nil {
			b.Fatal(err)
		}
	})
}
