package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func ofSize(id string, n int) *message.Message {
	return message.NewMessage(id, bytes.Repeat([]byte("x"), n))
}

// neighbours publish to q, in all ways, and report each error, until they are stopped.
func neighbours(t *testing.T, d *Driver, p adapters.Publication) (stop func()) {
	t.Helper()
	publishing, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	fail := func(how string, err error) {
		if err != nil {
			t.Errorf("a neighbour has to suffer (%s): %v", how, err)
		}
	}
	for range 4 {
		all.Go(func() {
			for publishing.Err() == nil {
				fail("Publish", d.Publish(ctx, p, msg("n")))
			}
		})
	}
	all.Go(func() {
		for publishing.Err() == nil {
			fail("batch", d.Publish(ctx, p, msg("n"), msg("n"), msg("n")))
		}
	})
	all.Go(func() {
		for publishing.Err() == nil {
			fail("PublishAsync", d.PublishAsync(ctx, p, msg("n"), func(err error) { fail("async", err) }))
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// TestRefusedTooLarge: a message that is larger than the broker takes is ErrTooLarge, at once, and
// it alone. The limit is learned: the next one costs no channel.
func TestRefusedTooLarge(t *testing.T) {
	t.Parallel() // it has nodes of its own, and waits for them
	for _, limit := range []int{1_000, 1_000_000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			n := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"max_message_size": fmt.Sprint(limit)}})
			d := connectTo(t, n.URL)
			small, q := adapters.Source{Endpoint: queueAt("small"), Queue: adapters.QueueSpec{MaxLength: 100, Overflow: adapters.DropHead}}, fromQueue("q", 10)
			declare(t, d, small)
			sub := subscribe(t, d, q)
			stop := neighbours(t, d, mandatory("small"))
			large := func(what string, err error) {
				t.Helper()
				wantErr(t, what, err, adapters.ErrTooLarge)
				if errors.Is(err, adapters.ErrUnconfirmed) {
					t.Errorf("%s: %v", what, err)
				}
			}
			large("too large", d.Publish(ctx, mandatory("q"), ofSize("large", 2*limit)))
			var before *publishChannel
			for range 5 {
				eventually(t, "there is a channel again", func() bool {
					before = d.publisher.current().slot("").channel.Load()
					return !before.isClosed()
				})
				large("too large again", d.Publish(ctx, mandatory("q"), ofSize("large", limit+1)))
				if before.isClosed() {
					t.Error("what was known to be too large cost a channel")
				}
			}
			err := d.Publish(ctx, mandatory("q"), ofSize("a", limit), ofSize("large", limit+1), ofSize("b", 1))
			large("in a batch", err)
			if failed, ok := errors.AsType[*adapters.PublishError](err); !ok || len(failed.Failed) != 1 || failed.Failed[0].Index != 1 {
				t.Errorf("in a batch: %v", err)
			}
			stop()
			receiveAll(t, sub, "a", "b")
			if g := d.Health().Connections[0].Generation; g != 1 {
				t.Errorf("the connection is the %d.", g)
			}
		})
	}
}

// TestRefusedRight: without the right to write, each publish is ErrAccess, and certainly not
// stored, however many there are; and it is no neighbour's business. It is asked for once in a
// while.
func TestRefusedRight(t *testing.T) {
	t.Parallel() // it waits most of the time
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, t.Name(), password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, t.Name())
	admin := connectTo(t, v.URL)
	secret, free := adapters.Endpoint{Kind: adapters.Fanout, Name: "secret"}, adapters.Endpoint{Kind: adapters.Fanout, Name: "free"}
	got := subscribe(t, admin, adapters.Source{Endpoint: secret, Group: "g", Prefetch: 1000})
	declare(t, admin, adapters.Source{Endpoint: free})
	declare(t, admin, fromQueue("q", 1))
	if err := v.SetPermissions(ctx, t.Name(), ".*", "^free$", ".*"); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URLFor(t.Name(), password))
	many := func(p adapters.Publication) {
		t.Helper()
		var all sync.WaitGroup
		check := func(err error) {
			if !errors.Is(err, adapters.ErrAccess) || errors.Is(err, adapters.ErrUnconfirmed) {
				t.Errorf("to %s: %v", p.To, err)
			}
		}
		for i := range 50 {
			all.Go(func() { check(d.Publish(soon(t), p, msg(fmt.Sprint(i)))) })
			all.Add(1)
			done := func(err error) {
				check(err)
				all.Done()
			}
			all.Go(func() {
				if err := d.PublishAsync(soon(t), p, msg("async"), done); err != nil {
					done(err)
				}
			})
		}
		all.Wait()
	}
	stop := neighbours(t, d, adapters.Publication{To: free})
	many(adapters.Publication{To: secret})
	many(toQueue("q"))
	before := d.publisher.current().slot("secret").channel.Load()
	many(adapters.Publication{To: secret})
	if now := d.publisher.current().slot("secret").channel.Load(); now != before {
		t.Error("what was known to be refused cost a channel")
	}
	stop()
	if g := d.Health().Connections[0].Generation; g != 1 {
		t.Errorf("the connection is the %d.", g)
	}

	// The right is granted, which is noticed; and taken away again, which may come when some are
	// under way.
	if err := v.SetPermissions(ctx, t.Name(), ".*", ".*", ".*"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is asked for again", func() bool { return d.Publish(soon(t), adapters.Publication{To: secret}, msg("now")) == nil })
	receiveAll(t, got, "now")
}

// TestRefusedTopic: a key that a user may not publish with is ErrAccess, and others of its exchange
// go on.
func TestRefusedTopic(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, t.Name(), password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, t.Name())
	if err := v.SetPermissions(ctx, t.Name(), ".*", ".*", ".*"); err != nil {
		t.Fatal(err)
	}
	x := adapters.Endpoint{Kind: adapters.Topic, Name: "x"}
	declare(t, connectTo(t, v.URL), adapters.Source{Endpoint: x, Group: "g", Keys: []string{"k"}})
	if err := v.SetTopicPermissions(ctx, t.Name(), "x", "^allowed", ".*"); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URLFor(t.Name(), password))
	sub := subscribe(t, d, adapters.Source{Endpoint: x, Keys: []string{"allowed.#"}, Prefetch: 10})
	for range 3 {
		publish(t, d, adapters.Publication{To: x, Key: "allowed.a"}, "a")
		wantErr(t, "with a key that is not allowed", d.Publish(soon(t), adapters.Publication{To: x, Key: "secret"}, msg("b")), adapters.ErrAccess)
		receiveAll(t, sub, "a")
	}
}
