package patterns_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// latch is a gate that tests open and close.
type latch struct {
	mu      sync.Mutex
	open    chan struct{} // closed while the gate is open
	ahead   bool
	err     error
	fetched int
}

func newLatch(ahead bool) *latch { return &latch{open: make(chan struct{}), ahead: ahead} }

func (l *latch) set(open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if open {
		close(l.open)
	} else {
		l.open = make(chan struct{})
	}
}

func (l *latch) Wait(ctx context.Context) (bool, error) {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	select {
	case <-open:
		return l.ahead, l.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (l *latch) Fetched() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetched++
}

func TestGateHoldsBackAtTheBroker(t *testing.T) {
	for name, ahead := range map[string]bool{"one at a time": false, "ahead": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				gate := newLatch(ahead)
				q := patterns.NewWorkQueue[int](bus, "q")
				seen := newJournal[int]()
				sub, err := q.Work(t.Context(), func(_ context.Context, n int) error { seen.add(n); time.Sleep(time.Second); return nil },
					patterns.WithGate(gate), patterns.Prefetch(4))
				must(t, err)
				elsewhere := func() (n int) { // what another client can have
					other := patterns.New(broker.Connect())
					for _, err := range patterns.NewWorkQueue[int](other, "q").Waiting(t.Context()) {
						must(t, err)
						n++
					}
					must(t, other.Close(t.Context()))
					return n
				}
				must(t, q.SendBatch(t.Context(), []int{1, 2, 3, 4, 5, 6}))
				time.Sleep(time.Minute)
				if n := elsewhere(); n != 6 || len(seen.snapshot()) != 0 {
					t.Errorf("closed: %d at the broker, %v handled", n, seen.snapshot())
				}
				gate.set(true)
				time.Sleep(time.Second / 2)
				if n := elsewhere(); ahead && n != 2 || !ahead && n != 5 {
					t.Errorf("open: %d at the broker", n)
				}
				gate.set(false)
				time.Sleep(time.Minute)
				if n := elsewhere(); n != 5 || len(seen.snapshot()) != 1 {
					t.Errorf("closed again: %d at the broker, %v handled", n, seen.snapshot())
				}
				broker.Cut() // what heals goes on
				gate.set(true)
				time.Sleep(time.Minute)
				if got := seen.await(t, 6); len(got) != 6 || gate.fetched < 6 {
					t.Errorf("handled %v, fetched %d", got, gate.fetched)
				}
				must(t, q.Send(t.Context(), 7))
				seen.await(t, 7)
				synctest.Wait()
				must(t, sub.Stop(t.Context()))
			})
		})
	}
}

// A message that goes back each time a gate closes is not taken for one that kills its worker.
func TestGateThatFlapsBlamesNobody(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		gate := newLatch(true)
		q := patterns.NewWorkQueue[int](bus, "q")
		seen := newJournal[int]()
		_, err := q.Work(t.Context(), func(_ context.Context, n int) error { seen.add(n); time.Sleep(10 * time.Second); return nil },
			patterns.WithGate(gate), patterns.Prefetch(8))
		must(t, err)
		must(t, q.SendBatch(t.Context(), []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}))
		for range 12 {
			gate.set(true)
			time.Sleep(time.Second) // enough to fetch, and to begin one
			gate.set(false)
			time.Sleep(time.Minute)
		}
		gate.set(true)
		time.Sleep(time.Hour)
		if got := seen.await(t, 12); len(got) != 12 || bus.Stats().DeadLettered != 0 {
			t.Errorf("handled %v, %+v", got, bus.Stats())
		}
	})
}

func TestGateThatFailsEndsTheSubscription(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		gate := newLatch(true)
		gate.err = errKitchen
		gate.set(true)
		q := patterns.NewWorkQueue[int](bus, "q")
		sub, err := q.Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithGate(gate))
		must(t, err)
		wantErr(t, "Wait", sub.Wait(), errKitchen)
	})
}

func TestGateFindsOutAtOnceWhatIsWrong(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		must(t, patterns.NewWorkQueue[int](bus, "q", patterns.MaxLength(1)).Declare(t.Context()))
		_, err := patterns.NewWorkQueue[int](bus, "q").Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithGate(newLatch(true)))
		wantErr(t, "another queue", err, adapters.ErrMismatch)
		_, err = patterns.NewWorkQueue[int](bus, "r", patterns.Passive()).Work(t.Context(), func(context.Context, int) error { return nil }, patterns.WithGate(newLatch(true)))
		wantErr(t, "no queue", err, adapters.ErrNotFound)
	})
}

// The pause between a broker that is away and the next look at it is not one of the gate's.
func TestGateOutlivesAnUnavailableBroker(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		gate := newLatch(false)
		gate.set(true)
		q := patterns.NewWorkQueue[int](bus, "q")
		seen := newJournal[int]()
		_, err := q.Work(t.Context(), func(_ context.Context, n int) error { seen.add(n); return nil }, patterns.WithGate(gate))
		must(t, err)
		synctest.Wait()
		must(t, q.Send(t.Context(), 1))
		seen.await(t, 1)
		synctest.Wait()
		remove := broker.Inject(memory.Fault{On: memory.OnSubscribe, Do: memory.Refuse})
		must(t, q.Send(t.Context(), 2)) // ends the wait for a message; the next one cannot be asked for
		must(t, q.Send(t.Context(), 3))
		time.Sleep(time.Hour)
		remove()
		time.Sleep(time.Minute)
		if got := seen.await(t, 3); len(got) != 3 {
			t.Errorf("handled %v", got)
		}
	})
}

func TestWhatAHandlerDecidedCanBeAskedFor(t *testing.T) {
	for err, want := range map[error]error{
		patterns.Reject(errKitchen): patterns.ErrRejected, patterns.Requeue(errKitchen): patterns.ErrRequeued,
		patterns.RequeueAfter(0, nil): patterns.ErrRequeued, patterns.Skip(errKitchen): patterns.ErrSkipped,
	} {
		for _, sentinel := range []error{patterns.ErrRejected, patterns.ErrRequeued, patterns.ErrSkipped} {
			if got := errors.Is(err, sentinel); got != (sentinel == want) { //nolint:errorlint // which of them it is
				t.Errorf("%T is %v: %v", err, sentinel, got)
			}
		}
	}
}
