package patterns_test

import (
	"context"
	"errors"
	"fmt"
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

func TestBadInputIsRefused(t *testing.T) {
	bus, _ := newBus(t, patterns.MaxPayload(1000))
	ctx := bounded(t)
	long := strings.Repeat("k", 256)
	queue := func(name string) *patterns.WorkQueue[string] { return patterns.NewWorkQueue[string](bus, name) }
	q, ps := queue("ok"), patterns.NewPubSub[string](bus, "ok.fanout")
	routed, topic := patterns.NewRouted[string](bus, "ok.direct"), patterns.NewTopic[string](bus, "ok.topic")
	rpc := patterns.NewRPC[string, string](bus, "ok.rpc")
	nop := func(context.Context, string) error { return nil }
	echo := func(_ context.Context, s string) (string, error) { return s, nil }
	ended, cancel := context.WithCancel(ctx)
	cancel()

	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"empty queue name":          {queue("").Send(ctx, ""), adapters.ErrInvalid},
		"queue name of 256 bytes":   {queue(long).Send(ctx, ""), adapters.ErrInvalid},
		"name whose .dead is long":  {queue(long[:253]).Send(ctx, ""), adapters.ErrInvalid},
		"amq. name":                 {queue("amq.mine").Declare(ctx), adapters.ErrInvalid},
		"control character":         {queue("a\nb").Declare(ctx), adapters.ErrInvalid},
		"not UTF-8":                 {queue("a\xff").Declare(ctx), adapters.ErrInvalid},
		"empty exchange name":       {patterns.NewPubSub[string](bus, "").Publish(ctx, ""), adapters.ErrInvalid},
		"empty key":                 {routed.Publish(ctx, "", ""), adapters.ErrInvalid},
		"key of 256 bytes":          {routed.Publish(ctx, long, ""), adapters.ErrInvalid},
		"wildcard * in a key":       {topic.Publish(ctx, "usa.*", ""), adapters.ErrInvalid},
		"wildcard # in a key":       {topic.PublishBatch(ctx, "#", []string{""}), adapters.ErrInvalid},
		"wildcard in a routed key":  {second(routed.Subscribe(ctx, []string{"a.#"}, nop)), adapters.ErrInvalid},
		"no keys":                   {second(routed.Subscribe(ctx, nil, nop)), adapters.ErrInvalid},
		"pattern too long":          {second(topic.Subscribe(ctx, []string{long}, nop)), adapters.ErrInvalid},
		"pattern too wild":          {second(topic.Subscribe(ctx, []string{"#.a.#.a.#.a.#"}, nop)), adapters.ErrInvalid},
		"pattern of too many words": {second(topic.Subscribe(ctx, []string{strings.Repeat("a.", 40)}, nop)), adapters.ErrInvalid},
		"nil handler, Work":         {second(q.Work(ctx, nil)), adapters.ErrInvalid},
		"nil handler, Subscribe":    {second(ps.Subscribe(ctx, nil)), adapters.ErrInvalid},
		"nil handler, Serve":        {second(rpc.Serve(ctx, nil)), adapters.ErrInvalid},
		"zero workers":              {second(q.Work(ctx, nop, patterns.Workers(0))), adapters.ErrInvalid},
		"negative workers":          {second(q.Work(ctx, nop, patterns.Workers(-1))), adapters.ErrInvalid},
		"zero prefetch":             {second(q.Work(ctx, nop, patterns.Prefetch(0))), adapters.ErrInvalid},
		"prefetch of 65536":         {second(q.Work(ctx, nop, patterns.Prefetch(65536))), adapters.ErrInvalid},
		"negative drain":            {second(q.Work(ctx, nop, patterns.DrainTimeout(-1))), adapters.ErrInvalid},
		"zero handler timeout":      {second(q.Work(ctx, nop, patterns.HandlerTimeout(0))), adapters.ErrInvalid},
		"negative retry":            {second(q.Work(ctx, nop, patterns.Retry(patterns.RetryPolicy{Attempts: -1}))), adapters.ErrInvalid},
		"retry before it began":     {second(q.Work(ctx, nop, patterns.Retry(patterns.RetryPolicy{Min: time.Hour, Max: time.Second}))), adapters.ErrInvalid},
		"retry of what is acked":    {second(q.Work(ctx, nop, patterns.AckOnReceive(), patterns.NoRetry())), adapters.ErrInvalid},
		"workers without work":      {second(q.Work(ctx, nop, patterns.Workers(8), patterns.Prefetch(7))), adapters.ErrInvalid},
		"DropOldest of no limit":    {patterns.NewWorkQueue[string](bus, "x", patterns.DropOldest()).Declare(ctx), adapters.ErrInvalid},
		"some dead letters or none": {patterns.NewWorkQueue[string](bus, "x", patterns.DeadLetter("y"), patterns.NoDeadLetter()).Declare(ctx), adapters.ErrInvalid},
		"passive with properties":   {patterns.NewWorkQueue[string](bus, "x", patterns.Passive(), patterns.MaxLength(1)).Declare(ctx), adapters.ErrInvalid},
		"group that contradicts":    {ps.Declare(ctx, patterns.Group("g"), patterns.DropOldest()), adapters.ErrInvalid},
		"half a wildcard":           {second(topic.Subscribe(ctx, []string{"usa.w*"}, nop)), adapters.ErrInvalid},
		"two in one word":           {topic.Declare(ctx, []string{"**"}), adapters.ErrInvalid},
		"empty pattern":             {topic.Declare(ctx, []string{""}), adapters.ErrInvalid},
		"no patterns":               {topic.Declare(ctx, nil), adapters.ErrInvalid},
		"code of our own":           {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithErrorCode("internal", errKitchen)), "q").Send(ctx, ""), adapters.ErrInvalid},
		"code of context's":         {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithErrorCode("canceled", errKitchen)), "q").Send(ctx, ""), adapters.ErrInvalid},
		"code twice":                {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithErrorCode("a", errKitchen), patterns.WithErrorCode("a", errNegative)), "q").Send(ctx, ""), adapters.ErrInvalid},
		"sending Raw":               {patterns.NewWorkQueue[patterns.Raw](bus, "x").Send(ctx, patterns.Raw("x")), patterns.ErrCodec},
		"nil OnDrop":                {second(q.Work(ctx, nop, patterns.OnDrop(nil))), adapters.ErrInvalid},
		"nil middleware":            {second(q.Work(ctx, nop, patterns.WithMiddleware(nil))), adapters.ErrInvalid},
		"nil option":                {second(q.Work(ctx, nop, nil)), adapters.ErrInvalid},
		"empty group":               {second(ps.Subscribe(ctx, nop, patterns.Group(""))), adapters.ErrInvalid},
		"colon in a group":          {second(ps.Subscribe(ctx, nop, patterns.Group("a:b"))), adapters.ErrInvalid},
		"queue option, no group":    {second(ps.Subscribe(ctx, nop, patterns.MaxLength(3))), adapters.ErrInvalid},
		"zero max length":           {patterns.NewWorkQueue[string](bus, "x", patterns.MaxLength(0)).Declare(ctx), adapters.ErrInvalid},
		"zero max priority":         {patterns.NewWorkQueue[string](bus, "x", patterns.MaxPriority(0)).Declare(ctx), adapters.ErrInvalid},
		"zero message TTL":          {patterns.NewWorkQueue[string](bus, "x", patterns.MessageTTL(0)).Declare(ctx), adapters.ErrInvalid},
		"its own dead letters":      {patterns.NewWorkQueue[string](bus, "x", patterns.DeadLetter("x")).Declare(ctx), adapters.ErrInvalid},
		"Dead of none":              {patterns.NewWorkQueue[string](bus, "x", patterns.NoDeadLetter()).Dead().Declare(ctx), adapters.ErrInvalid},
		"zero delay":                {q.Send(ctx, "", patterns.Delay(0)), adapters.ErrInvalid},
		"negative TTL":              {q.Send(ctx, "", patterns.TTL(-time.Second)), adapters.ErrInvalid},
		"mandatory and delayed":     {q.Send(ctx, "", patterns.Delay(1), patterns.Mandatory()), adapters.ErrInvalid},
		"reserved header":           {q.Send(ctx, "", patterns.Header("motif-reason", "x")), adapters.ErrInvalid},
		"empty header":              {second(rpc.Call(ctx, "", patterns.Header("", "x"))), adapters.ErrInvalid},
		"headers of 65 KiB":         {q.Send(ctx, "", patterns.Header("x", strings.Repeat("x", 65<<10))), adapters.ErrInvalid},
		"TTL of 50 days":            {q.Send(ctx, "", patterns.TTL(50*24*time.Hour)), adapters.ErrInvalid},
		"empty id":                  {q.Send(ctx, "", patterns.MessageID("")), adapters.ErrInvalid},
		"one id for a batch":        {q.SendBatch(ctx, []string{"", ""}, patterns.MessageID("x")), adapters.ErrInvalid},
		"WaitForRoom of a batch":    {q.SendBatch(ctx, []string{"", ""}, patterns.WaitForRoom()), adapters.ErrInvalid},
		"WaitForRoom, asynchronous": {second(q.SendAsync(ctx, "", patterns.WaitForRoom())), adapters.ErrInvalid},
		"oversize payload":          {q.Send(ctx, strings.Repeat("x", 1000)), adapters.ErrTooLarge},
		"oversize request":          {second(rpc.Call(ctx, strings.Repeat("x", 1000))), adapters.ErrTooLarge},
		"not encodable":             {patterns.NewWorkQueue[chan int](bus, "x").Send(ctx, nil), patterns.ErrCodec},
		"ended ctx, Send":           {q.Send(ended, ""), context.Canceled},
		"ended ctx, SendAsync":      {second(q.SendAsync(ended, "")), context.Canceled},
		"ended ctx, Work":           {second(q.Work(ended, nop)), context.Canceled},
		"ended ctx, Get":            {second(q.Get(ended)), context.Canceled},
		"ended ctx, Call":           {second(rpc.Call(ended, "")), context.Canceled},
		"empty RPC name":            {second(patterns.NewRPC[string, string](bus, "").Serve(ctx, echo)), adapters.ErrInvalid},
		"RPC name of 250 bytes":     {second(patterns.NewRPC[string, string](bus, long[:250]).Serve(ctx, echo)), adapters.ErrInvalid},
		"missing passive queue":     {second(patterns.NewWorkQueue[string](bus, "theirs", patterns.Passive()).Work(ctx, nop)), adapters.ErrNotFound},
		"nobody serves":             {second(rpc.Call(ctx, "")), patterns.ErrNoServer},
		"nobody listens, mandatory": {ps.Publish(ctx, "", patterns.Mandatory()), adapters.ErrUnroutable},
		"nobody listens":            {ps.Publish(ctx, ""), nil},
		"other properties":          {errors.Join(queue("p").Declare(ctx), patterns.NewWorkQueue[string](bus, "p", patterns.MaxLength(1)).Send(ctx, "")), adapters.ErrMismatch},
		"other kind of exchange":    {errors.Join(ps.Declare(ctx), patterns.NewTopic[string](bus, "ok.fanout").Publish(ctx, "a", "")), adapters.ErrMismatch},
		"nil driver":                {patterns.NewWorkQueue[string](patterns.New(nil), "q").Send(ctx, ""), adapters.ErrInvalid},
		"nil bus":                   {patterns.NewWorkQueue[string](nil, "q").Send(ctx, ""), adapters.ErrInvalid},
		"bad bus option":            {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.MaxInFlight(0)), "q").Send(ctx, ""), adapters.ErrInvalid},
		"nil codec":                 {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithCodec(nil)), "q").Send(ctx, ""), adapters.ErrInvalid},
		"nil logger":                {patterns.NewWorkQueue[string](patterns.New(bus.Driver(), patterns.WithLogger(nil)), "q").Send(ctx, ""), adapters.ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", name, c.err, c.want)
		}
		if c.err != nil && strings.Contains(c.err.Error(), long) {
			t.Errorf("%s: the error repeats all of a long name: %v", name, c.err)
		}
	}
	must(t, q.Send(ctx, "still working"))
}

