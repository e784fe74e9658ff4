package patterns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// only returns the health of the bus's one subscription.
func only(t *testing.T, bus *patterns.Bus) patterns.SubscriptionHealth {
	t.Helper()
	h := bus.Health()
	if len(h.Subscriptions) != 1 {
		t.Fatalf("%d subscriptions: %+v", len(h.Subscriptions), h.Subscriptions)
	}
	return h.Subscriptions[0]
}

func TestHealthOfAWorker(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		_, err := q.Work(t.Context(), func(_ context.Context, o order) error {
			time.Sleep(time.Duration(o.ID) * time.Second)
			return nil
		}, patterns.Workers(2))
		must(t, err)
		began := time.Now()
		if s := only(t, bus); s.String() != `work queue "orders"` || s.Queue != "orders" || s.State != patterns.StateRunning ||
			s.Workers != 2 || s.InHand != 0 || !s.OldestInHand.IsZero() || !s.LastMessage.IsZero() {
			t.Errorf("before the first message it is %+v", s)
		}
		time.Sleep(time.Second)
		must(t, q.Send(t.Context(), order{ID: 10}))
		time.Sleep(time.Second)
		must(t, q.Send(t.Context(), order{ID: 5}))
		synctest.Wait()
		s := only(t, bus)
		if oldest, last := s.OldestInHand.Sub(began), s.LastMessage.Sub(began); s.InHand != 2 || oldest != time.Second || last != 2*time.Second {
			t.Errorf("%d in hand, the oldest since %v, the last one since %v", s.InHand, oldest, last)
		}
		time.Sleep(9500 * time.Millisecond)
		if s = only(t, bus); s.InHand != 0 || !s.OldestInHand.IsZero() || s.LastMessage.Sub(began) != 2*time.Second {
			t.Errorf("afterwards %+v", s)
		}
		if problems := bus.Health().Problems(); problems != nil {
			t.Errorf("problems: %v", problems)
		}
	})
}

// What is in hand when somebody first asks is seen, though nobody knows since when it is.
func TestHealthSeesWhatIsInHandAlready(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		release := make(chan struct{})
		_, err := q.Work(t.Context(), func(context.Context, order) error { <-release; return nil })
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(time.Minute)
		asked := time.Now()
		if s := only(t, bus); s.InHand != 1 || !s.OldestInHand.Equal(asked) || !s.LastMessage.Equal(asked) {
			t.Errorf("at first %+v", s)
		}
		time.Sleep(time.Minute)
		if s := only(t, bus); s.InHand != 1 || !s.OldestInHand.Equal(asked) {
			t.Errorf("a minute later %+v", s)
		}
		close(release)
		synctest.Wait()
		if s := only(t, bus); s.InHand != 0 || !s.OldestInHand.IsZero() {
			t.Errorf("at the end %+v", s)
		}
	})
}

// A message that its worker holds for its next try is in hand for all of that time.
func TestHealthWhileAWorkerWaits(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		_ = bus.Health()
		news := patterns.NewPubSub[order](bus, "news")
		_, err := news.Subscribe(t.Context(), func(context.Context, order) error { return patterns.RetryAfter(time.Minute, errKitchen) })
		must(t, err)
		began := time.Now()
		must(t, news.Publish(t.Context(), order{}))
		time.Sleep(90 * time.Second)
		if s := only(t, bus); s.Kind != "PubSub" || s.Queue != "" || s.InHand != 1 || !s.OldestInHand.Equal(began) {
			t.Errorf("it is %+v, begun at %v", s, began)
		}
	})
}

func TestHealthNamesALateHandler(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		release := make(chan struct{})
		_, err := q.Work(t.Context(), func(_ context.Context, o order) error {
			if o.ID == 1 {
				<-release
			}
			return nil
		}, patterns.HandlerTimeout(time.Minute), patterns.Workers(2))
		must(t, err)
		must(t, q.Send(t.Context(), order{ID: 1}, patterns.MessageID("stuck")))
		must(t, q.Send(t.Context(), order{ID: 2}))
		synctest.Wait()
		due := time.Now().Add(time.Minute)
		time.Sleep(61 * time.Second)
		if s := only(t, bus); s.Late != nil {
			t.Errorf("late in its last second: %+v", s.Late)
		}
		time.Sleep(9 * time.Second)
		h := bus.Health()
		if late := h.Subscriptions[0].Late; len(late) != 1 || late[0].ID != "stuck" || !late[0].Due.Equal(due) {
			t.Errorf("late: %+v, want the message stuck, due at %v", late, due)
		}
		want := patterns.Problem{`work queue "orders": a handler has not returned 10s after the end of its time, with message "stuck"`, true}
		if got := h.Problems(); len(got) != 1 || got[0] != want {
			t.Errorf("problems: %+v", got)
		}
		close(release)
		synctest.Wait()
		if h := bus.Health(); h.Problems() != nil {
			t.Errorf("once it has returned: %+v", h.Problems())
		}
	})
}

