package patterns_test

import (
	"context"
	"fmt"
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
	if string(msgs[0].Payload) == `"odd"` && p.To.Name != "orders" || p.Delay > 0 {
		return fmt.Errorf("picky: %w", d.why)
	}
	return d.Client.Publish(ctx, p, msgs...)
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
