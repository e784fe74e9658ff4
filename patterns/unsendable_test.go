package patterns_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// pickyDriver gets messages that it would not send itself, as an adapter does
// that checks what it sends and has to take what others sent.
type pickyDriver struct {
	*memory.Client
	why error
}

func (d *pickyDriver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if d.refuses(p, msgs[0]) {
		return fmt.Errorf("picky: %w", d.why)
	}
	return d.Client.Publish(ctx, p, msgs...)
}

func (d *pickyDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if d.refuses(p, m) {
		return fmt.Errorf("picky: %w", d.why)
	}
	return d.Client.PublishAsync(ctx, p, m, done)
}

func (d *pickyDriver) refuses(p adapters.Publication, m *message.Message) bool {
	return string(m.Payload) == `"odd"` && p.To.Name != "orders" || p.Delay > 0
}

// A message that cannot be sent on must not come again and again, and keep
// those behind it from their turn.
func TestUnsendableFailureIsBuriedByTheBroker(t *testing.T) {
	for _, why := range []error{adapters.ErrInvalid, adapters.ErrTooLarge} {
		for name, result := range map[string]error{"retry": errKitchen, "dead letter": patterns.Reject(errKitchen)} {
			t.Run(name+", "+why.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					broker := memory.New()
					defer broker.Close()
					bus := patterns.New(&pickyDriver{broker.Connect(), why})
					defer bus.Close(context.Background())
					q := patterns.NewWorkQueue[string](bus, "orders")
					start, calls := time.Now(), 0
					_, err := q.Work(t.Context(), func(_ context.Context, v string) error {
						calls++
						if v == "odd" {
							return result
						}
						return nil
					})
					must(t, err)
					must(t, q.SendBatch(t.Context(), []string{"odd", "even"}))
					synctest.Wait()
					if calls != 2 || time.Since(start) > 0 {
						t.Errorf("%d calls of the handler in %v, want 2 at once", calls, time.Since(start))
					}
					dead, _ := broker.Queue("orders.dead")
					if queue, _ := broker.Queue("orders"); queue.Ready+queue.Unacked > 0 || dead.Ready != 1 {
						t.Errorf("queue %+v, dead letters %+v", queue, dead)
					}
					if s := bus.Stats(); s != (patterns.Stats{DeadLettered: 1}) {
						t.Errorf("%+v", s)
					}
				})
			})
		}
	}
}

func TestUnsendableTakenIsBuriedByTheBroker(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(&pickyDriver{broker.Connect(), adapters.ErrTooLarge})
	defer bus.Close(context.Background())
	must(t, patterns.NewWorkQueue[string](bus, "orders").Send(t.Context(), "odd"))
	_, err := patterns.NewWorkQueue[int](bus, "orders").TryGet(t.Context())
	wantErr(t, "taking what is no int", err, patterns.ErrCodec)
	if dead, _ := broker.Queue("orders.dead"); dead.Ready != 1 {
		t.Errorf("dead letters %+v", dead)
	}
	if s := bus.Stats(); s != (patterns.Stats{DeadLettered: 1}) {
		t.Errorf("%+v", s)
	}
}

// forbiddenDriver may not publish to some queues, as a user with few rights.
type forbiddenDriver struct {
	*memory.Client
	forbidden func(adapters.Publication) bool
}

func (d *forbiddenDriver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if d.forbidden(p) {
		return fmt.Errorf("test: %w: no right to write", adapters.ErrAccess)
	}
	return d.Client.Publish(ctx, p, msgs...)
}

func (d *forbiddenDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if d.forbidden(p) {
		return fmt.Errorf("test: %w: no right to write", adapters.ErrAccess)
	}
	return d.Client.PublishAsync(ctx, p, m, done)
}

// What may not be sent on is tried as often as the policy says, when it says so, and never lost:
// not as a message that nobody could send elsewhere.
func TestWhatMayNotBeSentOnIsNotLost(t *testing.T) {
	everything := func(adapters.Publication) bool { return true }
	retries := func(p adapters.Publication) bool { return p.To.Name == "orders" }
	policy := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
	rows := []struct {
		name      string
		forbidden func(adapters.Publication) bool
		queue     []patterns.WorkQueueOption
		result    func() error
		tries     []time.Duration // up to a tenth later
		dead      int
		dropped   uint64
	}{
		{"error, retries forbidden", retries, nil, func() error { return errKitchen }, policy, 1, 0},
		{"error, everything forbidden", everything, nil, func() error { return errKitchen }, policy, 1, 0},
		{"panic, everything forbidden", everything, nil, func() error { panic("boom") }, policy, 1, 0},
		{"reject, everything forbidden", everything, nil, func() error { return patterns.Reject(errKitchen) }, policy[:1], 1, 0},
		{"error, NoDeadLetter", everything, []patterns.WorkQueueOption{patterns.NoDeadLetter()}, func() error { return errKitchen }, policy, 0, 1},
		{"error, Passive", everything, []patterns.WorkQueueOption{patterns.Passive()}, func() error { return errKitchen }, policy, 0, 1},
		{
			"RetryAfter", everything, nil, func() error { return patterns.RetryAfter(time.Minute, errKitchen) },
			[]time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute},
			1, 0,
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				admin := broker.Connect()
				must(t, admin.Declare(t.Context(), adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Queue: spec(r.queue)}))
				must(t, admin.Publish(t.Context(), adapters.Publication{
					To:         adapters.Endpoint{Kind: adapters.Queue, Name: "orders"},
					Properties: adapters.Properties{ContentType: "application/json"},
				}, message.NewMessage("a", []byte(`"ramen"`))))
				bus := patterns.New(&forbiddenDriver{Client: broker.Connect(), forbidden: r.forbidden})
				defer bus.Close(context.Background())
				q := patterns.NewWorkQueue[string](bus, "orders", r.queue...)
				start, tries := time.Now(), []time.Duration{}
				_, err := q.Work(t.Context(), func(context.Context, string) error {
					tries = append(tries, time.Since(start))
					return r.result()
				})
				must(t, err)
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				if !slices.EqualFunc(tries, r.tries, func(at, want time.Duration) bool { return want <= at && at <= want*11/10 }) {
					t.Errorf("tried at %v, want %v", tries, r.tries)
				}
				if dead, _ := broker.Queue("orders.dead"); dead.Ready != r.dead || bus.Stats().Dropped != r.dropped {
					t.Errorf("dead letters %+v, %+v", dead, bus.Stats())
				}
			})
		})
	}
}