func TestSendBeforeAnyWorkerIsKept(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	must(t, q.Send(bounded(t), order{ID: 1}))
	broker.Restart()
	got, err := q.Get(bounded(t))
	must(t, err)
	must(t, got.Ack(bounded(t)))
	if got.Value.ID != 1 {
		t.Errorf("got %+v", got.Value)
	}
}

func TestSendDeclaresAgainWhatWasDeleted(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	must(t, q.Send(bounded(t), order{ID: 1}))
	must(t, broker.DeleteQueue("orders"))
	must(t, q.SendBatch(bounded(t), []order{{ID: 2}, {ID: 3}}))
	for _, id := range []int{2, 3} {
		got, err := q.TryGet(bounded(t))
		must(t, err)
		must(t, got.Ack(bounded(t)))
		if got.Value.ID != id {
			t.Errorf("got %d, want %d", got.Value.ID, id)
		}
	}
}

func TestBatchSaysWhichFailed(t *testing.T) {
	bus, _ := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders", patterns.MaxLength(2))
	err := q.SendBatch(bounded(t), []order{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}})
	wantErr(t, "a batch past the limit", err, adapters.ErrNacked)
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 2 || failed.Failed[1].Index != 3 {
		t.Errorf("failed: %v", err)
	}
	if err := q.SendBatch(bounded(t), nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func TestWaitForRoom(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders", patterns.MaxLength(1))
		must(t, q.Send(t.Context(), order{ID: 1}))
		wantErr(t, "a full queue", q.Send(t.Context(), order{ID: 2}), adapters.ErrNacked)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := q.Send(ctx, order{ID: 2}, patterns.WaitForRoom())
		wantErr(t, "held back until ctx ended", err, context.DeadlineExceeded)
		wantErr(t, "held back until ctx ended", err, adapters.ErrNacked)
		if time.Since(start) != time.Second {
			t.Errorf("held back for %v", time.Since(start))
		}
		go func() {
			time.Sleep(time.Minute)
			got, err := q.TryGet(t.Context())
			must(t, err)
			must(t, got.Ack(t.Context()))
		}()
		start = time.Now()
		must(t, q.Send(t.Context(), order{ID: 3}, patterns.WaitForRoom()))
		if d := time.Since(start); d < time.Minute || d > time.Minute+time.Second {
			t.Errorf("room after a minute was used after %v", d)
		}
	})
}

