package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/internal/leaktest"
)

// TestClose: everything ends, what is in hand is back in its queue, and every
// later call says so.
func TestClose(t *testing.T) {
	v := amqptest.Shared(t)
	other := connectTo(t, v.URL)
	q := unique(t)
	declare(t, other, fromQueue(q, 1))
	publish(t, other, mandatory(q), ids("m", 5)...)

	before := leaktest.Current()
	d, err := Connect(soon(t), configFor(t, v.URL))
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, d, fromQueue(q, 4))
	stopped := subscribe(t, d, fromQueue(q, 1))
	last := receive(t, stopped, "m4")
	if err := stopped.Stop(); err != nil {
		t.Fatal(err)
	}
	a := receive(t, sub, "m0")
	settle(t, a, adapters.Ack) // on its way, not told yet
	b := receive(t, sub, "m1")
	waiting := make(chan error, 1)
	receive(t, sub, "m2")
	receive(t, sub, "m3")
	go func() {
		_, err := sub.Receive(context.Background())
		waiting <- err
	}()
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(func() {
			if err := d.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
	before.Verify(t)

	wantErr(t, "waiting Receive", <-waiting, adapters.ErrClosed)
	_, err = sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrClosed)
	_, err = stopped.Receive(ctx)
	wantErr(t, "Receive of a stopped one", err, adapters.ErrStopped)
	for _, m := range []adapters.Delivery{b, last} {
		wantErr(t, "Settle", m.Settle(ctx, adapters.Ack), adapters.ErrClosed)
		wantErr(t, "cause", context.Cause(m.Message.Context()), adapters.ErrClosed)
	}
	if err := sub.Stop(); err != nil {
		t.Error(err)
	}
	wantErr(t, "Publish", d.Publish(ctx, mandatory(q), msg("x")), adapters.ErrClosed)
	wantErr(t, "PublishAsync", d.PublishAsync(ctx, mandatory(q), msg("x"), nil), adapters.ErrClosed)
	wantErr(t, "Declare", d.Declare(ctx, fromQueue(q, 1)), adapters.ErrClosed)
	wantErr(t, "Unbind", d.Unbind(ctx, fromQueue(q, 1)), adapters.ErrClosed)
	wantErr(t, "Do", d.Do(ctx, nil), adapters.ErrClosed)
	_, err = d.Subscribe(ctx, fromQueue(q, 1))
	wantErr(t, "Subscribe", err, adapters.ErrClosed)
	_, err = d.Get(ctx, fromQueue(q, 1))
	wantErr(t, "Get", err, adapters.ErrClosed)
	if f := d.Features(); f.Adapter != "amqp" || f.Ability != adapters.AllV1&^managed || f.MaxBody == 0 || f.MaxDelay == 0 {
		t.Errorf("%+v", f)
	}

	again := subscribe(t, other, fromQueue(q, 10))
	got := map[string]bool{}
	for _, m := range receiveN(t, again, 4) {
		got[m.Message.UUID] = true
	}
	for _, id := range ids("m", 5)[1:] {
		if !got[id] {
			t.Errorf("%s is not back", id)
		}
	}
	nothing(t, again) // m0 was acknowledged
}

// TestCloseWhilePublishing: each publish has its answer, and nothing that was
// confirmed is missing.
func TestCloseWhilePublishing(t *testing.T) {
	v := amqptest.Shared(t)
	other := connectTo(t, v.URL)
	q := unique(t)
	declare(t, other, fromQueue(q, 1))
	d, err := Connect(soon(t), configFor(t, v.URL))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	confirmed := make(map[string]bool)
	note := func(id string, err error) {
		switch {
		case err == nil:
			mu.Lock()
			confirmed[id] = true
			mu.Unlock()
		case !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrClosed):
			t.Errorf("publish: %v", err)
		}
	}
	for g := range 8 {
		all.Go(func() {
			for i := range 10000 {
				id := fmt.Sprint(g, "-", i)
				if g%2 == 0 {
					err := d.Publish(soon(t), mandatory(q), msg(id))
					if note(id, err); errors.Is(err, adapters.ErrClosed) {
						return
					}
					continue
				}
				all.Add(1)
				if err := d.PublishAsync(soon(t), mandatory(q), msg(id), func(err error) { note(id, err); all.Done() }); err != nil {
					note(id, err)
					all.Done()
					return
				}
			}
		})
	}
	eventually(t, "many are published", func() bool { mu.Lock(); defer mu.Unlock(); return len(confirmed) > 500 })
	if err := d.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	sub := subscribe(t, other, fromQueue(q, 256))
	for len(confirmed) > 0 {
		m, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatalf("%d confirmed messages are missing: %v", len(confirmed), err)
		}
		delete(confirmed, m.Message.UUID)
		settle(t, m, adapters.Ack)
	}
}

