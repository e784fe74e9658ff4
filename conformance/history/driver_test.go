package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// recorded returns a recorded client of a new broker.
func recorded(t *testing.T, wrap func(adapters.Driver) adapters.Driver) (*Driver, *memory.Broker) {
	t.Helper()
	b := memory.New()
	d := adapters.Driver(b.Connect())
	if wrap != nil {
		d = wrap(d)
	}
	r := Record(d, New(), "client")
	t.Cleanup(func() { must(t, r.Close(context.Background())) })
	return r, b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func from(queue string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: onQueue(queue), Prefetch: prefetch}
}

func TestRecorderSeesManyClientsAtWork(t *testing.T) {
	const publishers, workers, each = 8, 4, 200
	r, _ := recorded(t, nil)
	ctx := soon(t)
	news := adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}
	sources := []adapters.Source{
		{Endpoint: news, Group: "one", Prefetch: 7},
		{Endpoint: news, Group: "two", Prefetch: 1},
		{Endpoint: news, Prefetch: 100},
	}
	var working sync.WaitGroup
	var subs []adapters.Subscription
	var acked atomic.Int64
	for _, s := range sources {
		sub, err := r.Subscribe(ctx, s)
		must(t, err)
		subs = append(subs, sub)
		for range workers {
			working.Go(func() {
				for i := 0; ; i++ {
					d, err := sub.Receive(ctx)
					if err != nil {
						return
					}
					outcome := adapters.Ack
					if i%50 == 49 && !d.Redelivered {
						outcome = adapters.Requeue
					}
					if err := d.Settle(ctx, outcome); err != nil {
						t.Error(err)
					}
					if outcome == adapters.Ack {
						acked.Add(1)
					}
				}
			})
		}
	}
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				m := []*wm.Message{wm.NewMessage(fmt.Sprint(p, "-", i), nil)}
				if i%10 == 0 {
					m = append(m, wm.NewMessage(fmt.Sprint(p, "-", i, "-second"), nil))
				}
				if err := r.Publish(ctx, adapters.Publication{To: news}, m...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	const messages = publishers * (each + each/10)
	must(t, r.l.Wait(ctx, func() bool { return acked.Load() == int64(messages*len(sources)) }))
	for _, sub := range subs {
		must(t, sub.Stop())
	}
	working.Wait()
	v := r.l.Check()
	if len(v.Violations) > 0 || v.Attempted != messages || v.Confirmed != messages || v.Delivered != messages*len(sources)+v.Duplicated || v.Duplicated == 0 {
		t.Errorf("got %v, %v", v, v.Violations)
	}
	if r.l.Open() != 0 {
		t.Errorf("%d messages are open", r.l.Open())
	}
}

// What is wrong with a driver is seen through the recorder.
func TestRecorderShows(t *testing.T) {
	for name, c := range map[string]struct {
		wrap func(adapters.Driver) adapters.Driver
		want Kind
	}{
		"an honest driver":         {nil, none},
		"one that turns two round": {func(d adapters.Driver) adapters.Driver { return &crooked{Driver: d, reverse: true} }, OutOfOrder},
		"one that takes it all":    {func(d adapters.Driver) adapters.Driver { return &crooked{Driver: d, greedy: true} }, Unfair},
		"a batch turned round":     {func(d adapters.Driver) adapters.Driver { return &crooked{Driver: d, shuffle: true} }, OutOfOrder},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := recorded(t, c.wrap)
			ctx := soon(t)
			must(t, r.Declare(ctx, from("q", 1)))
			must(t, r.Publish(ctx, adapters.Publication{To: onQueue("q")}, wm.NewMessage("a", nil), wm.NewMessage("b", nil)))
			must(t, r.PublishAsync(ctx, adapters.Publication{To: onQueue("q")}, wm.NewMessage("c", nil), func(error) {}))
			must(t, r.Publish(ctx, adapters.Publication{To: onQueue("q")}, wm.NewMessage("d", nil)))
			sub, err := r.Subscribe(ctx, from("q", 3))
			must(t, err)
			held := make([]adapters.Delivery, 3, 4)
			for i := range held {
				held[i], err = sub.Receive(ctx)
				must(t, err)
			}
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			if d, err := sub.Receive(short); err == nil {
				held = append(held, d)
			}
			cancel()
			for _, d := range held {
				must(t, d.Settle(ctx, adapters.Ack))
			}
			if len(held) < 4 {
				d, err := sub.Receive(ctx)
				must(t, err)
				must(t, d.Settle(ctx, adapters.Ack))
			}
			v := r.l.Check()
			switch {
			case c.want == none && len(v.Violations) > 0, len(v.Violations) > 1:
				t.Errorf("found %v", v.Violations)
			case c.want != none && !v.Has(c.want):
				t.Errorf("found %v, want it to be %s", v.Violations, c.want)
			}
		})
	}
}

