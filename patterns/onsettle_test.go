package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// settlements notes what became of each try.
type settlements struct {
	mu    sync.Mutex
	lines []string
	all   []patterns.Settlement
}

func (s *settlements) note(_ context.Context, v patterns.Settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, v)
	s.lines = append(s.lines, fmt.Sprintf("%d %s", v.Attempt, v.Result))
}

func (s *settlements) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, ", ")
}

func TestOnSettleTellsTheResultOfEachTry(t *testing.T) {
	type handler = func(ctx context.Context, attempt int) error
	fail := func(context.Context, int) error { return errKitchen }
	once := func(err error) handler {
		return func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return err
			}
			return nil
		}
	}
	requeueOnce := func() handler {
		asked := false
		return func(context.Context, int) error {
			if asked {
				return nil
			}
			asked = true
			return patterns.Requeue(errKitchen)
		}
	}
	opts := func(o ...patterns.WorkOption) []patterns.WorkOption { return o }
	twice := patterns.Retry(patterns.RetryPolicy{Attempts: 2})
	inProcess := patterns.Retry(patterns.RetryPolicy{Attempts: 2, InProcess: true})
	ack := func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) { m.Ack(); return h(m) }
	}
	panicking := patterns.OnDrop(func(patterns.Delivery, error) { runtime.Goexit() })
	for name, c := range map[string]struct {
		handler handler
		opts    []patterns.WorkOption
		queue   []patterns.WorkQueueOption
		payload string
		want    string
	}{
		"nil":              {handler: func(context.Context, int) error { return nil }, want: "1 acknowledged"},
		"error":            {handler: once(errKitchen), want: "1 retried, 2 acknowledged"},
		"errors":           {handler: fail, opts: opts(twice), want: "1 retried, 2 dead-lettered"},
		"in process":       {handler: fail, opts: opts(inProcess), want: "1 retried, 2 dead-lettered"},
		"panic":            {handler: func(context.Context, int) error { panic("oven") }, opts: opts(twice), want: "1 retried, 2 dead-lettered"},
		"Goexit":           {handler: func(context.Context, int) error { runtime.Goexit(); return nil }, opts: opts(twice), want: "1 retried, 2 dead-lettered"},
		"undecodable":      {handler: fail, payload: "{", want: "1 dead-lettered"},
		"Reject":           {handler: once(patterns.Reject(errKitchen)), want: "1 dead-lettered"},
		"Skip":             {handler: once(patterns.Skip(errKitchen)), want: "1 skipped"},
		"Requeue":          {handler: requeueOnce(), want: "1 requeued, 1 acknowledged"},
		"RetryAfter":       {handler: once(patterns.RetryAfter(time.Hour, errKitchen)), want: "1 retried, 2 acknowledged"},
		"Classify":         {handler: fail, opts: opts(patterns.Classify(func(error) error { return nil })), want: "1 acknowledged"},
		"no dead letters":  {handler: fail, opts: opts(patterns.NoRetry(), panicking), queue: []patterns.WorkQueueOption{patterns.NoDeadLetter()}, want: "1 dropped"},
		"ack on receive":   {handler: fail, opts: opts(patterns.AckOnReceive(), panicking), want: "1 dropped"},
		"ack, skipped":     {handler: once(patterns.Skip(nil)), opts: opts(patterns.AckOnReceive()), want: "1 skipped"},
		"ack, done":        {handler: once(nil), opts: opts(patterns.AckOnReceive()), want: "1 acknowledged"},
		"acked by another": {handler: fail, opts: opts(patterns.WithMiddleware(ack)), want: "1 dropped"},
	} {
		t.Run(name, func(t *testing.T) {
			var bySub, byBus settlements
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q", c.queue...)
				must(t, q.Declare(t.Context()))
				payload := "7"
				if c.payload != "" {
					payload = c.payload
				}
				publishRaw(t, bus, adapters.Endpoint{Name: "q"}, adapters.Properties{}, payload)
				_, err := q.Work(t.Context(), func(ctx context.Context, _ int) error {
					d, _ := patterns.DeliveryFrom(ctx)
					return c.handler(ctx, d.Attempt)
				}, append(c.opts, patterns.OnSettle(bySub.note))...)
				must(t, err)
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				if bySub.String() != c.want || byBus.String() != c.want {
					t.Errorf("got %s and, of the bus, %s, want %s", &bySub, &byBus, c.want)
				}
			}, patterns.OnSettle(byBus.note))
		})
	}
}

