package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// imitating is connect for a broker that imitates a version, or with "" the newest with
// classic queues.
func imitating(t testing.TB, v Version) (*Broker, *Client) {
	t.Helper()
	option := ClassicQueues()
	if v != "" {
		option = RabbitMQ(v)
	}
	b := New(option)
	t.Cleanup(b.Close)
	return b, b.Connect()
}

// onEach runs a test for each version, and for classic queues, each with what it wants.
func onEach[W any](t *testing.T, want map[Version]W, test func(*testing.T, *Broker, *Client, W)) {
	t.Helper()
	for _, v := range append([]Version{""}, versions...) {
		w, ok := want[v]
		if !ok {
			t.Fatalf("nothing is wanted of version %q", v)
		}
		t.Run(fmt.Sprint("version ", v), func(t *testing.T) {
			b, c := imitating(t, v)
			test(t, b, c, w)
		})
	}
}

// publishEach publishes messages that are called by their priority, and a letter.
func publishEach(t testing.TB, c *Client, p adapters.Publication, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := fmt.Sscanf(id, "%d", &p.Priority); err != nil {
			t.Fatal(err)
		}
		publish(t, c, p, id)
	}
}

// waiting returns what a queue would deliver next, and empties it.
func waiting(t testing.TB, c *Client, name string) (ids []string) {
	t.Helper()
	s := fromQueue(name, 1)
	s.Passive = true
	for {
		d, err := c.Get(ctx, s)
		if err != nil {
			wantErr(t, "Get", err, adapters.ErrEmpty)
			return ids
		}
		ids = append(ids, d.Message.UUID)
		settle(t, d, adapters.Ack)
	}
}

func wantWaiting(t testing.TB, c *Client, name string, want []string) {
	t.Helper()
	if got := waiting(t, c, name); !slices.Equal(got, want) {
		t.Errorf("%s delivers %v, want %v", name, got, want)
	}
}

var published = []string{"0a", "9a", "4a", "5a", "1a", "31a", "40a", "9b", "0b"}

// TestPrioritiesWithoutMaxPriority: what comes through an exchange has its own.
func TestPrioritiesWithoutMaxPriority(t *testing.T) {
	onEach(t, map[Version][]string{
		"":          published,
		RabbitMQ310: published,
		RabbitMQ40:  {"9a", "5a", "0a", "31a", "40a", "4a", "9b", "1a", "0b"},
		RabbitMQ43:  {"31a", "40a", "9a", "9b", "5a", "4a", "1a", "0a", "0b"},
	}, func(t *testing.T, _ *Broker, c *Client, want []string) {
		declare(t, c, from(adapters.Fanout, "g"))
		publishEach(t, c, to(adapters.Fanout, ""), published...)
		wantWaiting(t, c, "the-fanout:g", want)
	})
}

// TestPrioritiesOfAQueue: who declared the queue knows that it has none.
func TestPrioritiesOfAQueue(t *testing.T) {
	onEach(t, map[Version][]string{
		"":          published,
		RabbitMQ310: published,
		RabbitMQ40:  {"9a", "5a", "0a", "31a", "40a", "4a", "9b", "1a", "0b"},
		RabbitMQ43:  {"31a", "40a", "9a", "9b", "5a", "4a", "1a", "0a", "0b"},
	}, func(t *testing.T, b *Broker, c *Client, want []string) {
		declare(t, c, fromQueue("q", 1))
		publishEach(t, c, toQueue("q"), published...)
		wantWaiting(t, c, "q", published)
		publishEach(t, b.Connect(), toQueue("q"), published...)
		wantWaiting(t, c, "q", want)
		publishEach(t, c, toQueue("q"), "7a")
		if d, err := c.Get(ctx, fromQueue("q", 1)); err != nil || d.Priority != 7 {
			t.Errorf("the receiver is told priority %d, %v", d.Priority, err)
		}
	})
}

// TestTwoLevelsTakeTurns: every third one is the oldest, whether or not there was
// anything to choose from before.
func TestTwoLevelsTakeTurns(t *testing.T) {
	for before, want := range [][]string{
		{"5a", "5b", "0a", "5c", "5d", "0b", "0c"},
		{"5a", "0a", "5b", "5c", "0b", "5d", "0c"},
		{"0a", "5a", "5b", "0b", "5c", "5d", "0c"},
		{"5a", "5b", "0a", "5c", "5d", "0b", "0c"},
	} {
		for _, delivered := range []bool{false, true} {
			_, c := imitating(t, RabbitMQ40)
			s := from(adapters.Fanout, "g")
			sub := subscribe(t, c, s)
			if !delivered {
				_ = sub.Stop()
			}
			publishEach(t, c, to(adapters.Fanout, ""), slices.Repeat([]string{"5z"}, before)...)
			_ = sub.Stop()
			waiting(t, c, "the-fanout:g")
			if delivered { // what was taken by the consumer came back, which is no other turn
				wantTurn(t, c, before)
			}
			publishEach(t, c, to(adapters.Fanout, ""), "0a", "0b", "0c", "5a", "5b", "5c", "5d")
			wantWaiting(t, c, "the-fanout:g", want)
		}
	}
}