// crooked is a driver that can do only what every driver can, and that wrong.
type crooked struct {
	adapters.Driver
	reverse, greedy, shuffle bool
}

func (c *crooked) Publish(ctx context.Context, p adapters.Publication, msgs ...*wm.Message) error {
	if c.shuffle {
		msgs = slices.Clone(msgs)
		slices.Reverse(msgs)
	}
	return c.Driver.Publish(ctx, p, msgs...)
}

func (c *crooked) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if c.greedy {
		s.Prefetch = 100
	}
	sub, err := c.Driver.Subscribe(ctx, s)
	return &crookedSubscription{Subscription: sub, c: c}, err
}

type crookedSubscription struct {
	adapters.Subscription
	c      *crooked
	second *adapters.Delivery // which was the first
	turned bool
}

func (s *crookedSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	if d := s.second; d != nil {
		s.second = nil
		return *d, nil
	}
	d, err := s.Subscription.Receive(ctx)
	if s.c.reverse && !s.turned && err == nil {
		s.turned, s.second = true, &d
		return s.Subscription.Receive(ctx)
	}
	return d, err
}

func TestRecorderOfWhoCanDoLess(t *testing.T) {
	r, _ := recorded(t, func(d adapters.Driver) adapters.Driver { return &crooked{Driver: d} })
	ctx := soon(t)
	must(t, r.Declare(ctx, from("q", 1)))
	if _, ok := r.Unwrap().(*crooked); !ok {
		t.Errorf("unwrapped, it is a %T", r.Unwrap())
	}
	if _, err := r.Get(ctx, from("q", 1)); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("Get: %v", err)
	}
	if err := r.Unbind(ctx, from("q", 1)); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("Unbind: %v", err)
	}
	if _, err := r.ReceiveReplies(ctx, nil, nil); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("ReceiveReplies: %v", err)
	}
	done := make(chan error, 2)
	must(t, r.PublishAsync(ctx, adapters.Publication{To: onQueue("q")}, wm.NewMessage("a", nil), func(err error) { done <- err }))
	must(t, <-done)
	must(t, r.PublishAsync(ctx, adapters.Publication{To: onQueue("nowhere"), Mandatory: true}, wm.NewMessage("b", nil), func(err error) { done <- err }))
	err := <-done
	if _, wrapped := errors.AsType[*adapters.PublishError](err); wrapped || !errors.Is(err, adapters.ErrUnroutable) {
		t.Errorf("PublishAsync to nowhere: %v", err)
	}
	if v := r.l.Check(); v.Attempted != 2 || v.Confirmed != 1 || !v.Has(Lost) {
		t.Errorf("got %v, %v", v, v.Violations)
	}
}

// quick hands replies over, without a queue.
type quick struct {
	adapters.Driver
	received func(adapters.Delivery)
}

func (q *quick) ReceiveReplies(_ context.Context, received func(adapters.Delivery), _ func(error)) (string, error) {
	q.received = received
	return "here", nil
}

func TestRecorderOfReplies(t *testing.T) {
	var q *quick
	r, _ := recorded(t, func(d adapters.Driver) adapters.Driver { q = &quick{Driver: d}; return q })
	var got []adapters.Delivery
	address, err := r.ReceiveReplies(soon(t), func(d adapters.Delivery) { got = append(got, d) }, nil)
	if must(t, err); address != "here" {
		t.Errorf("address %q", address)
	}
	m := wm.NewMessage("a", nil)
	must(t, r.Publish(soon(t), adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: address}}, m))
	q.received(adapters.Delivery{Message: m, Properties: adapters.Properties{Attempt: 1}})
	if len(got) != 1 || got[0].Settler != nil {
		t.Errorf("got %+v", got)
	}
	var ops []Op
	for _, e := range r.l.Events() {
		if e.ID == "a" {
			ops = append(ops, e.Op)
		}
	}
	if !slices.Equal(ops, []Op{PublishInvoke, PublishOK, Deliver, Settled}) {
		t.Errorf("wrote down %v", ops)
	}
	if v := r.l.Check(); len(v.Violations) > 0 {
		t.Errorf("found %v", v.Violations)
	}
}

