package patterns_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func nop(context.Context, order) error { return nil }

// An option that is refused says what it would take.
func TestRefusedOptionsSayWhatTheyNeed(t *testing.T) {
	bus, _ := newBus(t)
	work := func(opts ...patterns.WorkOption) error {
		return second(patterns.NewWorkQueue[order](bus, "orders").Work(bounded(t), nop, opts...))
	}
	policy := func(p patterns.RetryPolicy) error { return work(patterns.Retry(p)) }
	for says, err := range map[string]error{
		"Workers(0), at least 1 is needed":              work(patterns.Workers(0)),
		"HandlerTimeout(0s), which must be more than 0": work(patterns.HandlerTimeout(0)),
		"at least as many are needed":                   work(patterns.Workers(8), patterns.Prefetch(2)),
		"Max 1s, which is less than Min 1m0s":           policy(patterns.RetryPolicy{Min: time.Minute, Max: time.Second}),
		"negative value: Attempts -1, Min 0s, Max 0s":   policy(patterns.RetryPolicy{Attempts: -1}),
	} {
		if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want an ErrInvalid with %q", err, says)
		}
	}
}

// What would win or be ignored without a word is refused, and named.
func TestOptionsThatWouldHaveNoEffect(t *testing.T) {
	bus, _ := newBus(t)
	ctx := bounded(t)
	queue := func(opts ...patterns.WorkQueueOption) error {
		return patterns.NewWorkQueue[order](bus, "q", opts...).Declare(ctx)
	}
	send := func(opts ...patterns.PublishOption) error {
		return patterns.NewWorkQueue[order](bus, "orders").Send(ctx, order{}, opts...)
	}
	work := func(opts ...patterns.WorkOption) error {
		return second(patterns.NewWorkQueue[order](bus, "orders").Work(ctx, nop, opts...))
	}
	subscribe := func(opts ...patterns.SubscribeOption) error {
		return second(patterns.NewPubSub[order](bus, "placed").Subscribe(ctx, nop, opts...))
	}
	declare := func(opts ...patterns.SubscribeOption) error {
		return patterns.NewPubSub[order](bus, "placed").Declare(ctx, opts...)
	}
	open := func(opts ...patterns.BusOption) error { return second(patterns.Open(ctx, "memory:", opts...)) }
	serve := func(opts ...patterns.ServeOption) error {
		return second(patterns.NewRPC[order, order](bus, "f").Serve(ctx, func(_ context.Context, o order) (order, error) { return o, nil }, opts...))
	}
	call := func(opts ...patterns.CallOption) error {
		return second(patterns.NewRPC[order, order](bus, "f").Call(ctx, order{}, opts...))
	}
	drop := func(patterns.Delivery, error) {}
	same := func(err error) error { return err }
	for says, err := range map[string]error{
		"MaxInFlight is given twice":   open(patterns.MaxInFlight(1), patterns.MaxInFlight(2)),
		"MaxCalls is given twice":      open(patterns.MaxCalls(1), patterns.MaxCalls(1)),
		"MaxPayload is given twice":    open(patterns.MaxPayload(1), patterns.MaxPayload(2)),
		"WithCodec is given twice":     open(patterns.WithCodec(patterns.JSON{}), patterns.WithCodec(patterns.Text{})),
		"Workers is given twice":       work(patterns.Workers(2), patterns.Workers(3)),
		"Prefetch is given twice":      serve(patterns.Prefetch(2), patterns.Prefetch(3)),
		"(Retry, NoRetry) is given":    work(patterns.NoRetry(), patterns.Retry(patterns.RetryPolicy{})),
		"AckOnReceive is given twice":  work(patterns.AckOnReceive(), patterns.AckOnReceive()),
		"DrainTimeout is given twice":  work(patterns.DrainTimeout(0), patterns.DrainTimeout(0)),
		"HandlerTimeout is given":      work(patterns.HandlerTimeout(1), patterns.HandlerTimeout(1)),
		"OnDrop is given twice":        work(patterns.OnDrop(drop), patterns.OnDrop(drop)),
		"Classify is given twice":      work(patterns.Classify(same), patterns.Classify(same)),
		"LossLimit is given twice":     work(patterns.LossLimit(2), patterns.LossLimit(3)),
		"LossLimit and AckOnReceive":   work(patterns.LossLimit(2), patterns.AckOnReceive()),
		"LossLimit without Group":      subscribe(patterns.LossLimit(2)),
		"Group is given twice":         subscribe(patterns.Group("a"), patterns.Group("b")),
		"Declare with options":         declare(patterns.Group("a"), patterns.Workers(2)),
		"MaxLength is given twice":     queue(patterns.MaxLength(1), patterns.MaxLength(2)),
		"DropOldest is given twice":    queue(patterns.MaxLength(1), patterns.DropOldest(), patterns.DropOldest()),
		"DropOldest without MaxLength": queue(patterns.DropOldest()),
		"MessageTTL is given twice":    queue(patterns.MessageTTL(1), patterns.MessageTTL(1)),
		"MaxPriority is given twice":   queue(patterns.MaxPriority(1), patterns.MaxPriority(2)),
		"DeadLetter is given twice":    queue(patterns.DeadLetter("a"), patterns.DeadLetter("b")),
		"NoDeadLetter is given twice":  queue(patterns.NoDeadLetter(), patterns.NoDeadLetter()),
		"Passive is given twice":       queue(patterns.Passive(), patterns.Passive()),
		"Passive and NoDeadLetter":     queue(patterns.Passive(), patterns.NoDeadLetter()),
		"Priority is given twice":      send(patterns.Priority(0), patterns.Priority(0)),
		"which has no MaxPriority":     send(patterns.Priority(1)),
		"which has no MaxLength":       send(patterns.WaitForRoom()),
		"Delay is given twice":         send(patterns.Delay(1), patterns.Delay(2)),
		"TTL is given twice":           send(patterns.TTL(1), patterns.TTL(2)),
		"MessageID is given twice":     send(patterns.MessageID("a"), patterns.MessageID("b")),
		"Mandatory is given twice":     send(patterns.Mandatory(), patterns.Mandatory()),
		"Transient is given twice":     send(patterns.Transient(), patterns.Transient()),
		`Header "a" is given twice`:    call(patterns.Header("a", "1"), patterns.Header("a", "2")),
	} {
		if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// Every error of a verb says which it was, of which pattern, and where.
func TestErrorsNameVerbPatternAndPlace(t *testing.T) {
	bus, broker := newBus(t)
	ctx := bounded(t)
	taken := func(settle func(*patterns.Message[order]) error) error {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Send(ctx, order{}))
		letter, err := q.Get(ctx)
		must(t, err)
		broker.Restart()
		return settle(letter)
	}
	queue, missing := patterns.NewWorkQueue[order](bus, "orders"), patterns.NewWorkQueue[order](bus, "missing", patterns.Passive())
	answer := func(_ context.Context, o order) (order, error) { return o, nil }
	var (
		noQueue  patterns.WorkQueue[order]
		noPubSub patterns.PubSub[order]
		noRouted patterns.Routed[order]
		noTopic  patterns.Topic[order]
		noRPC    patterns.RPC[order, order]
		noBus    = patterns.NewWorkQueue[order](nil, "orders")
	)
	long := strings.Repeat("q", 253)
	for _, row := range []struct {
		says string
		is   error
		err  error
	}{
		{`work on work queue "missing"`, adapters.ErrNotFound, second(missing.Work(ctx, nop))},
		{`work on work queue "orders"`, adapters.ErrInvalid, second(queue.Work(ctx, nil))},
		{`get from work queue "missing"`, adapters.ErrNotFound, second(missing.Get(ctx))},
		{`get from work queue "orders"`, adapters.ErrEmpty, second(queue.TryGet(ctx))},
		{`declare work queue "missing"`, adapters.ErrNotFound, missing.Declare(ctx)},
		{`acknowledge a message from work queue "orders"`, adapters.ErrStaleDelivery, taken(func(m *patterns.Message[order]) error { return m.Ack(ctx) })},
		{`requeue a message from work queue "orders"`, adapters.ErrStaleDelivery, taken(func(m *patterns.Message[order]) error { return m.Requeue(ctx) })},
		{`reject a message from work queue "orders"`, adapters.ErrStaleDelivery, taken(func(m *patterns.Message[order]) error { return m.Reject(ctx, nil) })},
		{`subscribe to PubSub "placed"`, adapters.ErrInvalid, second(patterns.NewPubSub[order](bus, "placed").Subscribe(ctx, nil))},
		{`subscribe to PubSub "placed": group "g"`, adapters.ErrInvalid, second(patterns.NewPubSub[order](bus, "placed").Subscribe(ctx, nop, patterns.Group("g"), patterns.Prefetch(1<<20)))},
		{`subscribe to Topic "news"`, adapters.ErrInvalid, second(patterns.NewTopic[order](bus, "news").Subscribe(ctx, nil, nop))},
		{`declare Routed "logs"`, adapters.ErrInvalid, patterns.NewRouted[order](bus, "logs").Declare(ctx, nil)},
		{`unbind from Routed "logs"`, adapters.ErrInvalid, patterns.NewRouted[order](bus, "logs").Unbind(ctx, "", "a")},
		{`serve RPC "f"`, adapters.ErrInvalid, second(patterns.NewRPC[order, order](bus, "f").Serve(ctx, nil))},
		{`call RPC "f"`, patterns.ErrNoServer, second(patterns.NewRPC[order, order](bus, "f").Call(ctx, order{}))},
		{`work queue ""`, adapters.ErrInvalid, noQueue.Send(ctx, order{})},
		{`work on work queue ""`, adapters.ErrInvalid, second(noQueue.Work(ctx, nop))},
		{`publish to PubSub ""`, adapters.ErrInvalid, noPubSub.Publish(ctx, order{})},
		{`subscribe to PubSub ""`, adapters.ErrInvalid, second(noPubSub.Subscribe(ctx, nop))},
		{`declare PubSub ""`, adapters.ErrInvalid, noPubSub.Declare(ctx)},
		{`publish to Routed ""`, adapters.ErrInvalid, noRouted.Publish(ctx, "k", order{})},
		{`subscribe to Routed ""`, adapters.ErrInvalid, second(noRouted.Subscribe(ctx, []string{"k"}, nop))},
		{`publish to Topic ""`, adapters.ErrInvalid, second(noTopic.PublishAsync(ctx, "k", order{}))},
		{`unbind from Topic ""`, adapters.ErrInvalid, noTopic.Unbind(ctx, "g")},
		{`call RPC ""`, adapters.ErrInvalid, second(noRPC.Call(ctx, order{}))},
		{`serve RPC ""`, adapters.ErrInvalid, second(noRPC.Serve(ctx, answer))},
		{`publish to work queue "orders"`, adapters.ErrInvalid, noBus.Send(ctx, order{})},
		{`".dead"`, adapters.ErrInvalid, patterns.NewWorkQueue[order](bus, long).Declare(ctx)},
		{`".dead"`, adapters.ErrInvalid, patterns.NewPubSub[order](bus, long[:250]).Declare(ctx, patterns.Group("g"))},
		{`the exchange on which callers give up`, adapters.ErrInvalid, second(patterns.NewRPC[order, order](bus, long).Call(ctx, order{}))},
	} {
		if !errors.Is(row.err, row.is) || !strings.Contains(row.err.Error(), row.says) {
			t.Errorf("want %q, %v; got: %v", row.says, row.is, row.err)
		}
	}
}

// A policy that only says where to begin grows from there, too.
func TestLongFirstWaitGrows(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		start, tries := time.Now(), []time.Duration{}
		must(t, second(q.Work(t.Context(), func(context.Context, order) error {
			tries = append(tries, time.Since(start).Truncate(10*time.Minute))
			return errKitchen
		}, patterns.Retry(patterns.RetryPolicy{Min: 10 * time.Minute}))))
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(tries) != 5 || tries[4] < 150*time.Minute || tries[2]-tries[1] < 2*(tries[1]-tries[0]) {
			t.Errorf("tried at %v", tries)
		}
	})
}
