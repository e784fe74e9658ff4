package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// brokers are the kinds of RabbitMQ that count what comes back each in its own way.
var brokers = map[string][]memory.Option{
	"3.10":    {memory.RabbitMQ(memory.RabbitMQ310)},
	"4.0":     {memory.RabbitMQ(memory.RabbitMQ40)},
	"4.3":     {memory.RabbitMQ(memory.RabbitMQ43)},
	"classic": {memory.RabbitMQ(memory.RabbitMQ40), memory.ClassicQueues()},
}

func onEachBroker(t *testing.T, f func(t *testing.T, broker *memory.Broker)) {
	t.Helper()
	for name, options := range brokers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New(options...)
				defer broker.Close()
				f(t, broker)
			})
		})
	}
}

// process is a client of a broker that dies when one of its handlers is given the poison: it
// fetches no more, and loses its connection with all that it has.
func process(ctx context.Context, t *testing.T, broker *memory.Broker, handled func(patterns.Delivery), opts ...patterns.WorkOption) (died bool) {
	client := broker.Connect()
	bus := patterns.New(client)
	working, die := context.WithCancel(ctx)
	defer die()
	dead := make(chan struct{})
	sub, err := patterns.NewWorkQueue[string](bus, "jobs").Work(working, func(ctx context.Context, _ string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		handled(d)
		if d.ID == "poison" {
			die()
			close(dead)
		}
		if d.ID == "poison" || working.Err() != nil {
			<-ctx.Done()
		}
		return ctx.Err()
	}, opts...)
	must(t, err)
	select {
	case <-dead:
		died = true
		synctest.Wait()
		client.Cut() // after which nothing is delivered to it
	case <-ctx.Done():
	}
	must(t, sub.Stop(context.Background()))
	must(t, bus.Close(context.Background()))
	return died
}

func TestLostWorkers(t *testing.T) {
	for _, workers := range []int{1, 4} {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			bus := patterns.New(broker.Connect())
			defer bus.Close(t.Context())
			jobs := patterns.NewWorkQueue[string](bus, "jobs")
			for _, id := range []string{"a", "poison", "b", "c", "d", "e", "f", "g", "h"} {
				must(t, jobs.Send(t.Context(), id, patterns.MessageID(id)))
			}
			living, kill := context.WithCancel(t.Context())
			defer kill()
			var mu sync.Mutex
			var losses []int
			ran := map[string]bool{}
			note := func(d patterns.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				if d.ID == "poison" {
					losses = append(losses, d.Lost)
				} else {
					ran[d.ID] = true
				}
			}
			var supervisor sync.WaitGroup
			supervisor.Go(func() {
				for process(living, t, broker, note, patterns.Workers(workers), patterns.Prefetch(3*workers)) {
				}
			})
			time.Sleep(time.Hour)
			kill()
			supervisor.Wait()
			letter, err := jobs.Dead().TryGet(t.Context())
			must(t, err)
			if letter.ID != "poison" || letter.Headers[patterns.HeaderReason] != "its worker was lost 5 times" ||
				letter.Headers[patterns.HeaderLosses] != "5" || letter.Headers[patterns.HeaderAttempts] != "1" {
				t.Errorf("dead letter %q: %v", letter.ID, letter.Headers)
			}
			must(t, letter.Ack(t.Context()))
			if !slices.Equal(losses, []int{0, 1, 2, 3, 4}) || len(ran) != 8 {
				t.Errorf("it ran after %v losses, beside %v", losses, ran)
			}
			for _, q := range []*patterns.WorkQueue[string]{jobs, jobs.Dead()} {
				if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
					t.Errorf("left: %+v, %v", more, err)
				}
			}
		})
	}
}