func TestAsyncPublishes(t *testing.T) {
	bus, broker := newBus(t, patterns.MaxInFlight(4))
	q := patterns.NewWorkQueue[order](bus, "orders")
	var receipts []*patterns.Receipt
	for i := range 100 {
		r, err := q.SendAsync(bounded(t), order{ID: i})
		must(t, err)
		receipts = append(receipts, r)
	}
	for _, r := range receipts {
		must(t, r.Wait(bounded(t)))
		<-r.Done()
	}
	for i := range 100 {
		got, err := q.TryGet(bounded(t))
		must(t, err)
		must(t, got.Ack(bounded(t)))
		if got.Value.ID != i {
			t.Fatalf("message %d is %d", i, got.Value.ID)
		}
	}
	_ = broker
}

// slowDriver confirms asynchronous publishes when told to.
type slowDriver struct {
	adapters.Driver
	confirm chan func(error)
}

func (d *slowDriver) PublishAsync(_ context.Context, _ adapters.Publication, _ *message.Message, done func(error)) error {
	d.confirm <- done
	return nil
}

func TestAsyncPublishesAreBounded(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	d := &slowDriver{broker.Connect(), make(chan func(error), 10)}
	bus := patterns.New(d, patterns.MaxInFlight(2))
	defer func() { must(t, bus.Close(bounded(t))) }()
	q := patterns.NewWorkQueue[order](bus, "orders")
	first, err := q.SendAsync(bounded(t), order{})
	must(t, err)
	second_, err := q.SendAsync(bounded(t), order{})
	must(t, err)

	ctx, cancel := context.WithTimeout(bounded(t), 20*time.Millisecond)
	defer cancel()
	wantErr(t, "a third in flight of two", second(q.SendAsync(ctx, order{})), context.DeadlineExceeded)
	err = first.Wait(ctx)
	wantErr(t, "Wait", err, adapters.ErrUnconfirmed)
	wantErr(t, "Wait", err, context.DeadlineExceeded)

	(<-d.confirm)(adapters.ErrNacked)
	wantErr(t, "the outcome", first.Wait(bounded(t)), adapters.ErrNacked)
	third, err := q.SendAsync(bounded(t), order{})
	must(t, err)
	(<-d.confirm)(nil)
	(<-d.confirm)(nil)
	must(t, second_.Wait(bounded(t)))
	must(t, third.Wait(bounded(t)))
}

