package patterns_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// Each row of the table of handler results: when the handler is called, and
// whether the message ends in the dead letters.
func TestHandlerResultDecides(t *testing.T) {
	type row struct {
		name    string
		handler func(ctx context.Context, try int) error
		opts    []patterns.WorkOption
		tries   []time.Duration // since the message was sent; a retry comes up to a tenth later
		dead    string          // reason in the dead letters, "" if none
	}
	policy := patterns.Retry(patterns.RetryPolicy{Attempts: 4, Min: time.Minute, Max: time.Hour})
	rows := []row{
		{name: "nil", handler: func(context.Context, int) error { return nil }, tries: []time.Duration{0}},
		{
			name: "error, then nil", opts: []patterns.WorkOption{policy},
			handler: func(_ context.Context, try int) error {
				if try == 1 {
					return errKitchen
				}
				return nil
			},
			tries: []time.Duration{0, time.Minute},
		},
		{
			name: "always an error", opts: []patterns.WorkOption{policy},
			handler: func(context.Context, int) error { return errKitchen },
			tries:   []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute},
			dead:    errKitchen.Error(),
		},
		{
			name:    "always an error, default policy",
			handler: func(context.Context, int) error { return errKitchen },
			tries:   []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second},
			dead:    errKitchen.Error(),
		},
		{
			name: "NoRetry", opts: []patterns.WorkOption{patterns.NoRetry()},
			handler: func(context.Context, int) error { return errKitchen },
			tries:   []time.Duration{0},
			dead:    errKitchen.Error(),
		},
		{
			name: "Max bounds the wait", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Attempts: 4, Min: time.Minute, Max: 90 * time.Second})},
			handler: func(context.Context, int) error { return errKitchen },
			tries:   []time.Duration{0, time.Minute, 150 * time.Second, 240 * time.Second},
			dead:    errKitchen.Error(),
		},
		{
			name:    "Reject",
			handler: func(context.Context, int) error { return patterns.Reject(errKitchen) },
			tries:   []time.Duration{0},
			dead:    errKitchen.Error(),
		},
		{
			name: "RetryAfter", opts: []patterns.WorkOption{policy},
			handler: func(_ context.Context, try int) error {
				if try < 3 {
					return patterns.RetryAfter(time.Hour, errKitchen)
				}
				return nil
			},
			tries: []time.Duration{0, time.Hour, 2 * time.Hour},
		},
		{
			name: "RetryAfter no time",
			handler: func(_ context.Context, try int) error {
				if try == 1 {
					return patterns.RetryAfter(-time.Hour, nil)
				}
				return nil
			},
			tries: []time.Duration{0, 0},
		},
		{
			name: "RetryAfter counts as a try", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Attempts: 2})},
			handler: func(context.Context, int) error { return patterns.RetryAfter(time.Hour, errKitchen) },
			tries:   []time.Duration{0, time.Hour},
			dead:    errKitchen.Error(),
		},
		{
			name: "panic", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: time.Minute})},
			handler: func(context.Context, int) error { panic("boom") },
			tries:   []time.Duration{0, time.Minute},
			dead:    "handler panicked: boom",
		},
		{
			name: "Goexit", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: time.Minute})},
			handler: func(context.Context, int) error { runtime.Goexit(); return nil },
			tries:   []time.Duration{0, time.Minute},
			dead:    "handler called runtime.Goexit",
		},
		{
			name: "HandlerTimeout", opts: []patterns.WorkOption{patterns.HandlerTimeout(time.Second), patterns.NoRetry()},
			handler: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			tries:   []time.Duration{0},
			dead:    context.DeadlineExceeded.Error(),
		},
		{
			name: "in process, error, then nil", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Min: time.Minute, InProcess: true})},
			handler: func(_ context.Context, try int) error {
				if try == 1 {
					return errKitchen
				}
				return nil
			},
			tries: []time.Duration{0, time.Minute},
		},
		{
			name: "in process", opts: []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: time.Minute, InProcess: true})},
			handler: func(context.Context, int) error { return errKitchen },
			tries:   []time.Duration{0, time.Minute, 3 * time.Minute},
			dead:    errKitchen.Error(),
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
				ctx := t.Context()
				q := patterns.NewWorkQueue[order](bus, "orders")
				start := time.Now()
				var tries []time.Duration
				_, err := q.Work(ctx, func(ctx context.Context, o order) error {
					d, _ := patterns.DeliveryFrom(ctx)
					tries = append(tries, time.Since(start))
					if d.Attempt != len(tries) || o != (order{7, "ramen"}) || d.Queue != "orders" || !d.PublishedAt.Equal(start) {
						t.Errorf("try %d: got %+v of delivery %+v", len(tries), o, d)
					}
					return r.handler(ctx, len(tries))
				}, r.opts...)
				must(t, err)
				must(t, q.Send(ctx, order{7, "ramen"}, patterns.MessageID("seven")))
				time.Sleep(24 * time.Hour)
				synctest.Wait()

				if len(tries) != len(r.tries) {
					t.Fatalf("tried at %v, want %v", tries, r.tries)
				}
				for i, want := range r.tries {
					if tries[i] < want || tries[i] > want+want/10 {
						t.Errorf("try %d after %v, want %v and at most a tenth more", i+1, tries[i], want)
					}
				}
				info, _ := broker.Queue("orders")
				if info.Ready != 0 || info.Unacked != 0 {
					t.Errorf("left in the queue: %+v", info)
				}
				dead, err := q.Dead().TryGet(ctx)
				if r.dead == "" {
					wantErr(t, "dead letters", err, adapters.ErrEmpty)
					return
				}
				must(t, err)
				must(t, dead.Ack(ctx))
				h := dead.Headers
				if h[patterns.HeaderReason] != r.dead || h[patterns.HeaderQueue] != "orders" || dead.ID != "seven" || dead.Attempt != 1 || dead.Value.Dish != "ramen" {
					t.Errorf("dead letter %+v", dead.Delivery)
				}
				if want := len(r.tries); h[patterns.HeaderAttempts] != string(rune('0'+want)) {
					t.Errorf("dead after %s tries, want %d", h[patterns.HeaderAttempts], want)
				}
				if died, err := time.Parse(time.RFC3339Nano, h[patterns.HeaderDiedAt]); err != nil || died.Before(start) || died.After(time.Now()) {
					t.Errorf("died at %q", h[patterns.HeaderDiedAt])
				}
			})
		})
	}
}