func wantTurn(t testing.TB, c *Client, taken int) {
	t.Helper()
	if got := c.broker.routes.queues["the-fanout:g"].ready.turn; int(got) != taken%3 {
		t.Errorf("turn %d after %d", got, taken)
	}
}

// TestTheOldestsTurn: it is not for the lower level if the higher one has the oldest.
func TestTheOldestsTurn(t *testing.T) {
	_, c := imitating(t, RabbitMQ40)
	declare(t, c, from(adapters.Fanout, "g"))
	publishEach(t, c, to(adapters.Fanout, ""), "5a", "5b", "5c", "0a", "5d")
	wantWaiting(t, c, "the-fanout:g", []string{"5a", "5b", "5c", "5d", "0a"})
}

// TestPrioritiesUpToMaxPriority: who publishes to the queue bounds them, on 4.3 nobody else.
func TestPrioritiesUpToMaxPriority(t *testing.T) {
	capped := []string{"9a", "4a", "5a", "31a", "40a", "9b", "1a", "0a", "0b"}
	onEach(t, map[Version][]string{
		"": capped, RabbitMQ310: capped, RabbitMQ40: capped,
		RabbitMQ43: {"31a", "40a", "9a", "9b", "5a", "4a", "1a", "0a", "0b"},
	}, func(t *testing.T, b *Broker, c *Client, want []string) {
		s := with(func(q *adapters.QueueSpec) { q.MaxPriority = 3 })
		declare(t, c, s)
		publishEach(t, c, toQueue("q"), published...)
		wantWaiting(t, c, "q", capped)
		publishEach(t, b.Connect(), toQueue("q"), published...)
		wantWaiting(t, c, "q", want)
	})
}

func TestMaxPriorityPastTheLevelsOfAQuorumQueue(t *testing.T) {
	_, c := connect(t)
	declare(t, c, with(func(q *adapters.QueueSpec) { q.MaxPriority = 32 }))
	publishEach(t, c, toQueue("q"), "31a", "32a")
	wantWaiting(t, c, "q", []string{"32a", "31a"})
}

// TestWhatWaitedForItsDelayHasNoPriority, on any version.
func TestWhatWaitedForItsDelayHasNoPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		declare(t, c, from(adapters.Fanout, "g"))
		p := to(adapters.Fanout, "")
		p.Delay = time.Second
		publishEach(t, c, p, "9a")
		publishEach(t, c, to(adapters.Fanout, ""), "1a")
		time.Sleep(2 * time.Second)
		wantWaiting(t, c, "the-fanout:g", []string{"1a", "9a"})
	})
}

// TestWhatIsGivenBack: to a quorum queue in the order in which it is, before all others.
func TestWhatIsGivenBack(t *testing.T) {
	inOrder, before := []string{"b", "d", "a", "c", "e", "f"}, []string{"a", "b", "c", "d", "e", "f"}
	onEach(t, map[Version][]string{"": before, RabbitMQ310: inOrder, RabbitMQ40: inOrder, RabbitMQ43: inOrder}, func(t *testing.T, b *Broker, c *Client, want []string) {
		first, second := subscribe(t, c, fromQueue("q", 1)), subscribe(t, b.Connect(), fromQueue("q", 1))
		publish(t, c, toQueue("q"), "a", "b")
		da, db := receive(t, first, "a"), receive(t, second, "b")
		third := subscribe(t, c, fromQueue("q", 2))
		publish(t, c, toQueue("q"), "c", "d", "e", "f")
		_ = first.Stop()
		_ = second.Stop()
		settle(t, db, adapters.Requeue)
		d := receive(t, third, "c")
		settle(t, receive(t, third, "d"), adapters.Ack) // and b, which was the next, is on its way
		_ = third.Stop()
		settle(t, da, adapters.Requeue)
		settle(t, d, adapters.Requeue)
		wantWaiting(t, c, "q", slices.DeleteFunc(slices.Clone(want), func(id string) bool { return id == "d" }))
	})
}