func TestThousandPublishersLoseNothing(t *testing.T) {
	bus, _ := newBus(t)
	ctx := bounded(t)
	q := patterns.NewWorkQueue[[2]int](bus, "orders")
	const publishers, each = 1000, 5
	var mu sync.Mutex
	next := map[int]int{}
	var handled atomic.Int64
	all := make(chan struct{})
	_, err := q.Work(ctx, func(_ context.Context, v [2]int) error {
		mu.Lock()
		defer mu.Unlock()
		if next[v[0]] != v[1] {
			t.Errorf("publisher %d: %d came when %d was due", v[0], v[1], next[v[0]])
		}
		next[v[0]] = v[1] + 1
		if handled.Add(1) == publishers*each {
			close(all)
		}
		return nil
	}, patterns.Prefetch(100)) // one worker: order holds
	must(t, err)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := q.Send(ctx, [2]int{p, i}); err != nil {
					t.Errorf("publisher %d: %v", p, err)
				}
			}
		})
	}
	wg.Wait()
	select {
	case <-all:
	case <-time.After(within):
		t.Fatalf("%d of %d handled", handled.Load(), publishers*each)
	}
}

func TestSubscriberGoneInMidPublish(t *testing.T) {
	bus, _ := newBus(t)
	ps := patterns.NewPubSub[int](bus, "ticks")
	kept := newJournal[int]()
	_, err := ps.Subscribe(bounded(t), func(_ context.Context, n int) error { kept.add(n); return nil }, patterns.Group("keeper"))
	must(t, err)
	var wg sync.WaitGroup
	const total = 500
	wg.Go(func() {
		for i := range total {
			if err := ps.Publish(bounded(t), i); err != nil {
				t.Errorf("publish %d: %v", i, err)
			}
		}
	})
	for range 50 { // come and go meanwhile
		sub, err := ps.Subscribe(bounded(t), func(context.Context, int) error { return nil })
		must(t, err)
		must(t, sub.Stop(bounded(t)))
	}
	wg.Wait()
	for i, n := range kept.await(t, total) {
		if n != i {
			t.Fatalf("the group's message %d is %d", i, n)
		}
	}
}