func TestShortRetryIsNotBehindLongOne(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		start, tries := time.Now(), map[int][]time.Duration{}
		_, err := q.Work(t.Context(), func(ctx context.Context, o order) error {
			tries[o.ID] = append(tries[o.ID], time.Since(start))
			if d, _ := patterns.DeliveryFrom(ctx); d.Attempt > 1 {
				return nil
			}
			return patterns.RetryAfter(time.Duration(o.ID)*time.Second, errKitchen)
		})
		must(t, err)
		must(t, q.SendBatch(t.Context(), []order{{ID: 3600}, {ID: 1}, {ID: 0}}))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		for id, want := range map[int]time.Duration{3600: time.Hour, 1: time.Second, 0: 0} {
			if got := tries[id]; !slices.Equal(got, []time.Duration{0, want}) {
				t.Errorf("message with a wait of %v tried at %v", want, got)
			}
		}
	})
}

func TestUndecodablePayloadIsDeadAtOnce(t *testing.T) {
	for name, payload := range map[string]struct {
		contentType string
		data        string
	}{
		"broken JSON":          {"application/json", `{"id":`},
		"wrong type":           {"application/json", `{"id":"seven"}`},
		"trailing garbage":     {"application/json", `{"id":7} x`},
		"unknown content type": {"application/x-who-knows", `{"id":7}`},
		"text for a struct":    {"text/plain", `seven`},
		"empty":                {"", ``},
		"no media type at all": {";;;", `{"id":7}`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				q := patterns.NewWorkQueue[order](bus, "orders")
				_, err := q.Work(t.Context(), func(context.Context, order) error {
					t.Error("the handler was called")
					return nil
				})
				must(t, err)
				publishRaw(t, bus, adapters.Endpoint{Name: "orders"}, adapters.Properties{ContentType: payload.contentType}, payload.data)
				synctest.Wait()
				dead := patterns.NewWorkQueue[string](bus, "orders.dead")
				_, err = dead.TryGet(t.Context())
				if payload.contentType == "text/plain" {
					must(t, err) // it is a string after all
					return
				}
				wantErr(t, "a dead letter that is no string", err, patterns.ErrCodec)
				_, err = dead.TryGet(t.Context())
				wantErr(t, "the same dead letter, still there", err, patterns.ErrCodec)
				raw := take(t, patterns.NewWorkQueue[patterns.Raw](bus, "orders.dead"))
				if string(raw.Value) != payload.data || raw.Headers[patterns.HeaderAttempts] != "1" || raw.ContentType != payload.contentType {
					t.Errorf("as it came: %q of %+v", raw.Value, raw.Delivery)
				}
			})
		})
	}
}

