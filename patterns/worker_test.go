package patterns_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// What ends the tries in process, too.
func TestInProcessTries(t *testing.T) {
	inProcess := patterns.Retry(patterns.RetryPolicy{Attempts: 3, InProcess: true})
	for name, c := range map[string]struct {
		result error
		opt    patterns.WorkOption
		tries  int
		dead   bool
	}{
		"error":  {errKitchen, patterns.Workers(1), 3, true},
		"reject": {patterns.Reject(errKitchen), patterns.Workers(1), 1, true},
		"acked":  {errKitchen, patterns.WithMiddleware(middleware.InstantAck), 1, false},
	} {
		if tries, dead := handleOnce(t, func() error { return c.result }, inProcess, c.opt); tries != c.tries || (dead != nil) != c.dead {
			t.Errorf("%s: tried %d times, dead letter %v", name, tries, dead)
		}
	}
}

func TestInProcessWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(impatientDriver{broker.Connect()})
		q := patterns.NewWorkQueue[order](bus, "orders")
		const wait = 4 * time.Minute // five of them are within the broker's consumer timeout
		start := time.Now()
		var tries []time.Duration
		_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			tries = append(tries, time.Since(start))
			if len(tries) == 4 {
				<-ctx.Done() // of the shutdown
				return patterns.RetryAfter(0, errKitchen)
			}
			return patterns.RetryAfter(wait, errKitchen)
		}, patterns.Retry(patterns.RetryPolicy{InProcess: true}), patterns.DrainTimeout(0))
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(wait * 3 / 2)
		broker.Cut() // ends the wait: the message is delivered again
		time.Sleep(wait)
		synctest.Wait()
		if len(tries) != 4 || tries[1] != wait || tries[2] != wait*3/2 || tries[3] != wait*5/2 {
			t.Errorf("tried at %v", tries)
		}
		must(t, bus.Close(t.Context()))
		if s := bus.Stats(); s.Retried != 3 || s.Requeued != 1 || s.Stale != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAckOnReceiveInALostSessionIsHandledOnce(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		handled := 0
		_, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			handled++
			return ctx.Err() // not that of the session before
		}, patterns.AckOnReceive())
		must(t, err)
		broker.Inject(memory.Fault{On: memory.OnSettle, Do: memory.CutSession, Times: 1})
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		if s := bus.Stats(); handled != 1 || s.Stale != 1 || s.Dropped != 0 {
			t.Errorf("handled %d times, %+v", handled, s)
		}
	})
}

func TestDriverClosedUnderAHandler(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := q.Work(t.Context(), func(ctx context.Context, _ order) error {
			<-ctx.Done()
			wantErr(t, "the cause of the handler's end", context.Cause(ctx), adapters.ErrClosed)
			return patterns.Reject(errKitchen)
		})
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		synctest.Wait()
		broker.Close()
		wantErr(t, "Wait", sub.Wait(), adapters.ErrClosed)
		if s := bus.Stats(); s.Stale != 1 || s.Requeued != 0 || s.DeadLettered != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// countingDriver counts who waits for the end of its session.
type countingDriver struct {
	*memory.Client
	session context.Context
	waiting atomic.Int64
}

type countingSubscription struct {
	adapters.Subscription
	session context.Context
}

type countingContext struct {
	context.Context
	d *countingDriver
	_ [0]func() // not comparable
}

// Value hides what is behind, which context would talk to directly.
func (countingContext) Value(any) any { return nil }

// AfterFunc is what context.AfterFunc calls if there is one.
func (c countingContext) AfterFunc(f func()) func() bool {
	c.d.waiting.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool { c.d.waiting.Add(-1); return stop() }
}

func (d *countingDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	sub, err := d.Client.Subscribe(ctx, s)
	return &countingSubscription{sub, countingContext{Context: d.session, d: d}}, err
}

func (s *countingSubscription) Receive(ctx context.Context) (adapters.Delivery, error) {
	d, err := s.Subscription.Receive(ctx)
	if err == nil {
		d.Message.SetContext(s.session)
		d.Message.Metadata = nil // an adapter may give none
	}
	return d, err
}

// A session lives as long as the program: what waits for its end must be gone
// with the subscription.
func TestNothingWaitsForTheSessionOfAnEndedSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		session, end := context.WithCancel(t.Context())
		defer end()
		d := &countingDriver{Client: broker.Connect(), session: session}
		bus := patterns.New(d)
		q := patterns.NewWorkQueue[order](bus, "orders")
		for range 3 {
			sub, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(errKitchen) }, patterns.Workers(2))
			must(t, err)
			must(t, q.SendBatch(t.Context(), make([]order, 10)))
			synctest.Wait()
			if n := d.waiting.Load(); n < 1 || n > 2 {
				t.Errorf("%d wait for the session", n)
			}
			must(t, sub.Stop(t.Context()))
			if n := d.waiting.Load(); n != 0 {
				t.Errorf("%d wait for the session of a subscription that ended", n)
			}
		}
		// The ctx given to Work may live as long as the program, too.
		ctx := countingContext{Context: session, d: d}
		sub, err := q.Work(ctx, func(context.Context, order) error { return nil })
		must(t, err)
		must(t, sub.Stop(t.Context()))
		_, err = patterns.NewWorkQueue[order](bus, "missing", patterns.Passive()).Work(ctx, func(context.Context, order) error { return nil })
		wantErr(t, "Work", err, adapters.ErrNotFound)
		if n := d.waiting.Load(); n != 0 {
			t.Errorf("%d wait for the ctx of a subscription that ended", n)
		}
		must(t, bus.Close(t.Context()))
	})
}

// What a private subscription gives up leaves room for the next.
func TestPrivateSubscriptionGoesOnAfterADrop(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		ps := patterns.NewPubSub[int](bus, "ticks")
		got := newJournal[int]()
		_, err := ps.Subscribe(t.Context(), func(_ context.Context, n int) error { got.add(n); return errKitchen }, patterns.NoRetry())
		must(t, err)
		must(t, ps.PublishBatch(t.Context(), []int{1, 2, 3}))
		synctest.Wait()
		if all := got.snapshot(); len(all) != 3 {
			t.Errorf("handled %v", all)
		}
	})
}

// Close stops fetching everywhere before it waits for anything.
func TestCloseDrainsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := patterns.New(broker.Connect())
		names := []string{"a", "b", "c"}
		for _, name := range names {
			q := patterns.NewWorkQueue[order](bus, name)
			must(t, q.SendBatch(t.Context(), make([]order, 5)))
			_, err := q.Work(t.Context(), func(context.Context, order) error { time.Sleep(time.Second); return nil })
			must(t, err)
		}
		synctest.Wait()
		must(t, bus.Close(t.Context()))
		for _, name := range names {
			if info, _ := broker.Queue(name); info.Ready != 4 {
				t.Errorf("queue %s: %+v", name, info)
			}
		}
	})
}