// TestCloseWithoutBroker: there is nobody to say goodbye to.
func TestCloseWithoutBroker(t *testing.T) {
	n := amqptest.Private(t, amqptest.Options{})
	before := leaktest.Current()
	d, err := Connect(soon(t), configFor(t, n.URL))
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, d, fromQueue(unique(t), 1))
	others := alike(t, n.URL)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(others, d) {
		eventually(t, "it is noticed", func() bool {
			return !slices.ContainsFunc(d.Health().Connections, func(c adapters.Connection) bool { return c.Up })
		})
	}
	published := make(chan error, 1)
	go func() { published <- d.Publish(context.Background(), toQueue("q"), msg("a")) }()
	wantErr(t, "Publish", d.Publish(shortly(t), toQueue("q"), msg("a")), adapters.ErrUnavailable)
	_, err = d.Subscribe(shortly(t), fromQueue("q", 1))
	wantErr(t, "Subscribe", err, adapters.ErrUnavailable)
	closeAtOnce(t, time.Hour, append(others, d)...)
	wantErr(t, "the publish that waited", <-published, adapters.ErrClosed)
	_, err = sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrClosed)
	before.Verify(t)
}

// TestCloseFrozen: ctx bounds Close, whatever the broker does.
func TestCloseFrozen(t *testing.T) {
	n := amqptest.Private(t, amqptest.Options{})
	before := leaktest.Current()
	d, err := Connect(soon(t), configFor(t, n.URL))
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, d, fromQueue(unique(t), 1))
	others := alike(t, n.URL)
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = sub.Stop() }()
	_ = d.PublishAsync(shortly(t), toQueue("q"), msg("a"), func(err error) {
		if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrClosed) { // it was sent, or was not
			t.Errorf("PublishAsync: %v", err)
		}
	})
	closeAtOnce(t, 300*time.Millisecond, append(others, d)...)
	before.Verify(t)
}

// alike returns two more drivers with a subscription each.
func alike(t *testing.T, url string) []*Driver {
	t.Helper()
	var drivers []*Driver
	for range 2 {
		d, err := Connect(soon(t), configFor(t, url))
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, d, fromQueue(unique(t), 1))
		drivers = append(drivers, d)
	}
	return drivers
}

// closeAtOnce closes drivers, one after the other. A wait for the broker would hold up each of
// them, and a busy machine only some: the quickest counts.
func closeAtOnce(t *testing.T, within time.Duration, drivers ...*Driver) {
	t.Helper()
	shortest := time.Hour
	for _, d := range drivers {
		ctx, cancel := context.WithTimeout(ctx, within)
		start := time.Now()
		if err := d.Close(ctx); err != nil {
			t.Fatal(err)
		}
		shortest = min(shortest, time.Since(start))
		cancel()
	}
	if shortest > settleTime/2 {
		t.Errorf("Close took %v", shortest)
	}
}

// TestCloseWhileSubscribing: a subscription that begins while the driver is
// being closed ends as well.
func TestCloseWhileSubscribing(t *testing.T) {
	v := amqptest.Shared(t)
	d, err := Connect(soon(t), configFor(t, v.URL))
	if err != nil {
		t.Fatal(err)
	}
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	d.inFlight <- struct{}{} // a publish without an answer: Close waits for it
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			sub, err := d.Subscribe(soon(t), fromQueue(q, 1))
			if err == nil {
				_, err = sub.Receive(soon(t))
			}
			if !errors.Is(err, adapters.ErrClosed) {
				t.Errorf("got %v, want that it is closed", err)
			}
		})
	}
	eventually(t, "they have begun", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.consumers) > 0 && d.consumers[0].used == 20
	})
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = d.Close(context.Background())
	}()
	<-d.ctx.Done() // it has given up waiting
	<-d.inFlight
	<-closed
	all.Wait()
}

// TestCloseAtOnce: a driver that is closed as soon as it is connected leaves no connection.
func TestCloseAtOnce(t *testing.T) {
	v := amqptest.Shared(t)
	for range 50 {
		d, err := Connect(soon(t), configFor(t, v.URL))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the broker has no connection", func() bool {
		open, err := v.Connections(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		return len(open) == 0
	})
}