// TestPriorityNeedsMaxPriority: a queue of which it is known that it has no priorities
// refuses one, before anything is declared or sent.
func TestPriorityNeedsMaxPriority(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q, ctx, high := patterns.NewWorkQueue[int](bus, "jobs"), t.Context(), patterns.Priority(1)
		for what, err := range map[string]error{
			"Send":      q.Send(ctx, 1, high),
			"delayed":   q.Send(ctx, 1, high, patterns.Delay(time.Second)),
			"SendBatch": q.SendBatch(ctx, []int{1, 2}, high),
			"SendAsync": second(q.SendAsync(ctx, 1, high)),
			"Dead":      q.Dead().Send(ctx, 1, high),
		} {
			wantErr(t, what, err, adapters.ErrInvalid)
			if text := err.Error(); !strings.Contains(text, "Priority(1)") || !strings.Contains(text, "MaxPriority") {
				t.Errorf("%s: %v", what, err)
			}
		}
		passive := patterns.NewWorkQueue[int](bus, "jobs", patterns.Passive())
		wantErr(t, "nothing was declared", passive.Declare(ctx), adapters.ErrNotFound)
		must(t, q.Send(ctx, 1, patterns.Priority(0)))
		must(t, passive.Send(ctx, 2, high))
		for want := range 2 {
			if got := take(t, q); got.Value != want+1 {
				t.Errorf("got %+v", got)
			}
		}
	})
}

func TestPublishOptionsTravel(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "jobs", patterns.MaxPriority(5))
		start := time.Now()
		must(t, q.Send(t.Context(), 1, patterns.Header("trace", "abc"), patterns.MessageID("one")))
		must(t, q.Send(t.Context(), 2, patterns.Priority(5), patterns.Transient()))
		must(t, q.Send(t.Context(), 3, patterns.TTL(time.Second)))
		must(t, q.Send(t.Context(), 4, patterns.Delay(time.Hour)))
		if got := take(t, q); got.Value != 2 || got.Priority != 5 {
			t.Errorf("first %+v", got)
		}
		got := take(t, q)
		if got.Value != 1 || got.ID != "one" || got.Headers["trace"] != "abc" || got.ContentType != "application/json" || !got.PublishedAt.Equal(start) {
			t.Errorf("second %+v", got)
		}
		must(t, q.Send(t.Context(), 5, patterns.Transient()))
		must(t, q.Send(t.Context(), 6))
		time.Sleep(2 * time.Second)
		broker.Restart()
		if got := take(t, q); got.Value != 6 {
			t.Errorf("after expiry and restart %+v", got)
		}
		wantErr(t, "before its delay", second(q.TryGet(t.Context())), adapters.ErrEmpty)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := take(t, q); got.Value != 4 {
			t.Errorf("delayed %+v", got)
		}
		if dead := take(t, q.Dead()); dead.Value != 3 {
			t.Errorf("expired %+v", dead)
		}
	})
}

func take[T any](t *testing.T, q *patterns.WorkQueue[T]) *patterns.Message[T] {
	t.Helper()
	got, err := q.TryGet(t.Context())
	if err != nil {
		t.Fatal(fmt.Errorf("taking from %s: %w", q.Name(), err))
	}
	must(t, got.Ack(t.Context()))
	return got
}
