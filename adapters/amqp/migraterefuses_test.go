package amqp

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// prepared declares a classic queue, and prepares that it becomes a quorum queue.
func prepared(t *testing.T) (old, mover *Driver, s adapters.Source) {
	t.Helper()
	s = adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: t.Name()}, Prefetch: 1}
	old = connect(t, func(c *Config) { c.QueueType = Classic })
	if err := old.Declare(soon(t), s); err != nil {
		t.Fatal(err)
	}
	mover = connect(t, func(c *Config) { c.QueueType = Quorum })
	if err := mover.PrepareMigration(soon(t), s); err != nil {
		t.Fatal(err)
	}
	return old, mover, s
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel() // it waits most of the time
	old, mover, s := prepared(t)
	temporary := s
	temporary.Queue.AutoDelete = true
	wantErr(t, "an auto-delete queue", mover.Migrate(soon(t), temporary, nil), adapters.ErrInvalid)
	publisher := connect(t, func(c *Config) { c.Migrating = []string{s.Name} })
	wantErr(t, "by who publishes", publisher.Migrate(soon(t), s, nil), adapters.ErrInvalid)
	missing := s
	missing.Name += ".not"
	wantErr(t, "a missing queue", mover.Migrate(soon(t), missing, nil), adapters.ErrNotFound)

	sub, err := old.Subscribe(soon(t), s)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a queue with a consumer", mover.Migrate(soon(t), s, nil), adapters.ErrPrecondition)
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { q, err := mover.Inspect(soon(t), s.Name); return err == nil && q.Consumers == 0 })

	// Somebody who was not told goes on to publish by name.
	ctx, cancel := context.WithCancel(t.Context())
	var unaware sync.WaitGroup
	unaware.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = old.Publish(ctx, toQueue(s.Name), message.NewMessage("by name", nil))
			sleep(ctx, 100*time.Millisecond)
		}
	})
	wantErr(t, "a queue that is published to by name", mover.Migrate(long(t), s, nil), adapters.ErrPrecondition)
	wantErr(t, "Finish in the middle", mover.FinishMigration(soon(t), s), adapters.ErrPrecondition)
	wantErr(t, "Prepare in the middle", mover.PrepareMigration(soon(t), s), adapters.ErrPrecondition)
	cancel()
	unaware.Wait()
	if err := mover.Migrate(long(t), s, nil); err != nil {
		t.Errorf("once it is published to no more: %v", err)
	}
}

// TestMigrateKeepsDelayed: what is due while the queue is missing would be dropped.
func TestMigrateKeepsDelayed(t *testing.T) {
	t.Parallel() // it waits most of the time
	old, mover, s := prepared(t)
	usesAtOnce(old)
	const n = 200
	for i := range n { // some are due each half of a second, or a tenth
		p := toQueue(s.Name)
		if p.Delay = time.Duration(i%40+1) * 500 * time.Millisecond; i%40 >= 20 {
			p = byLadder(p)
			p.Delay = time.Duration(i+1) * 100 * time.Millisecond
		}
		if err := old.Publish(soon(t), p, message.NewMessage(strconv.Itoa(i), nil)); err != nil {
			t.Fatal(err)
		}
	}
	ch := plainClient(t, brokerURL(t))
	destination, more := toQueues+s.Name, n
	err := mover.Migrate(long(t), s, func(step string) {
		if strings.HasPrefix(step, "delete") || strings.HasPrefix(step, "declare") { // the queue has to be empty, or is missing
			send(t, ch, delayQueueName(5, destination), "", amqp091.Publishing{
				MessageId: strconv.Itoa(more), Headers: amqp091.Table{headerTo: destination},
			})
			more++
			time.Sleep(time.Second) // it is due
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	sub, err := mover.Subscribe(soon(t), s)
	if err != nil {
		t.Fatal(err)
	}
	for len(seen) < more {
		d, err := sub.Receive(soon(t))
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(seen), more, err)
		}
		seen[d.Message.UUID] = true
		if err := d.Settle(soon(t), adapters.Ack); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMigratingWaits: for a queue that is missing, and for a route, as long as its ctx allows.
func TestMigratingWaits(t *testing.T) {
	old, mover, s := prepared(t)
	publisher := connect(t, func(c *Config) { c.Migrating = []string{s.Name} })
	p := toQueue(s.Name)
	if err := publisher.Publish(soon(t), p, message.NewMessage("a", nil), message.NewMessage("b", nil)); err != nil {
		t.Fatal(err)
	}
	if err := old.Delete(soon(t), s.Name, 0); err != nil {
		t.Fatal(err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// Whether the last attempt was returned, unconfirmed, or not sent depends on when time was up.
	wantErr(t, "Publish to nowhere", publisher.Publish(brief, p, message.NewMessage("c", nil)), context.DeadlineExceeded)
	withoutPlace(t, publisher, p)
	wantErr(t, "Declare of nothing", publisher.Declare(brief, s), context.DeadlineExceeded)
	answer := make(chan error, 2)
	go func() { answer <- publisher.Declare(soon(t), s) }()
	go func() {
		answer <- publisher.PublishAsync(soon(t), p, message.NewMessage("d", nil), func(err error) {
			if err != nil {
				t.Errorf("published once it leads somewhere: %v", err)
			}
		})
	}()
	if err := mover.Declare(soon(t), s); err != nil {
		t.Fatal(err)
	}
	if err := mover.PrepareMigration(soon(t), s); err != nil { // which binds it
		t.Fatal(err)
	}
	for range 2 {
		if err := <-answer; err != nil {
			t.Error(err)
		}
	}
	if found := browse(t, mover, s.Name, 10); len(found) != 1 || found[0].Message.UUID != "d" {
		t.Errorf("there is %q", uuids(found))
	}
}

// withoutPlace publishes to nowhere, and has time be up while the message waits for a place to be
// sent once more: the error says what was the matter before.
func withoutPlace(t *testing.T, d *Driver, p adapters.Publication) {
	t.Helper()
	taken := cap(d.inFlight)
	for range taken {
		d.inFlight <- struct{}{}
	}
	defer func() {
		for range taken {
			<-d.inFlight
		}
	}()
	var err error
	for patience := time.Second; ; patience *= 2 { // a slow machine needs more to have it returned by then
		if patience > 30*time.Second {
			t.Fatalf("it is returned to nobody: %v", err)
		}
		brief, cancel := context.WithTimeout(t.Context(), patience)
		done := make(chan error, 1)
		go func() { done <- d.Publish(brief, p, message.NewMessage("without a place", nil)) }()
		sent := false
		poll(t, func() bool { // until the place that is free was taken for it
			<-d.inFlight
			select {
			case d.inFlight <- struct{}{}:
			default:
				sent = true
			}
			return sent || brief.Err() != nil
		})
		if sent {
			d.inFlight <- struct{}{} // once it was returned
		}
		err = <-done
		cancel()
		if errors.Is(err, adapters.ErrUnroutable) {
			break
		}
	}
	wantErr(t, "Publish without a place", err, context.DeadlineExceeded)
	wantErr(t, "Publish without a place", err, adapters.ErrUnroutable)
}