func TestOnSettleSaysAllThereIsToKnow(t *testing.T) {
	var seen settlements
	ctxKey := struct{ string }{"span"}
	var span any
	note := func(ctx context.Context, v patterns.Settlement) { span = ctx.Value(ctxKey); seen.note(ctx, v) }
	mw := func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			m.SetContext(context.WithValue(m.Context(), ctxKey, "begun"))
			m.Metadata.Set("a", "changed")
			time.Sleep(time.Second)
			return h(m)
		}
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		topic := patterns.NewTopic[int](bus, "t")
		must(t, topic.Declare(t.Context(), []string{"#"}, patterns.Group("g")))
		must(t, topic.Publish(t.Context(), "a.b", 1, patterns.MessageID("id"), patterns.Header("a", "b")))
		time.Sleep(time.Minute)
		_, err := topic.Subscribe(t.Context(), []string{"#"}, func(context.Context, int) error {
			time.Sleep(time.Second)
			return patterns.RetryAfter(time.Hour, errKitchen)
		}, patterns.Group("g"), patterns.OnSettle(note), patterns.WithMiddleware(mw), patterns.Retry(patterns.RetryPolicy{Attempts: 2}))
		must(t, err)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if seen.String() != "1 retried, 2 dead-lettered" {
			t.Fatal(&seen)
		}
		v := seen.all[0]
		if v.ID != "id" || v.Source != (adapters.Endpoint{Kind: adapters.Topic, Name: "t"}) || v.Group != "g" || v.Queue != "t:g" ||
			v.Key != "a.b" || v.Headers["a"] != "b" || v.Duration != 2*time.Second || v.TimeInQueue != time.Minute || v.RetryIn != time.Hour {
			t.Errorf("got %+v", v)
		}
		wantErr(t, "Err", v.Err, errKitchen)
		if span != "begun" {
			t.Errorf("ctx has %v", span)
		}
		if again := seen.all[1]; again.TimeInQueue != 0 || again.RetryIn != 0 {
			t.Errorf("of the second try: %+v", again)
		}
	})
}

func TestOnSettleOfShutdownsAndLostSessions(t *testing.T) {
	var seen settlements
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[int](bus, "q")
		release := make(chan struct{})
		deaf := func(context.Context, int) error { <-release; return nil }
		sub, err := q.Work(t.Context(), deaf, patterns.DrainTimeout(time.Second))
		must(t, err)
		must(t, q.Send(t.Context(), 1))
		synctest.Wait()
		wantErr(t, "stop", sub.Stop(t.Context()), patterns.ErrAbandoned)
		if seen.String() != "1 requeued" || !errors.Is(seen.all[0].Err, patterns.ErrAbandoned) {
			t.Errorf("of a handler that does not return: %s", &seen)
		}
		close(release)
		synctest.Wait()

		sub, err = q.Work(t.Context(), func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, patterns.DrainTimeout(time.Second))
		must(t, err)
		synctest.Wait()
		must(t, sub.Stop(t.Context()))
		if seen.String() != "1 requeued, 1 requeued" {
			t.Errorf("of a shutdown: %s", &seen)
		}

		held := make(chan struct{})
		other := patterns.NewWorkQueue[int](bus, "other")
		must(t, other.Send(t.Context(), 1))
		sub, err = other.Work(t.Context(), func(context.Context, int) error { <-held; return nil })
		must(t, err)
		synctest.Wait()
		broker.Cut()
		close(held)
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if seen.String() != "1 requeued, 1 requeued, 1 stale, 1 acknowledged" {
			t.Errorf("of a lost session: %s", &seen)
		}
		must(t, sub.Stop(t.Context()))
	}, patterns.OnSettle(seen.note))
}

func TestOnSettleOfCalls(t *testing.T) {
	var seen settlements
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		f := patterns.NewRPC[int, int](bus, "f")
		_, err := f.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			switch n {
			case 2:
				return 0, errKitchen
			case 3:
				panic("oven")
			}
			time.Sleep(time.Second)
			return n, nil
		}, patterns.OnSettle(func(context.Context, patterns.Settlement) { panic("the observer's own") }))
		must(t, err)
		for n := range 4 {
			_, _ = f.Call(t.Context(), n)
			synctest.Wait() // for what is told of it, by another goroutine
		}
		if seen.String() != "1 acknowledged, 1 acknowledged, 1 acknowledged, 1 acknowledged" {
			t.Fatal(&seen)
		}
		if seen.all[0].Err != nil || seen.all[0].Duration != time.Second || seen.all[0].Source.Name != "f" {
			t.Errorf("of a call: %+v", seen.all[0])
		}
		wantErr(t, "of an error", seen.all[2].Err, errKitchen)
		if _, ok := errors.AsType[*patterns.PanicError](seen.all[3].Err); !ok {
			t.Errorf("of a panic: %v", seen.all[3].Err)
		}
	}, patterns.OnSettle(seen.note))
}
