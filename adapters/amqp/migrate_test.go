package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// TestMigrateKeepsOrder: publishers go on, and each queue has all of their messages in their order.
func TestMigrateKeepsOrder(t *testing.T) {
	t.Parallel() // it waits most of the time
	for name, x := range map[string]struct {
		from, to QueueType
		spec     adapters.QueueSpec
	}{
		"classic to quorum": {Classic, Quorum, adapters.QueueSpec{}},
		"quorum to classic": {Quorum, Classic, adapters.QueueSpec{}},
		"another limit":     {Quorum, Quorum, adapters.QueueSpec{MaxLength: 100_000, Overflow: adapters.DropHead}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := long(t)
			queue := t.Name()
			old := connect(t, func(c *Config) { c.QueueType = x.from })
			s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}}
			if err := old.Declare(ctx, s); err != nil {
				t.Fatal(err)
			}
			mover := connect(t, func(c *Config) { c.QueueType = x.to })
			target := s
			target.Queue = x.spec
			wantErr(t, "Migrate without Prepare", mover.Migrate(ctx, target, nil), adapters.ErrNotFound)
			if err := mover.PrepareMigration(ctx, target); err != nil {
				t.Fatal(err)
			}
			publisher := connect(t, func(c *Config) { c.QueueType = x.from; c.Migrating = []string{queue} })
			sent := publishUntil(t, publisher, s)
			poll(t, func() bool { return sent.n.Load() > 300 })

			if err := mover.Migrate(ctx, target, func(step string) { t.Log(step) }); err != nil {
				t.Fatal(err)
			}
			after := sent.n.Load()
			poll(t, func() bool { return sent.n.Load() > after+100 })
			n := sent.stop()
			if found, err := mover.Compare(ctx, s.Endpoint, x.spec); err != nil || len(found) > 0 {
				t.Errorf("it differs in %v: %v", found, err)
			}
			got := takeInts(t, mover, queue, n)
			if !slices.IsSorted(got) || len(got) != n {
				for i := 1; i < len(got); i++ {
					if got[i] < got[i-1] {
						t.Logf("at %d: %v", i, got[max(0, i-3):min(len(got), i+3)])
					}
				}
				t.Errorf("%d of %d messages, in order: %v", len(got), n, slices.IsSorted(got))
			}
			if err := mover.Migrate(ctx, target, nil); err != nil {
				t.Errorf("a second time: %v", err)
			}
			if err := mover.FinishMigration(ctx, target); err != nil {
				t.Error(err)
			}
			for _, left := range []string{".new", ".past", ".lock"} {
				_, err := mover.Inspect(ctx, migratePrefix+queue+left)
				wantErr(t, "Inspect "+left, err, adapters.ErrNotFound)
			}
		})
	}
}

// sending is a publisher in the background.
type sending struct {
	n    atomic.Int64
	stop func() int // returns how many were confirmed
}

// publishUntil publishes messages 0, 1, 2, ... one after the other, about a thousand a second.
func publishUntil(t *testing.T, d *Driver, s adapters.Source) *sending {
	ctx, cancel := context.WithCancel(context.Background())
	sent, done := new(sending), make(chan struct{})
	go func() {
		defer close(done)
		p := adapters.Publication{To: s.Endpoint, Properties: adapters.Properties{Attempt: 1}}
		for ctx.Err() == nil {
			m := message.NewMessage(strconv.FormatInt(sent.n.Load(), 10), []byte("x"))
			if err := d.Publish(long(t), p, m); err != nil {
				t.Errorf("publish %s: %v", m.UUID, err)
				return
			}
			sent.n.Add(1)
			time.Sleep(time.Millisecond / 2) // the rate
		}
	}()
	sent.stop = func() int {
		cancel()
		<-done
		return int(sent.n.Load())
	}
	t.Cleanup(func() { sent.stop() })
	return sent
}

// takeInts returns the ids of what is in a queue, first occurrences only, and logs the others.
func takeInts(t *testing.T, d *Driver, queue string, want int) (ids []int) {
	t.Helper()
	s := passive(queue)
	s.Prefetch = 1000
	sub, err := d.Subscribe(long(t), s)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Stop()
	seen, twice := map[int]bool{}, []int{}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), map[bool]time.Duration{true: time.Second, false: time.Minute}[len(ids) >= want])
		del, err := sub.Receive(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(del.Message.UUID)
		if err != nil {
			t.Fatal(err)
		}
		if seen[n] {
			twice = append(twice, n)
		} else {
			ids = append(ids, n)
		}
		seen[n] = true
		if err := del.Settle(long(t), adapters.Ack); err != nil {
			t.Fatal(err)
		}
	}
	if len(twice) > 0 {
		t.Logf("twice: %d: %s", len(twice), fmt.Sprint(twice[:min(len(twice), 20)]))
	}
	return ids
}

func long(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 6*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func poll(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it takes too long")
		}
	}
}
