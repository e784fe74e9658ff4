package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// TestSubscribersComeAndGo: of private subscribers that leave, in order or cut off, no
// publisher notices anything, and the group that stays gets every message: twice only if it says
// that it may be a double, and if that was counted.
func TestSubscribersComeAndGo(t *testing.T) {
	const departures, perSecond = 50, 2000
	d, stays := connect(t), connect(t)
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}
	kept := subscribe(t, stays, adapters.Source{Endpoint: x, Group: "kept", Prefetch: 1000})
	stop := make(chan struct{})
	var published atomic.Int64
	var publishers, others sync.WaitGroup
	report := func(id int64, how string) func(error) {
		return func(err error) {
			if err != nil {
				t.Errorf("%s of %d: %v", how, id, err)
			}
		}
	}
	publishers.Go(func() {
		pace := time.NewTicker(time.Second / perSecond * 10)
		defer pace.Stop()
		for {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			for i := range 7 {
				id := published.Add(1)
				if err := d.PublishAsync(soon(t), adapters.Publication{To: x}, msg(fmt.Sprint(id)), report(id, "PublishAsync")); err != nil {
					t.Error(i, err)
				}
			}
			id := published.Add(1)
			report(id, "Publish")(d.Publish(soon(t), adapters.Publication{To: x}, msg(fmt.Sprint(id))))
			id = published.Add(2)
			report(id, "Publish of two")(d.Publish(soon(t), adapters.Publication{To: x}, msg(fmt.Sprint(id-1)), msg(fmt.Sprint(id))))
		}
	})
	src := adapters.Source{Endpoint: x, Prefetch: 10}
	for worker := range 5 {
		others.Go(func() {
			for i := range departures / 5 {
				one := connect(t)
				sub := subscribe(t, one, src)
				for range 10 {
					if m, err := sub.Receive(soon(t)); err != nil {
						t.Error(err)
					} else {
						settle(t, m, adapters.Ack)
					}
				}
				switch (worker + i) % 3 {
				case 0:
					_ = sub.Stop()
				case 1:
					one.consumers[0].current().netConn.Abort(errors.New("cut"))
				}
				_ = one.Close(context.Background())
			}
		})
	}
	others.Wait()
	close(stop)
	publishers.Wait()
	seen := make(map[string]bool)
	doubles := uint64(0)
	for len(seen) < int(published.Load()) {
		m, err := kept.Receive(soon(t))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(seen), published.Load(), err)
		}
		if seen[m.Message.UUID] {
			doubles++
			if !m.Redelivered {
				t.Errorf("%s came twice and does not say so", m.Message.UUID)
			}
		}
		seen[m.Message.UUID] = true
		settle(t, m, adapters.Ack)
	}
	again := d.Resent()
	if doubles > again {
		t.Errorf("%d came twice, and %d are counted", doubles, again)
	}
	t.Logf("%s: %d published, %d sent again", d.publisher.current().version, published.Load(), again)
}