func TestDeadLettersStayWhenTheirHandlerFails(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		sub, err := q.Work(t.Context(), func(context.Context, order) error { return patterns.Reject(errKitchen) })
		must(t, err)
		must(t, q.Send(t.Context(), order{ID: 1}))
		synctest.Wait()
		must(t, sub.Stop(t.Context()))

		start := time.Now()
		var tries atomic.Int64
		var repaired atomic.Bool
		_, err = q.Dead().Work(t.Context(), func(ctx context.Context, o order) error {
			d, _ := patterns.DeliveryFrom(ctx)
			if d.Headers[patterns.HeaderReason] != errKitchen.Error() || d.Headers[patterns.HeaderQueue] != "orders" {
				t.Errorf("what it died of: %v", d.Headers)
			}
			if tries.Add(1) > 5 && d.Headers[patterns.HeaderRepair] != "no spare parts" {
				t.Errorf("why it was not repaired: %v", d.Headers)
			}
			if !repaired.Load() {
				return errors.New("no spare parts")
			}
			return q.Send(ctx, o)
		})
		must(t, err)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := tries.Load(); n < 10 || n > 100 {
			t.Errorf("a dead letter that cannot be repaired was tried %d times in an hour", n)
		}
		repaired.Store(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		got, err := q.TryGet(t.Context())
		must(t, err)
		must(t, got.Ack(t.Context()))
		if got.Value.ID != 1 || time.Since(start) == 0 {
			t.Errorf("repaired: %+v", got.Value)
		}
	})
}

func TestWithoutDeadLettersDropsAreTold(t *testing.T) {
	type told struct {
		id  string
		err error
	}
	for _, how := range []string{"no dead letter", "private", "ack on receive"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
				var drops []told
				onDrop := patterns.OnDrop(func(d patterns.Delivery, err error) {
					drops = append(drops, told{d.ID, err})
					panic("a clumsy callback")
				})
				fail := func(context.Context, order) error { return errKitchen }
				var err error
				switch how {
				case "no dead letter":
					q := patterns.NewWorkQueue[order](bus, "orders", patterns.NoDeadLetter())
					_, err = q.Work(t.Context(), fail, onDrop)
					must(t, err)
					err = q.Send(t.Context(), order{}, patterns.MessageID("x"))
				case "private":
					p := patterns.NewPubSub[order](bus, "placed")
					_, err = p.Subscribe(t.Context(), fail, onDrop)
					must(t, err)
					err = p.Publish(t.Context(), order{}, patterns.MessageID("x"))
				case "ack on receive":
					q := patterns.NewWorkQueue[order](bus, "orders")
					_, err = q.Work(t.Context(), fail, onDrop, patterns.AckOnReceive())
					must(t, err)
					err = q.Send(t.Context(), order{}, patterns.MessageID("x"))
				}
				must(t, err)
				time.Sleep(time.Hour)
				synctest.Wait()
				if len(drops) != 1 || drops[0].id != "x" || !errors.Is(drops[0].err, errKitchen) {
					t.Errorf("told of drops: %v", drops)
				}
				if n := bus.Stats().Dropped; n != 1 {
					t.Errorf("%d drops counted", n)
				}
			})
		})
	}
}

func TestAckOnReceiveLosesWhatItsHandlerFails(t *testing.T) {
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		calls := 0
		_, err := q.Work(t.Context(), func(context.Context, order) error {
			calls++
			if info, _ := broker.Queue("orders"); info.Unacked != 0 {
				t.Errorf("still unacknowledged while handled: %+v", info)
			}
			return errKitchen
		}, patterns.AckOnReceive())
		must(t, err)
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(time.Hour)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("handled %d times", calls)
		}
		_, err = q.Dead().TryGet(t.Context())
		wantErr(t, "dead letters", err, adapters.ErrEmpty)
	})
}