// TestCopyComesAfterItsOriginal: where it takes the broker a while to hear of an acknowledgement,
// what was sent on with its count is not handled before it has, or there would be two messages.
func TestCopyComesAfterItsOriginal(t *testing.T) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		defer broker.Inject(memory.Fault{On: memory.OnSettle, Name: "jobs", Delay: 10 * time.Millisecond})()
		bus := patterns.New(broker.Connect())
		defer bus.Close(t.Context())
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Send(t.Context(), "x", patterns.MessageID("poison")))
		living, kill := context.WithCancel(t.Context())
		defer kill()
		var losses []int
		var supervisor sync.WaitGroup
		supervisor.Go(func() {
			for process(living, t, broker, func(d patterns.Delivery) { losses = append(losses, d.Lost) }, patterns.Workers(4)) {
			}
		})
		time.Sleep(time.Hour)
		kill()
		supervisor.Wait()
		if !slices.Equal(losses, []int{0, 1, 2, 3, 4}) {
			t.Errorf("it ran after %v losses", losses)
		}
	})
}

// TestNobodyIsLost: what comes back for a shutdown, or a connection that is lost by a process
// that lives, is nobody's fault, however often.
func TestNobodyIsLost(t *testing.T) {
	const often = 30
	for name, happen := range map[string]func(*testing.T, *patterns.Bus, *memory.Broker, *patterns.Subscription) bool{
		"shutdown": func(t *testing.T, _ *patterns.Bus, _ *memory.Broker, sub *patterns.Subscription) bool {
			must(t, sub.Stop(t.Context()))
			return true
		},
		"cut": func(_ *testing.T, _ *patterns.Bus, broker *memory.Broker, _ *patterns.Subscription) bool {
			broker.Cut()
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
				bus := patterns.New(broker.Connect())
				defer bus.Close(t.Context())
				jobs := patterns.NewWorkQueue[string](bus, "jobs")
				must(t, jobs.Send(t.Context(), "long"))
				runs, most, done := 0, 0, false
				work := func() *patterns.Subscription {
					sub, err := jobs.Work(t.Context(), func(ctx context.Context, _ string) error {
						d, _ := patterns.DeliveryFrom(ctx)
						runs++
						if most = max(most, d.Lost); done {
							return nil
						}
						<-ctx.Done()
						return ctx.Err()
					}, patterns.DrainTimeout(0))
					must(t, err)
					return sub
				}
				sub := work()
				for range often {
					synctest.Wait()
					time.Sleep(time.Minute)
					if happen(t, bus, broker, sub) {
						sub = work()
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if runs != often+1 || most > 2 {
					t.Errorf("it ran %d times, after up to %d losses", runs, most)
				}
				done = true
				must(t, sub.Stop(t.Context()))
				sub = work()
				time.Sleep(time.Minute)
				must(t, sub.Stop(t.Context()))
				for _, q := range []*patterns.WorkQueue[string]{jobs, jobs.Dead()} {
					if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
						t.Errorf("left: %+v, %v", more, err)
					}
				}
			})
		})
	}
}

// TestHandlerPastTheConsumerTimeout: it is told, and its message is given up in the end. What is
// held beside it is not.
func TestHandlerPastTheConsumerTimeout(t *testing.T) {
	for _, heed := range []bool{true, false} {
		onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
			var text strings.Builder
			bus := patterns.New(broker.Connect(), patterns.WithLogger(slog.New(slog.NewTextHandler(&text, nil))))
			jobs := patterns.NewWorkQueue[string](bus, "jobs")
			for _, id := range []string{"slow", "beside"} {
				must(t, jobs.Send(t.Context(), id, patterns.MessageID(id)))
			}
			var mu sync.Mutex
			begun, ended := []int{}, []string{}
			_, err := jobs.Work(t.Context(), func(ctx context.Context, id string) error {
				d, _ := patterns.DeliveryFrom(ctx)
				if id == "beside" && d.Redelivered {
					return nil
				}
				if id == "slow" {
					mu.Lock()
					begun = append(begun, d.Lost)
					mu.Unlock()
				} else {
					time.Sleep(time.Second) // it is held for less
				}
				<-ctx.Done()
				cause := context.Cause(ctx)
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, fmt.Sprintf("%s %t %t", id, errors.Is(cause, adapters.ErrConsumerTimeout), errors.Is(cause, adapters.ErrSessionLost)))
				if heed {
					return cause
				}
				return nil
			}, patterns.Workers(2))
			must(t, err)
			time.Sleep(4 * time.Hour)
			synctest.Wait()
			slices.Sort(ended)
			if want := []string{"beside true true", "slow true true", "slow true true", "slow true true", "slow true true", "slow true true"}; !slices.Equal(begun, []int{0, 1, 2, 3, 4}) ||
				!slices.Equal(ended, want) {
				t.Errorf("begun after %v losses, ended with %q", begun, ended)
			}
			if s := bus.Stats(); s.TimedOut != 5 || s.DeadLettered != 1 {
				t.Errorf("%+v", s)
			}
			letter, err := jobs.Dead().TryGet(t.Context())
			must(t, err)
			if letter.ID != "slow" || letter.Headers[patterns.HeaderReason] != "its worker was lost 5 times" {
				t.Errorf("dead letter %q: %v", letter.ID, letter.Headers)
			}
			must(t, bus.Close(t.Context()))
			if !strings.Contains(text.String(), "held longer than the broker allows") {
				t.Errorf("the log does not say why:\n%s", text.String())
			}
		})
	}
}

