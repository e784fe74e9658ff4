package amqp

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// What succeeds in a batch is acknowledged in one frame, whether or not something in it fails, and
// only what failed comes again. What failed holds up the others for a second, so that on a machine
// that is busy for that long they may need a frame each: one time of five is enough.
func TestBatchIsAcknowledgedInOneFrame(t *testing.T) {
	const batches, size = 5, 100
	for range 5 {
		full, acks := acknowledgeBatches(t, batches, size)
		t.Logf("%d frames acknowledge %d messages; %d of %d batches were full", acks, batches*size, full, batches)
		// One for each batch, those of the retries and of the letters, and some for an
		// acknowledgement that did not wait long enough for its run.
		if full >= batches/2 && acks <= batches*size/10 {
			return
		}
	}
	t.Errorf("want one frame for %d messages", size)
}

// acknowledgeBatches has messages handled in batches, two of which are retried and two given up. It
// returns how many batches were full, and how many frames acknowledged them all.
func acknowledgeBatches(t *testing.T, batches, size int) (full, frames int) {
	t.Helper()
	ackURL, acks := countAcks(t, amqptest.Shared(t).URL)
	bus, err := patterns.Open(t.Context(), ackURL)
	if err != nil {
		t.Fatal(err)
	}
	q := patterns.NewWorkQueue[int](bus, unique(t))
	var values []int
	for n := range batches * size {
		values = append(values, n)
	}
	if err := q.SendBatch(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var again []int
	handled := 0
	done := make(chan struct{})
	sub, err := q.WorkBatch(t.Context(), func(ctx context.Context, batch []int) error {
		mu.Lock()
		defer mu.Unlock()
		failed := patterns.BatchError{}
		for i, d := range patterns.DeliveriesFrom(ctx) {
			switch {
			case d.Attempt > 1:
				again = append(again, batch[i])
				handled++
			case batch[i]%250 == 17:
				failed[i] = patterns.RetryAfter(time.Second, context.DeadlineExceeded)
			case batch[i]%250 == 18:
				failed[i] = patterns.Reject(context.DeadlineExceeded)
				handled++
			default:
				handled++
			}
		}
		if len(batch) == size {
			full++
		}
		if handled == batches*size {
			close(done)
		}
		return failed
	}, patterns.BatchSize(size), patterns.BatchWait(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("not all is handled")
	}
	if err := sub.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for _, n := range []int{18, 268} {
		letter, err := q.Dead().Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if letter.Value != n {
			t.Errorf("dead letter %d, want %d", letter.Value, n)
		}
		_ = letter.Ack(t.Context())
	}
	if err := bus.Close(t.Context()); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(again)
	if !slices.Equal(again, []int{17, 267}) {
		t.Errorf("%v came again, want 17 and 267", again)
	}
	return full, int(acks.Load())
}

// countAcks returns the URL of a proxy to a broker, and the count of basic.ack that go through it.
func countAcks(t *testing.T, amqpURL string) (string, *atomic.Int64) {
	t.Helper()
	u, err := url.Parse(amqpURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	broker, acks := u.Host, new(atomic.Int64)
	var all sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { passAcks(client, broker, acks) })
		}
	})
	u.Host = l.Addr().String()
	return u.String(), acks
}

func passAcks(client net.Conn, broker string, acks *atomic.Int64) {
	defer client.Close()
	server, err := net.Dial("tcp", broker) //nolint:noctx // of this machine
	if err != nil {
		return
	}
	defer server.Close()
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	defer server.Close()
	from := bufio.NewReader(io.TeeReader(client, server))
	if _, err := from.Discard(8); err != nil { // the protocol's name
		return
	}
	for {
		var head [7]byte // type, channel, size
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		if head[0] == 1 && binary.BigEndian.Uint32(frame) == 60<<16|80 { // a method: its class and number
			acks.Add(1)
		}
	}
}
