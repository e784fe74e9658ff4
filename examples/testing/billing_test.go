package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/patternstest"
)

var errDown = errors.New("bank does not answer")

// fakeBank answers what a test says: one call after another with the errors, then with nil.
type fakeBank struct {
	errs  []error
	takes time.Duration
	calls []time.Time
	keys  []string
}

func (b *fakeBank) Charge(ctx context.Context, key string, _ int) error {
	b.calls, b.keys = append(b.calls, time.Now()), append(b.keys, key)
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if n := len(b.calls); n <= len(b.errs) {
		return b.errs[n-1]
	}
	return nil
}

// fakeReceipts keeps what is sent.
type fakeReceipts []Receipt

func (f *fakeReceipts) Send(_ context.Context, r Receipt, _ ...patterns.PublishOption) error {
	*f = append(*f, r)
	return nil
}

// The handler alone: no bus, no broker.
func TestCharge(t *testing.T) {
	for name, c := range map[string]struct {
		order    Order
		bank     error
		want     error // nil: none
		rejected bool
		receipts int
	}{
		"paid":           {order: Order{"ramen", 1450}, receipts: 1},
		"declined":       {order: Order{"ramen", 1450}, bank: errDeclined, want: errDeclined, rejected: true},
		"down":           {order: Order{"ramen", 1450}, bank: errDown, want: errDown},
		"nothing to pay": {order: Order{"water", 0}, want: patterns.ErrRejected, rejected: true},
	} {
		t.Run(name, func(t *testing.T) {
			var receipts fakeReceipts
			b := &billing{bank: &fakeBank{errs: []error{c.bank}}, receipts: &receipts}
			err := b.charge(t.Context(), c.order)
			if !errors.Is(err, c.want) || errors.Is(err, patterns.ErrRejected) != c.rejected {
				t.Errorf("returned %v", err)
			}
			if len(receipts) != c.receipts {
				t.Errorf("receipts: %+v", receipts)
			}
		})
	}
}

// The handler with its options, and one message.
func TestFirstAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		bank error
		want patterns.Result
	}{
		"paid":     {nil, patterns.ResultAcknowledged},
		"declined": {errDeclined, patterns.ResultDeadLettered},
		"down":     {errDown, patterns.ResultRetried},
	} {
		t.Run(name, func(t *testing.T) {
			bus, _ := patternstest.NewBus(t, nil)
			b := &billing{bank: &fakeBank{errs: []error{c.bank}}, receipts: receiptQueue(bus)}
			order := patternstest.Message[Order]{Value: Order{"ramen", 1450}}
			if got := patternstest.Run(t, bus, order, b.charge, retries); got.Result != c.want {
				t.Errorf("it was %s, want %s: %v", got.Result, c.want, got.Err)
			}
		})
	}
}

// service is the whole of it, on a broker of its own.
type service struct {
	broker *memory.Broker
	bus    *patterns.Bus
	rec    *patternstest.Recorder
	sub    *patterns.Subscription
}

// newService is called inside a bubble, where it also ends: by what t cleans up.
func newService(t *testing.T, bank Bank) service {
	t.Helper()
	broker := memory.New()
	bus, rec := patternstest.NewBus(t, broker.Connect()) // its log is shown if the test fails
	sub, err := start(t.Context(), bus, bank)
	if err != nil {
		t.Fatal(err)
	}
	return service{broker, bus, rec, sub}
}

func (s service) order(t *testing.T) {
	t.Helper()
	if err := orderQueue(s.bus).Send(t.Context(), Order{"ramen", 1450}, patterns.MessageID("7")); err != nil {
		t.Fatal(err)
	}
}

// Minutes pass, and the test takes none of them.
func TestChargesOnceTheBankAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bank := &fakeBank{errs: []error{errDown, errDown}}
		s := newService(t, bank)
		s.order(t)
		if err := patternstest.WaitIdle(t.Context(), s.bus); err != nil { // minutes, by the clock of the bubble
			t.Fatal(err)
		}
		patternstest.Expect(t, s.rec, "testing.receipts", Receipt{"7", 1450})
		for i, nominal := range []time.Duration{time.Minute, 2 * time.Minute} {
			wait := bank.calls[i+1].Sub(bank.calls[i])
			if wait < nominal || wait > nominal*11/10 { // the policy adds up to a tenth
				t.Errorf("waited %v after attempt %d, want %v", wait, i+1, nominal)
			}
		}
	})
}

func TestOrderIsADeadLetter(t *testing.T) {
	for name, c := range map[string]struct {
		bank     []error
		reason   string
		attempts string
	}{
		"declined":      {[]error{errDeclined}, "card declined", "1"},
		"down too long": {[]error{errDown, errDown, errDown}, "bank does not answer", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(t, &fakeBank{errs: c.bank})
				s.order(t)
				letter, err := orderQueue(s.bus).Dead().Get(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				reason, attempts := letter.Headers[patterns.HeaderReason], letter.Headers[patterns.HeaderAttempts]
				if reason != c.reason || attempts != c.attempts {
					t.Errorf("died of %q after %s attempts, want %q after %s", reason, attempts, c.reason, c.attempts)
				}
			})
		})
	}
}

// The broker has the receipt, but its confirm is lost. So the order is handled again, and what that
// does twice must be recognisable: the charge and the receipt have the keys of the first attempt.
func TestLostConfirmOfAReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bank := &fakeBank{}
		s := newService(t, bank)
		s.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "testing.receipts", Times: 1, Do: memory.DropConfirm})
		s.order(t)
		for range 2 {
			receipt, err := receiptQueue(s.bus).Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if receipt.ID != "receipt of 7" {
				t.Errorf("the receipt has the id %q", receipt.ID)
			}
		}
		if want := []string{"7", "7"}; !slices.Equal(bank.keys, want) {
			t.Errorf("charged with the keys %q, want %q", bank.keys, want)
		}
	})
}

// Who stops the service waits for the charge in hand.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bank := &fakeBank{takes: 10 * time.Second}
		s := newService(t, bank)
		s.order(t)
		synctest.Wait() // until the bank is at it
		began := time.Now()
		if err := s.sub.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != bank.takes {
			t.Errorf("stopped after %v, want %v", took, bank.takes)
		}
		if _, err := receiptQueue(s.bus).TryGet(t.Context()); err != nil {
			t.Errorf("no receipt: %v", err)
		}
		if _, err := orderQueue(s.bus).TryGet(t.Context()); !errors.Is(err, adapters.ErrEmpty) {
			t.Errorf("orders left: %v", err)
		}
	})
}