// spec is how the queue of a row was declared by somebody else.
func spec(opts []patterns.WorkQueueOption) (q adapters.QueueSpec) {
	if opts == nil {
		q.DeadLetter = "orders.dead"
	}
	return q
}

// Where the broker cannot bury it either, the message stays. A wait that is too long to be held is
// cut short, and counts: the message is buried in the end.
func TestWhatMayNotBeSentOn(t *testing.T) {
	for name, test := range map[string]struct {
		result      error
		passive     bool
		fewest      int
		most        int
		left, moved int
	}{
		"no dead-letter queue of the broker's": {result: patterns.Reject(errKitchen), passive: true, fewest: 10, most: 3601, left: 1},
		"long wait":                            {result: patterns.RetryAfter(time.Hour, errKitchen), fewest: 5, most: 5, moved: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				forbidden := false
				bus := patterns.New(&forbiddenDriver{Client: broker.Connect(), forbidden: func(adapters.Publication) bool { return forbidden }})
				defer bus.Close(context.Background())
				q := patterns.NewWorkQueue[string](bus, "orders", patterns.DeadLetter("elsewhere"))
				if test.passive {
					must(t, q.Declare(t.Context()))
					q = patterns.NewWorkQueue[string](bus, "orders", patterns.Passive(), patterns.DeadLetter("elsewhere"))
				}
				must(t, q.Send(t.Context(), "ramen"))
				forbidden = true
				tries := 0
				_, err := q.Work(t.Context(), func(context.Context, string) error { tries++; return test.result })
				must(t, err)
				time.Sleep(time.Hour)
				synctest.Wait()
				if tries < test.fewest || tries > test.most {
					t.Errorf("%d tries in an hour", tries)
				}
				info, _ := broker.Queue("orders")
				letters, _ := broker.Queue("elsewhere")
				if info.Ready+info.Unacked != test.left || letters.Ready != test.moved || bus.Stats().Dropped > 0 {
					t.Errorf("%+v, %+v, %+v", info, letters, bus.Stats())
				}
			})
		})
	}
}

// A message whose worker was lost too often, and that may not be sent on, is buried by the broker
// where Motif declared its dead letters, and handled once more rather than gone where nobody knows
// of any.
func TestLostTooOftenAndMayNotBeSentOn(t *testing.T) {
	for _, passive := range []bool{false, true} {
		t.Run(fmt.Sprintf("passive %v", passive), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				src := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "orders"}, Prefetch: 1}
				if !passive {
					src.Queue.DeadLetter = "orders.dead"
				}
				lost := broker.Connect()
				sub, err := lost.Subscribe(t.Context(), src)
				must(t, err)
				must(t, lost.Publish(t.Context(), adapters.Publication{
					To: src.Endpoint, Properties: adapters.Properties{ContentType: "application/json"},
				}, message.NewMessage("a", []byte(`"ramen"`))))
				for range 5 {
					_, err := sub.Receive(t.Context())
					must(t, err)
					lost.Cut()
				}
				must(t, sub.Stop())
				must(t, lost.Close(t.Context()))

				bus := patterns.New(&forbiddenDriver{Client: broker.Connect(), forbidden: func(adapters.Publication) bool { return true }})
				defer bus.Close(context.Background())
				var opts []patterns.WorkQueueOption
				if passive {
					opts = append(opts, patterns.Passive())
				}
				handled := 0
				_, err = patterns.NewWorkQueue[string](bus, "orders", opts...).Work(t.Context(), func(context.Context, string) error {
					handled++
					return nil
				}, patterns.LossLimit(2))
				must(t, err)
				time.Sleep(time.Hour)
				synctest.Wait()
				dead, _ := broker.Queue("orders.dead")
				if queue, _ := broker.Queue("orders"); handled+dead.Ready != 1 || passive != (handled == 1) || queue.Ready+queue.Unacked > 0 {
					t.Errorf("handled %d times, dead letters %+v, queue %+v", handled, dead, queue)
				}
			})
		})
	}
}
