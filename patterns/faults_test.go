package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// A settle that the broker refuses for a while must not cost the message's
// place in the prefetch, which here is all there is.
func TestRefusedSettleIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		result error
		opts   []patterns.WorkOption
		dead   uint64
	}{
		"ack":            {},
		"dead letter":    {result: patterns.Reject(errKitchen), dead: 2},
		"ack on receive": {opts: []patterns.WorkOption{patterns.AckOnReceive()}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				var got []int
				_, err := q.Work(t.Context(), func(_ context.Context, o order) error { got = append(got, o.ID); return c.result }, c.opts...)
				must(t, err)
				broker.Inject(memory.Fault{On: memory.OnSettle, Name: "orders", Do: memory.Refuse, Times: 3})
				must(t, q.SendBatch(t.Context(), []order{{ID: 1}, {ID: 2}}))
				time.Sleep(time.Minute)
				synctest.Wait()
				if info, _ := broker.Queue("orders"); len(got) != 2 || info.Ready != 0 || info.Unacked != 0 {
					t.Errorf("handled %v, queue %+v", got, info)
				}
				if s := bus.Stats(); s.Stale != 0 || s.DeadLettered != c.dead {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestSettleThatIsAlwaysRefusedDoesNotKeepFromStopping(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := q.Work(t.Context(), func(context.Context, order) error { return nil }, patterns.DrainTimeout(time.Minute))
		must(t, err)
		broker.Inject(memory.Fault{On: memory.OnSettle, Do: memory.Refuse})
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		start := time.Now()
		must(t, sub.Stop(t.Context()))
		if d := time.Since(start); d != time.Minute {
			t.Errorf("stopped after %v", d)
		}
		if n := bus.Stats().Stale; n != 1 {
			t.Errorf("%d settled too late", n)
		}
	})
}

// What cannot be sent on goes back to the queue, after a pause and not counted
// as a try, and is neither lost nor doubled.
func TestRetryThatIsRefusedIsNotLost(t *testing.T) {
	for _, name := range []string{"orders", "orders.dead"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				start := time.Now()
				var tries []time.Duration
				must(t, q.Send(t.Context(), order{}))
				broker.Inject(memory.Fault{On: memory.OnPublish, Name: name, Do: memory.Refuse, Times: 2})
				_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
					tries = append(tries, time.Since(start))
					switch d, _ := patterns.DeliveryFrom(ctx); {
					case name == "orders.dead":
						return patterns.Reject(errKitchen)
					case d.Attempt == 1:
						return patterns.RetryAfter(time.Hour, errKitchen)
					}
					return nil
				})
				must(t, err)
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				want := []time.Duration{0, time.Second, 2 * time.Second}
				if name == "orders" {
					want = append(want, time.Hour+2*time.Second)
				}
				if !slices.Equal(tries, want) {
					t.Errorf("tried at %v, want %v", tries, want)
				}
				if info, _ := broker.Queue("orders"); info.Ready+info.Unacked != 0 {
					t.Errorf("left %+v", info)
				}
				if info, _ := broker.Queue("orders.dead"); name == "orders.dead" && info.Ready != 1 {
					t.Errorf("dead letters %+v", info)
				}
				if s := bus.Stats(); s.Requeued != 2 || s.Retried+s.DeadLettered != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestUnconfirmedRetryMakesOneDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{}))
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "orders", Do: memory.DropConfirm, Times: 1})
		var attempts []int
		_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			d, _ := patterns.DeliveryFrom(ctx)
			attempts = append(attempts, d.Attempt)
			if d.Attempt == 1 {
				return patterns.RetryAfter(time.Minute, errKitchen)
			}
			return nil
		})
		must(t, err)
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(attempts, []int{1, 1, 2, 2}) {
			t.Errorf("attempts %v", attempts)
		}
	})
}