// modest is a driver that claims nothing.
type modest struct{ adapters.Driver }

func (modest) Features() adapters.Features { return adapters.Features{Adapter: "modest"} }

func TestRecorderHoldsNothingAgainstWhoClaimsNothing(t *testing.T) {
	r, _ := recorded(t, func(d adapters.Driver) adapters.Driver { return modest{d} })
	ctx := soon(t)
	must(t, r.Declare(ctx, from("q", 1)))
	must(t, r.Publish(ctx, adapters.Publication{To: onQueue("q")}, wm.NewMessage("a", nil)))
	sub, err := r.Subscribe(ctx, from("q", 1))
	must(t, err)
	d, err := sub.Receive(ctx)
	must(t, err)
	must(t, d.Settle(ctx, adapters.Requeue))
	for _, e := range r.l.Events() {
		if e.Op == PublishInvoke && !e.Droppable || e.Op == Subscribed && e.Prefetch != 0 || e.Op == Deliver && !e.Unmarked {
			t.Errorf("wrote down %+v", e)
		}
	}
	if v := r.l.Check(); len(v.Violations) > 0 {
		t.Errorf("found %v", v.Violations)
	}
}

func TestRecorderOfOneFullQueueOfTwo(t *testing.T) {
	r, _ := recorded(t, nil)
	ctx := soon(t)
	news := adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}
	wide := adapters.Source{Endpoint: news, Group: "wide", Prefetch: 1}
	narrow := adapters.Source{Endpoint: news, Group: "narrow", Prefetch: 1, Queue: adapters.QueueSpec{MaxLength: 1}}
	must(t, r.Declare(ctx, wide))
	must(t, r.Declare(ctx, narrow))
	must(t, r.Publish(ctx, adapters.Publication{To: news}, wm.NewMessage("a", nil)))
	if err := r.Publish(ctx, adapters.Publication{To: news}, wm.NewMessage("b", nil)); !errors.Is(err, adapters.ErrNacked) {
		t.Fatalf("publishing to a full queue: %v", err)
	}
	for _, s := range []adapters.Source{wide, wide, narrow} {
		d, err := r.Get(ctx, s)
		must(t, err)
		must(t, d.Settle(ctx, adapters.Ack))
	}
	if v := r.l.Check(); len(v.Violations) > 0 || v.Recovered != 1 {
		t.Errorf("got %v, %v", v, v.Violations)
	}
}

func TestLogKnowsTheQueues(t *testing.T) {
	r, b := recorded(t, nil)
	ctx := soon(t)
	topic := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	group := adapters.Source{Endpoint: topic, Group: "g:1", Keys: []string{"x.#"}, Prefetch: 1, Queue: adapters.QueueSpec{DeadLetter: "dead", MaxLength: 5}}
	group.Group = "g"
	again := group
	again.Keys = []string{"y.#"}
	temporary := from("temporary", 1)
	temporary.Queue = adapters.QueueSpec{AutoDelete: true}
	private := adapters.Source{Endpoint: topic, Keys: []string{"#"}, Prefetch: 1}
	reply := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1}
	passive := from("elsewhere", 1)
	passive.Passive = true
	other := b.Connect()
	must(t, other.Declare(ctx, from("elsewhere", 1)))
	must(t, other.Close(ctx))

	must(t, r.Declare(ctx, private))
	must(t, r.Declare(ctx, group))
	for _, s := range []adapters.Source{again, temporary, private, reply, passive} {
		_, err := r.Subscribe(ctx, s)
		must(t, err)
	}
	if _, err := r.Get(ctx, from("got", 1)); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("Get: %v", err)
	}
	bad := group
	bad.Queue.MaxLength = 6
	if err := r.Declare(ctx, bad); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("declaring with other properties: %v", err)
	}
	group.Prefetch = 0
	want := []adapters.Source{
		group,
		{Endpoint: onQueue("elsewhere"), Passive: true},
		{Endpoint: onQueue("got")},
		{Endpoint: onQueue("dead")},
	}
	if got := fmt.Sprint(r.l.Queues()); got != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// Whoever binds privately, or used what is there, declared nothing else.
	for _, s := range r.l.Queues() {
		if err := r.Unwrap().Declare(ctx, s); err != nil {
			t.Errorf("declaring %v as it was: %v", s, err)
		}
	}
	must(t, r.Declare(ctx, from("elsewhere", 1)))
	if got := r.l.Queues()[1]; got.Passive {
		t.Error("a queue that was declared is still passive")
	}
}