// The time of a handler that has returned is not that of the next, which middleware keeps waiting.
func TestHealthWhileMiddlewareWaits(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		waits := func(next message.HandlerFunc) message.HandlerFunc {
			return func(m *message.Message) ([]*message.Message, error) {
				if m.UUID == "later" {
					time.Sleep(90 * time.Second)
				}
				return next(m)
			}
		}
		_, err := q.Work(t.Context(), func(context.Context, order) error { return nil },
			patterns.HandlerTimeout(time.Minute), patterns.WithMiddleware(waits))
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		must(t, q.Send(t.Context(), order{}, patterns.MessageID("later")))
		time.Sleep(75 * time.Second)
		if s := only(t, bus); s.InHand != 1 || s.Late != nil {
			t.Errorf("it is %+v", s)
		}
		time.Sleep(time.Minute) // until the middleware has returned
	})
}

// fail ends a subscription of queue "orders" with an error.
func fail(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
	t.Helper()
	orders := patterns.NewWorkQueue[order](bus, "orders", patterns.Passive())
	must(t, patterns.NewWorkQueue[order](bus, "orders").Declare(t.Context()))
	sub, err := orders.Work(t.Context(), func(context.Context, order) error { return nil })
	must(t, err)
	must(t, broker.DeleteQueue("orders"))
	wantErr(t, "the subscription ended", sub.Wait(), adapters.ErrNotFound)
}

func TestHealthNamesASubscriptionThatEnded(t *testing.T) {
	bus, broker := newBus(t)
	fail(t, bus, broker)
	s := only(t, bus)
	if s.State != patterns.StateEnded || s.Name != "orders" {
		t.Errorf("it is %+v", s)
	}
	wantErr(t, "why", s.Err, adapters.ErrNotFound)
	problems := bus.Health().Problems()
	if len(problems) != 1 || !problems[0].Lasting || problems[0].Reason != `work queue "orders" has ended: `+s.Err.Error() {
		t.Errorf("problems: %+v", problems)
	}

	// One that takes its place ends that.
	orders := patterns.NewWorkQueue[order](bus, "orders")
	sub, err := orders.Work(t.Context(), func(context.Context, order) error { return nil })
	must(t, err)
	if s := only(t, bus); s.State != patterns.StateRunning || bus.Health().Problems() != nil {
		t.Errorf("the next one is %+v", s)
	}
	must(t, sub.Stop(t.Context()))
	if h := bus.Health(); len(h.Subscriptions) != 0 || h.Problems() != nil {
		t.Errorf("one that was stopped is not forgotten: %+v", h.Subscriptions)
	}
}

func TestHealthRemembersSoMany(t *testing.T) {
	bus, broker := newBus(t)
	for i := range 105 {
		name := fmt.Sprintf("q%03d", i)
		must(t, patterns.NewWorkQueue[order](bus, name).Declare(t.Context()))
		sub, err := patterns.NewWorkQueue[order](bus, name, patterns.Passive()).Work(t.Context(), func(context.Context, order) error { return nil })
		must(t, err)
		must(t, broker.DeleteQueue(name))
		wantErr(t, "the subscription ended", sub.Wait(), adapters.ErrNotFound)
	}
	if h := bus.Health(); len(h.Subscriptions) != 100 || h.Subscriptions[0].Name != "q005" || h.Subscriptions[99].Name != "q104" {
		t.Errorf("%d are remembered", len(h.Subscriptions))
	}
}

func TestHealthWhileDraining(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := q.Work(ctx, func(context.Context, order) error { time.Sleep(time.Second); return nil })
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		cancel()
		synctest.Wait()
		if s := only(t, bus); s.State != patterns.StateDraining || s.InHand != 1 {
			t.Errorf("it is %+v", s)
		}
		if problems := bus.Health().Problems(); problems != nil {
			t.Errorf("to stop is no problem: %+v", problems)
		}
	})
}