func TestDeletedDeadLetterQueueIsDeclaredAgain(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		_, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(errKitchen) })
		must(t, err)
		must(t, q.Send(t.Context(), order{})) // declares both
		synctest.Wait()
		must(t, broker.DeleteQueue("orders.dead"))
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		take(t, q.Dead())
		if s := bus.Stats(); s.DeadLettered != 2 || s.Requeued != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A private queue is gone with its session, so that what was in hand is the
// handler's for good: nobody else gets it.
func TestPrivateSubscriptionTellsWhatALostSessionCost(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		ps := patterns.NewPubSub[int](bus, "ticks")
		var dropped []string
		_, err := ps.Subscribe(t.Context(), func(ctx context.Context, n int) error {
			<-ctx.Done()
			if n == 1 {
				return nil // done all the same
			}
			return ctx.Err()
		}, patterns.Workers(2), patterns.OnDrop(func(d patterns.Delivery, _ error) { dropped = append(dropped, d.ID) }))
		must(t, err)
		must(t, ps.Publish(t.Context(), 1, patterns.MessageID("one")))
		must(t, ps.Publish(t.Context(), 2, patterns.MessageID("two")))
		synctest.Wait()
		broker.Cut()
		synctest.Wait()
		if s := bus.Stats(); !slices.Equal(dropped, []string{"two"}) || s.Dropped != 1 || s.Stale != 0 {
			t.Errorf("told of %v, %+v", dropped, s)
		}
	})
}

// The handler's ctx ended by the shutdown first, and the session after it.
func TestSessionLostDuringShutdownMakesNoDeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{}))
		sub, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			<-ctx.Done()
			broker.Cut()
			return patterns.Reject(errKitchen)
		}, patterns.DrainTimeout(0))
		must(t, err)
		synctest.Wait()
		must(t, sub.Stop(t.Context()))
		wantErr(t, "dead letters", second(q.Dead().TryGet(t.Context())), adapters.ErrEmpty)
		take(t, q)
	})
}

func TestSettleIsTriedAgainWithinSecondsOfTheRepair(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		_, err := q.Work(t.Context(), func(context.Context, order) error { return nil })
		must(t, err)
		remove := broker.Inject(memory.Fault{On: memory.OnSettle, Do: memory.Refuse})
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(time.Hour)
		remove()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if info, _ := broker.Queue("orders"); info.Unacked != 0 {
			t.Errorf("still in hand: %+v", info)
		}
	})
}

// A broker that does not answer holds a worker for a while, not indefinitely.
func TestDeadLetterThatIsNotAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{}))
		broker.Inject(memory.Fault{On: memory.OnPublish, Name: "orders.dead", Delay: time.Hour, Times: 1})
		_, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(errKitchen) })
		must(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := bus.Stats(); s.DeadLettered != 1 || s.Requeued != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatADeadLetterKeeps(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		topic := patterns.NewTopic[int](bus, "news")
		var kept context.Context
		_, err := topic.Subscribe(t.Context(), []string{"#"}, func(ctx context.Context, _ int) error {
			kept = ctx
			return patterns.Reject(errors.New(strings.Repeat("x", 2000)))
		}, patterns.Group("g"))
		must(t, err)
		must(t, topic.Publish(t.Context(), "usa.weather", 1, patterns.TTL(time.Minute), patterns.Header("trace", "abc")))
		time.Sleep(time.Hour) // its time does not pass there
		synctest.Wait()
		dead := take(t, patterns.NewWorkQueue[int](bus, "news:g.dead"))
		if dead.Key != "usa.weather" || dead.Headers["trace"] != "abc" || len(dead.Headers[patterns.HeaderReason]) != 1024 {
			t.Errorf("%+v", dead.Delivery)
		}
		if d, _ := patterns.DeliveryFrom(kept); len(d.Headers) != 1 {
			t.Errorf("the handler's own delivery changed: %+v", d)
		}
	})
}

// closingDriver closes the bus at the worst moment, and not itself.
type closingDriver struct {
	*memory.Client
	bus *patterns.Bus
}

func (d *closingDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := d.Client.Subscribe(ctx, s)
	return sub, errors.Join(err, d.bus.Close(ctx))
}