// TestHandlerTimeoutSetsTheConsumerTimeout where the broker lets it.
func TestHandlerTimeoutSetsTheConsumerTimeout(t *testing.T) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		bus := patterns.New(broker.Connect())
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Send(t.Context(), "slow"))
		var runs atomic.Int64
		_, err := jobs.Work(t.Context(), func(ctx context.Context, _ string) error {
			runs.Add(1)
			select {
			case <-time.After(time.Hour):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, patterns.HandlerTimeout(2*time.Hour))
		must(t, err)
		time.Sleep(6 * time.Hour)
		want := int64(5) // and then it is a dead letter
		if broker.Version() == memory.RabbitMQ43 {
			want = 1
		}
		if n := runs.Load(); n != want {
			t.Errorf("it ran %d times, want %d", n, want)
		}
		must(t, bus.Close(t.Context()))
	})
}

func TestLossLimit(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		_, err := jobs.Work(t.Context(), func(context.Context, string) error { return nil }, patterns.LossLimit(1))
		wantErr(t, "a limit of 1", err, adapters.ErrInvalid)
		for _, limit := range []int{2, 3, 8} {
			must(t, jobs.Send(t.Context(), "poison", patterns.MessageID("poison")))
			living, kill := context.WithCancel(t.Context())
			runs := 0
			var supervisor sync.WaitGroup
			supervisor.Go(func() {
				for process(living, t, broker, func(patterns.Delivery) { runs++ }, patterns.LossLimit(limit)) {
				}
			})
			letter, err := jobs.Dead().Get(t.Context())
			must(t, err)
			if !strings.Contains(letter.Headers[patterns.HeaderReason], fmt.Sprintf("lost %d times", limit)) || runs != limit {
				t.Errorf("after %d runs, of at most %d: %v", runs, limit, letter.Headers)
			}
			must(t, letter.Ack(t.Context()))
			kill()
			supervisor.Wait()
		}
	})
}

// suspected sends messages whose workers are said to have been lost so often.
func suspected(t *testing.T, client *memory.Client, lost map[string]int, delay time.Duration) {
	t.Helper()
	for id, n := range lost {
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "jobs"}, Delay: delay}
		p.Lost, p.ContentType = n, "text/plain"
		must(t, client.Publish(t.Context(), p, message.NewMessage(id, []byte(id))))
	}
}

// TestSuspectsThatNobodySaw: what waits behind the message that is handled alone is given back
// by shutdowns, and none of them is a loss, also where the broker is slow.
func TestSuspectsThatNobodySaw(t *testing.T) {
	t.Run("at once", func(t *testing.T) { suspectsThatNobodySaw(t, 0) })
	t.Run("slowly", func(t *testing.T) { suspectsThatNobodySaw(t, 100*time.Millisecond) })
}

