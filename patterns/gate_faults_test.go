package patterns_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// gateFuncs is a gate of two functions; nil ones let everything pass.
type gateFuncs struct {
	wait    func(context.Context) (bool, error)
	fetched func()
}

func (g gateFuncs) Wait(ctx context.Context) (bool, error) {
	if g.wait == nil {
		return true, nil
	}
	return g.wait(ctx)
}

func (g gateFuncs) Fetched() {
	if g.fetched != nil {
		g.fetched()
	}
}

// A gate that panics ends its subscription, and not the program; nothing is lost.
func TestGateThatPanics(t *testing.T) {
	for name, gate := range map[string]gateFuncs{
		"Wait":                {wait: func(context.Context) (bool, error) { panic(errKitchen) }},
		"Fetched, ahead":      {fetched: func() { panic(errKitchen) }},
		"Fetched, one a time": {wait: func(context.Context) (bool, error) { return false, nil }, fetched: func() { panic(errKitchen) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				must(t, q.Send(t.Context(), 1))
				sub, err := q.Work(t.Context(), func(context.Context, int) error { t.Error("handled"); return nil }, patterns.WithGate(gate), patterns.Workers(2))
				must(t, err)
				wantErr(t, "Wait", sub.Wait(), errKitchen)
				take(t, q)
			})
		})
	}
}

// A gate that does not heed its ctx holds up a shutdown for no longer than a handler may.
func TestGateThatIgnoresItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		release := make(chan struct{})
		gate := gateFuncs{wait: func(context.Context) (bool, error) { <-release; return true, nil }}
		q := patterns.NewWorkQueue[int](bus, "q")
		must(t, q.Send(t.Context(), 1))
		sub, err := q.Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithGate(gate), patterns.Workers(3), patterns.DrainTimeout(time.Second))
		must(t, err)
		synctest.Wait()
		start := time.Now()
		wantErr(t, "stopping", sub.Stop(t.Context()), patterns.ErrAbandoned)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("stopping took %v", d)
		}
		close(release)
		synctest.Wait()
		take(t, q)
	})
}

// A queue that is deleted is there again for a subscription behind a gate as for one without.
func TestGateAndAQueueThatIsDeleted(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{
		"none":         {},
		"ahead":        {patterns.WithGate(gateFuncs{})},
		"one a time":   {patterns.WithGate(gateFuncs{wait: func(context.Context) (bool, error) { return false, nil }})},
		"while closed": {patterns.WithGate(gateFuncs{wait: func(ctx context.Context) (bool, error) { return false, context.Cause(waitFor(ctx, time.Hour)) }})},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				q := patterns.NewWorkQueue[int](bus, "q")
				seen := newJournal[int]()
				sub, err := q.Work(t.Context(), func(_ context.Context, n int) error { seen.add(n); return nil }, opts...)
				must(t, err)
				must(t, q.Send(t.Context(), 1))
				time.Sleep(2 * time.Hour)
				must(t, broker.Connect().Delete(t.Context(), "q", 0))
				time.Sleep(2 * time.Hour)
				sendErr := q.Send(t.Context(), 2)
				time.Sleep(4 * time.Hour)
				if got := seen.await(t, 2); len(got) != 2 || sendErr != nil {
					t.Errorf("handled %v, sending: %v", got, sendErr)
				}
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// waitFor returns a ctx that has ended if ctx did in time.
func waitFor(ctx context.Context, d time.Duration) context.Context {
	select {
	case <-ctx.Done():
		return ctx
	case <-time.After(d):
		return context.Background()
	}
}