// TestWhatIsGivenBackGoesBeforeHigherPriorities of a quorum queue.
func TestWhatIsGivenBackGoesBeforeHigherPriorities(t *testing.T) {
	high, low := []string{"5a", "1a"}, []string{"1a", "5a"}
	onEach(t, map[Version][]string{"": high, RabbitMQ310: high, RabbitMQ40: high, RabbitMQ43: low}, func(t *testing.T, _ *Broker, c *Client, want []string) {
		s := with(func(q *adapters.QueueSpec) { q.MaxPriority = 5 })
		s.Prefetch = 1
		sub := subscribe(t, c, s)
		publishEach(t, c, toQueue("q"), "1a", "5a")
		d := receive(t, sub, "1a")
		_ = sub.Stop()
		settle(t, d, adapters.Requeue)
		wantWaiting(t, c, "q", want)
	})
}

// TestDeadLettersAreRedelivered where failed deliveries are counted across queues.
func TestDeadLettersAreRedelivered(t *testing.T) {
	type redelivered struct{ rejected, requeued, lost bool }
	onEach(t, map[Version]redelivered{
		"": {false, false, true}, RabbitMQ310: {}, RabbitMQ40: {true, true, true}, RabbitMQ43: {false, false, true},
	}, func(t *testing.T, _ *Broker, c *Client, want redelivered) {
		s := with(func(*adapters.QueueSpec) {})
		die := func(before func(adapters.Delivery)) bool {
			t.Helper()
			publish(t, c, toQueue("q"), "a")
			for i := range 2 {
				d, err := c.Get(ctx, s)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 && before != nil {
					before(d)
					continue
				}
				settle(t, d, adapters.Reject)
				break
			}
			d, err := c.Get(ctx, fromQueue("q.dead", 1))
			if err != nil {
				t.Fatal(err)
			}
			settle(t, d, adapters.Ack)
			return d.Redelivered
		}
		declare(t, c, s)
		got := redelivered{
			rejected: die(nil),
			requeued: die(func(d adapters.Delivery) { settle(t, d, adapters.Requeue) }),
			lost:     die(func(adapters.Delivery) { c.Cut() }),
		}
		if got != want {
			t.Errorf("dead letters redelivered %+v, want %+v", got, want)
		}
	})
}

// TestADeadLetterThatIsTakenAtOnce: classic queues tell only what waited in them.
func TestADeadLetterThatIsTakenAtOnce(t *testing.T) {
	onEach(t, map[Version]bool{"": false, RabbitMQ310: false, RabbitMQ40: true, RabbitMQ43: true}, func(t *testing.T, _ *Broker, c *Client, want bool) {
		sub := subscribe(t, c, with(func(*adapters.QueueSpec) {}))
		publish(t, c, toQueue("q"), "a")
		c.Cut()
		dead := subscribe(t, c, fromQueue("q.dead", 1))
		settle(t, receive(t, sub, "a"), adapters.Reject)
		if d := receive(t, dead, "a"); d.Redelivered != want {
			t.Errorf("redelivered %v, want %v", d.Redelivered, want)
		}
	})
}

// TestExpiryAtTheHeadOfEachPriority, where a queue has several heads.
func TestExpiryAtTheHeadOfEachPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onEachInBubble(t, map[Version]int{"": 3, RabbitMQ310: 3, RabbitMQ40: 3, RabbitMQ43: 2}, func(b *Broker, c *Client, want int) {
			declare(t, c, from(adapters.Fanout, "g"))
			p := to(adapters.Fanout, "")
			publishEach(t, c, p, "9a")
			p.TTL = time.Second
			publishEach(t, c, p, "1a", "9b") // the second is no head
			time.Sleep(2 * time.Second)
			wantQueue(t, b, "the-fanout:g", want, 0, 0)
		})
	})
}

func onEachInBubble[W any](t *testing.T, want map[Version]W, test func(*Broker, *Client, W)) {
	t.Helper()
	for v, w := range want {
		b, c := imitating(t, v)
		test(b, c, w)
		b.Close()
	}
}

// TestAFullQueueThatGetsOneBack: a classic queue makes room before it delivers.
func TestAFullQueueThatGetsOneBack(t *testing.T) {
	onEach(t, map[Version]string{"": "b", RabbitMQ310: "a", RabbitMQ40: "a", RabbitMQ43: "a"}, func(t *testing.T, _ *Broker, c *Client, want string) {
		s := with(func(q *adapters.QueueSpec) { q.MaxLength, q.Overflow = 1, adapters.DropHead })
		s.Prefetch = 1
		sub := subscribe(t, c, s)
		publish(t, c, toQueue("q"), "a", "b")
		settle(t, receive(t, sub, "a"), adapters.Requeue)
		settle(t, receive(t, sub, want), adapters.Ack)
	})
}