func suspectsThatNobodySaw(t *testing.T, slowness time.Duration) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		defer broker.Inject(memory.Fault{On: memory.OnDeliver, Name: "jobs", Delay: slowness})()
		client := broker.Connect()
		bus := patterns.New(client)
		defer bus.Close(t.Context())
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Declare(t.Context()))
		suspected(t, client, map[string]int{"a": 2, "b": 2, "c": 2}, 0)
		most := 0
		for range 30 {
			sub, err := jobs.Work(t.Context(), func(ctx context.Context, _ string) error {
				d, _ := patterns.DeliveryFrom(ctx)
				most = max(most, d.Lost)
				<-ctx.Done()
				return ctx.Err()
			}, patterns.Prefetch(3), patterns.DrainTimeout(time.Second))
			must(t, err)
			time.Sleep(time.Minute)
			must(t, sub.Stop(t.Context()))
		}
		time.Sleep(time.Minute)
		for range 3 {
			d, err := jobs.TryGet(t.Context())
			must(t, err)
			must(t, d.Ack(t.Context()))
		}
		if most != 2 {
			t.Errorf("one was said to be lost %d times", most)
		}
	})
}

// TestSuspectsThatArriveLater: what is suspected and comes while another message takes its
// time, and the process with it, is not blamed.
func TestSuspectsThatArriveLater(t *testing.T) {
	onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
		client := broker.Connect()
		bus := patterns.New(client)
		defer bus.Close(t.Context())
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Declare(t.Context()))
		suspected(t, client, map[string]int{"poison": 3}, 0)
		suspected(t, client, map[string]int{"innocent": 4}, time.Minute)
		var order []string
		for {
			client := broker.Connect()
			died := make(chan struct{})
			sub, err := patterns.NewWorkQueue[string](patterns.New(client), "jobs").Work(t.Context(), func(ctx context.Context, id string) error {
				order = append(order, id)
				if id == "poison" {
					time.Sleep(10 * time.Minute)
					go func() { must(t, client.Close(context.Background())); close(died) }()
					<-ctx.Done()
				}
				return ctx.Err()
			}, patterns.Prefetch(3))
			must(t, err)
			select {
			case <-died:
				<-sub.Done()
				continue
			case <-time.After(time.Hour):
			}
			must(t, sub.Stop(t.Context()))
			must(t, client.Close(t.Context()))
			break
		}
		letter, err := jobs.Dead().TryGet(t.Context())
		must(t, err)
		slices.Sort(order)
		if letter.ID != "poison" || !slices.Equal(order, []string{"innocent", "poison", "poison"}) {
			t.Errorf("%q is a dead letter; handled: %q", letter.ID, order)
		}
		must(t, letter.Ack(t.Context()))
		for _, q := range []*patterns.WorkQueue[string]{jobs, jobs.Dead()} {
			if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
				t.Errorf("left: %+v, %v", more, err)
			}
		}
	})
}