func TestHealthOfTheConnection(t *testing.T) {
	bus, broker := newBus(t)
	if h := bus.Health(); len(h.Connections) != 1 || !h.Connections[0].Up || h.Blocked || h.Closed {
		t.Errorf("it is %+v", h)
	}
	broker.Restart()
	if h := bus.Health(); h.Connections[0].Generation != 2 || h.Problems() != nil {
		t.Errorf("after a restart it is %+v", h)
	}
	must(t, bus.Close(t.Context()))
	h := bus.Health()
	if h.Connections[0].Up || !h.Closed || len(h.Problems()) != 1 || h.Problems()[0] != (patterns.Problem{"the bus is closed", false}) {
		t.Errorf("closed, it is %+v with %+v", h, h.Problems())
	}
}

// A driver that cannot say how its connections are says nothing, which is no problem.
func TestHealthWithoutAReporter(t *testing.T) {
	driver := struct{ adapters.Driver }{memory.New().Connect()}
	bus := patterns.New(driver)
	defer bus.Close(t.Context())
	if h := bus.Health(); h.Connections != nil || h.Problems() != nil {
		t.Errorf("it is %+v", h)
	}
	bad := patterns.New(nil)
	if problems := bad.Health().Problems(); len(problems) != 1 || !problems[0].Lasting {
		t.Errorf("without a driver: %+v", problems)
	}
}

// sick is a driver whose connections are as a test says.
type sick struct {
	*memory.Client
	connections []adapters.Connection
}

func (s sick) Health() adapters.Health { return adapters.Health{Connections: s.connections} }

func TestProblemsOfConnections(t *testing.T) {
	for _, c := range []struct {
		connection adapters.Connection
		want       string
	}{
		{adapters.Connection{Role: "publish", LastError: errKitchen}, "no connection to the broker, to publish: the kitchen is on fire"},
		{adapters.Connection{Role: "consume"}, "no connection to the broker yet, to consume"},
		{adapters.Connection{Role: "publish", Up: true, Blocked: true, BlockedReason: "low on memory"}, "the broker takes no messages: low on memory"},
		{adapters.Connection{Role: "publish", Up: true, Blocked: true}, "the broker takes no messages: it does not say why"},
	} {
		bus := patterns.New(sick{memory.New().Connect(), []adapters.Connection{{Role: "other", Up: true, LastError: errKitchen}, c.connection}})
		defer bus.Close(t.Context())
		h := bus.Health()
		if got := h.Problems(); len(got) != 1 || got[0] != (patterns.Problem{c.want, false}) || h.Blocked != c.connection.Blocked {
			t.Errorf("%+v: %+v", c.connection, got)
		}
	}
}

// The JSON form is there to stay.
func TestHealthAsJSON(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	h := patterns.Health{
		Time: at, Blocked: true, Err: errKitchen,
		Connections: []adapters.Connection{{
			Role: "publish", Up: true, Address: "localhost:5672", Broker: "RabbitMQ 4.3.6", Generation: 2,
			Blocked: true, BlockedReason: "low on disk", LastError: errKitchen,
		}},
		Subscriptions: []patterns.SubscriptionHealth{
			{
				Kind: "Topic", Name: "logs", Group: "audit", Queue: "logs:audit", State: patterns.StateRunning, Workers: 2, InHand: 1,
				OldestInHand: at, LastMessage: at, Late: []patterns.LateHandler{{ID: "7", Due: at}},
			},
			{Kind: "RPC", Name: "price", Queue: "price", State: patterns.StateEnded, Workers: 16, Err: errKitchen},
		},
	}
	const want = `{
  "time": "2026-11-28T12:00:00Z",
  "closed": false,
  "connections": [
    {
      "role": "publish",
      "up": true,
      "address": "localhost:5672",
      "broker": "RabbitMQ 4.3.6",
      "generation": 2,
      "blocked": true,
      "blocked_reason": "low on disk",
      "last_error": "the kitchen is on fire"
    }
  ],
  "blocked": true,
  "subscriptions": [
    {
      "kind": "Topic",
      "name": "logs",
      "group": "audit",
      "queue": "logs:audit",
      "state": "running",
      "workers": 2,
      "in_hand": 1,
      "oldest_in_hand": "2026-11-28T12:00:00Z",
      "last_message": "2026-11-28T12:00:00Z",
      "late": [
        {
          "id": "7",
          "due": "2026-11-28T12:00:00Z"
        }
      ]
    },
    {
      "kind": "RPC",
      "name": "price",
      "queue": "price",
      "state": "ended",
      "workers": 16,
      "in_hand": 0,
      "error": "the kitchen is on fire"
    }
  ],
  "error": "the kitchen is on fire"
}`
	got, err := json.MarshalIndent(h, "", "  ")
	must(t, err)
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