// TestWhatARestartForgets: a classic queue of 4.3 remembers lost sessions only.
func TestWhatARestartForgets(t *testing.T) {
	onEach(t, map[Version]bool{"": false, RabbitMQ310: true, RabbitMQ40: true, RabbitMQ43: true}, func(t *testing.T, b *Broker, c *Client, want bool) {
		for _, lost := range []bool{false, true} {
			declare(t, c, fromQueue("q", 1))
			publish(t, c, toQueue("q"), "a")
			d, err := c.Get(ctx, fromQueue("q", 1))
			if err != nil {
				t.Fatal(err)
			}
			if !lost {
				settle(t, d, adapters.Requeue)
			}
			b.Restart()
			d, err = c.Get(ctx, fromQueue("q", 1))
			if err != nil {
				t.Fatal(err)
			}
			if want := want || lost; d.Redelivered != want || (d.Returned != 0) != want {
				t.Errorf("lost %v: redelivered %v, returned %d", lost, d.Redelivered, d.Returned)
			}
			settle(t, d, adapters.Ack)
		}
	})
}

// TestWhatAPurgeMarks: a classic queue of 4.0 that was purged while nobody held a message of it
// takes all that comes until the next restart for delivered.
func TestWhatAPurgeMarks(t *testing.T) {
	onEach(t, map[Version]bool{"": false, RabbitMQ310: false, RabbitMQ40: true, RabbitMQ43: false}, func(t *testing.T, b *Broker, c *Client, want bool) {
		s := fromQueue("q", 1)
		s.Queue = adapters.QueueSpec{MaxLength: 10} // which makes it a classic one
		get := func() adapters.Delivery {
			t.Helper()
			d, err := c.Get(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		purge := func() {
			t.Helper()
			if _, err := b.Purge("q"); err != nil {
				t.Fatal(err)
			}
		}
		declare(t, c, s)
		purge()
		for _, want := range []bool{want, false} { // after the first restart, and the next one
			publish(t, c, toQueue("q"), "a")
			b.Restart()
			d := get()
			if d.Redelivered != want {
				t.Errorf("after a purge: redelivered %v", d.Redelivered)
			}
			settle(t, d, adapters.Ack)
		}
		publish(t, c, toQueue("q"), "held")
		held := get()
		purge()
		publish(t, c, toQueue("q"), "b")
		settle(t, held, adapters.Ack)
		b.Restart()
		if d := get(); d.Redelivered {
			t.Error("after a purge while one was held: redelivered")
		}
	})
}

// TestGetPastTheConsumerTimeout: as on RabbitMQ, the message comes again, and its holder is told.
func TestGetPastTheConsumerTimeout(t *testing.T) {
	quorum := map[Version]bool{"": false, RabbitMQ310: true, RabbitMQ40: true, RabbitMQ43: true}
	synctest.Test(t, func(t *testing.T) {
		onEachInBubble(t, quorum, func(b *Broker, c *Client, quorum bool) {
			for _, name := range []string{"quorum", "classic"} {
				src := fromQueue(name, 1)
				if name == "classic" {
					src.Queue.MaxLength = 10 // and refuses
				}
				declare(t, c, src)
				publish(t, c, toQueue(name), "m")
				got := func() adapters.Delivery {
					t.Helper()
					d, err := c.Get(t.Context(), src)
					if err != nil {
						t.Fatal(err)
					}
					return d
				}
				held := got()
				time.Sleep(defaultTimeout)
				synctest.Wait()
				if b.version == RabbitMQ43 && (name == "classic" || !quorum) {
					if err := cmp.Or(held.Message.Context().Err(), held.Settle(t.Context(), adapters.Ack)); err != nil {
						t.Errorf("a classic queue has no timeout: %v", err)
					}
					continue
				}
				if cause := context.Cause(held.Message.Context()); !errors.Is(cause, adapters.ErrConsumerTimeout) || !errors.Is(cause, adapters.ErrSessionLost) {
					t.Errorf("%s: its ctx ended for %v", name, cause)
				}
				if err := held.Settle(t.Context(), adapters.Ack); !errors.Is(err, adapters.ErrConsumerTimeout) || !errors.Is(err, adapters.ErrStaleDelivery) {
					t.Errorf("%s: settled late: %v", name, err)
				}
				again := got()
				if !again.Redelivered {
					t.Errorf("%s: it is not marked as redelivered", name)
				}
				time.Sleep(defaultTimeout - 1) // it is held for less
				if err := again.Settle(t.Context(), adapters.Ack); err != nil {
					t.Errorf("%s: settled in time: %v", name, err)
				}
				wantQueue(t, b, name, 0, 0, 0)
			}
		})
	})
}