// TestSuspectsBesideOneThatKillsAtOnce: what a slow broker had sent behind a message that ends the
// process at once is not blamed, nor what another worker has just received, or is still sending to
// the end of the queue.
func TestSuspectsBesideOneThatKillsAtOnce(t *testing.T) {
	for name, x := range map[string]struct {
		workers int
		faults  []memory.Fault
		receipt time.Duration // how long a worker takes to get the suspect that the driver has handed out
	}{
		"slow deliveries": {1, []memory.Fault{{On: memory.OnDeliver, Name: "jobs", Skip: 1, Delay: time.Second}}, 0},
		"slow receipt":    {2, nil, 100 * time.Millisecond},
		"late receipt":    {2, nil, 15 * time.Second}, // longer than is waited for: the other goes to the end of the queue
		"slow confirms": {2, []memory.Fault{
			{On: memory.OnPublish, Name: "jobs", Skip: 3, Delay: time.Second},
			{On: memory.OnDeliver, Name: "jobs", Delay: time.Microsecond}, // the other worker has begun when the third has come
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onEachBroker(t, func(t *testing.T, broker *memory.Broker) {
				for _, fault := range x.faults {
					defer broker.Inject(fault)()
				}
				client := broker.Connect()
				bus := patterns.New(client)
				defer bus.Close(t.Context())
				jobs := patterns.NewWorkQueue[string](bus, "jobs")
				must(t, jobs.Declare(t.Context()))
				for _, lost := range []map[string]int{{"poison": 3}, {"innocent": 4}, {"plain": 0}} {
					suspected(t, client, lost, 0)
				}
				var mu sync.Mutex
				var order []string
				for running := true; running; {
					client := broker.Connect()
					died := make(chan struct{})
					sub, err := patterns.NewWorkQueue[string](patterns.New(slowReceipt{client, x.receipt}), "jobs").Work(t.Context(), func(ctx context.Context, id string) error {
						mu.Lock()
						order = append(order, id)
						mu.Unlock()
						if id == "poison" {
							go func() { must(t, client.Close(context.Background())); close(died) }()
							<-ctx.Done()
						}
						return ctx.Err()
					}, patterns.Workers(x.workers), patterns.Prefetch(3))
					must(t, err)
					select {
					case <-died:
						<-sub.Done()
					case <-time.After(time.Hour):
						running = false
						must(t, sub.Stop(t.Context()))
						must(t, client.Close(t.Context()))
					}
				}
				slices.Sort(order)
				if want := []string{"innocent", "plain", "poison", "poison"}; !slices.Equal(order, want) {
					t.Errorf("handled: %q", order)
				}
				letter, err := jobs.Dead().TryGet(t.Context())
				must(t, err)
				if letter.ID != "poison" {
					t.Errorf("%q is a dead letter", letter.ID)
				}
				must(t, letter.Ack(t.Context()))
				for _, q := range []*patterns.WorkQueue[string]{jobs, jobs.Dead()} {
					if more, err := q.TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
						t.Errorf("left: %+v, %v", more, err)
					}
				}
			})
		})
	}
}

// slowReceipt is a client whose innocent messages are on their way to the worker for a while, in
// nobody's queue any more.
type slowReceipt struct {
	*memory.Client
	takes time.Duration
}

func (c slowReceipt) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := c.Client.Subscribe(ctx, s)
	return slowSubscription{sub, c.takes}, err
}

type slowSubscription struct {
	adapters.Subscription
	takes time.Duration
}

func (s slowSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	if err == nil && d.Message.UUID == "innocent" {
		time.Sleep(s.takes)
	}
	return d, err
}

func (s slowSubscription) TryReceive(ctx context.Context) (adapters.Delivery, error) {
	return s.Subscription.(adapters.TryReceiver).TryReceive(ctx)
}

// TestSuspectsStayAwayLonger: what waits for another suspect to be handled is in hand, to be sent
// on again, for a small part of the time only, also where the broker is slow.
func TestSuspectsStayAwayLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		const took, running = 2 * time.Second, 10 * time.Minute
		client := broker.Connect()
		var moves atomic.Int64
		bus := patterns.New(client, patterns.OnPublish(func(_ context.Context, p *patterns.Publishing) func(error) {
			if p.Cause == patterns.CauseRequeue {
				moves.Add(1)
			}
			return nil
		}))
		jobs := patterns.NewWorkQueue[string](bus, "jobs")
		must(t, jobs.Declare(t.Context()))
		suspected(t, client, map[string]int{"slow": 3}, 0)
		suspected(t, client, map[string]int{"innocent": 4}, time.Second)
		defer broker.Inject(memory.Fault{On: memory.OnPublish, Name: "jobs", Delay: took})()
		_, err := jobs.Work(t.Context(), func(context.Context, string) error {
			time.Sleep(running)
			return nil
		}, patterns.Workers(2))
		must(t, err)
		time.Sleep(running)
		if part := time.Duration(moves.Load()) * took; part == 0 || part > running/8 {
			t.Errorf("in hand for %v of %v", part, running)
		}
		must(t, bus.Close(context.Background()))
	})
}