func (*closingDriver) Close(context.Context) error { return nil }

func TestCloseWhileSubscribing(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	d := &closingDriver{Client: broker.Connect()}
	d.bus = patterns.New(d)
	q := patterns.NewWorkQueue[order](d.bus, "orders")
	wantErr(t, "Work", second(q.Work(bounded(t), func(context.Context, order) error { return nil })), adapters.ErrClosed)
	if info, _ := broker.Queue("orders"); info.Consumers != 0 {
		t.Errorf("left behind: %+v", info)
	}
}

// A retry that is not to wait must not vanish where its queue was deleted.
func TestRetryToADeletedQueueIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(t.Context(), order{}))
		_, err := q.Work(t.Context(), func(context.Context, order) error {
			broker.Inject(memory.Fault{On: memory.OnSubscribe, Do: memory.Refuse, Times: 3})
			must(t, broker.DeleteQueue("orders"))
			return patterns.RetryAfter(0, errKitchen)
		})
		must(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := bus.Stats(); s.Retried != 0 || s.Requeued != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// unsettledDriver refuses to settle with err, as often as that is left to it.
type unsettledDriver struct {
	*memory.Client
	err           error
	left, settles int
}

type unsettledSubscription struct {
	adapters.Subscription
	d *unsettledDriver
}

type unsettledSettler struct {
	adapters.Settler
	d *unsettledDriver
}

func (d *unsettledDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := d.Client.Subscribe(ctx, s)
	return &unsettledSubscription{sub, d}, err
}

func (s *unsettledSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	d.Settler = unsettledSettler{d.Settler, s.d}
	return d, err
}

func (s unsettledSettler) Settle(ctx context.Context, o adapters.Outcome) error {
	s.d.settles++
	if s.d.left > 0 {
		s.d.left--
		return s.d.err
	}
	return s.Settler.Settle(ctx, o)
}

// What is stale is not settled again. What an operator, or time, can mend is, and stays in hand.
func TestSettleAgain(t *testing.T) {
	for _, test := range []struct {
		err     error
		settles int
		stale   uint64
	}{
		{adapters.ErrStaleDelivery, 1, 1},
		{adapters.ErrInvalid, 1, 1},
		{adapters.ErrUnavailable, 4, 0},
		{fmt.Errorf("to the dead letters: %w", adapters.ErrAccess), 4, 0},
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				d := &unsettledDriver{Client: broker.Connect(), err: test.err, left: 3}
				bus := patterns.New(d)
				q := patterns.NewWorkQueue[order](bus, "orders")
				_, err := q.Work(t.Context(), func(context.Context, order) error { return nil })
				must(t, err)
				must(t, q.Send(t.Context(), order{}))
				time.Sleep(time.Minute)
				must(t, bus.Close(t.Context()))
				if d.settles != test.settles || bus.Stats().Stale != test.stale {
					t.Errorf("settled %d times, %+v", d.settles, bus.Stats())
				}
			})
		})
	}
}

// A message that comes back to be tried again may find its queue full of
// others: it waits for room, for its publisher was told that it is kept.
func TestRetryToAFullQueueIsNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders", patterns.MaxLength(1))
		var handled []int
		must(t, q.Send(t.Context(), order{ID: 1}))
		_, err := q.Work(t.Context(), func(ctx context.Context, o order) error {
			handled = append(handled, o.ID)
			if d, _ := patterns.DeliveryFrom(ctx); o.ID == 1 && d.Attempt == 1 {
				return errKitchen
			}
			time.Sleep(time.Minute)
			return nil
		})
		must(t, err)
		synctest.Wait()
		must(t, q.Send(t.Context(), order{ID: 2})) // in hand for a minute
		must(t, q.Send(t.Context(), order{ID: 3})) // fills the queue
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(handled, []int{1, 2, 3, 1}) {
			t.Errorf("handled %v, want 1 again once there is room", handled)
		}
	})
}
