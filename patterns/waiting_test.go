package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// eachVersion runs f on a bus of a broker that imitates each version of RabbitMQ, with both kinds
// of queues.
func eachVersion(t *testing.T, f func(t *testing.T, bus *patterns.Bus)) {
	for _, query := range []string{"rabbitmq=3.10", "rabbitmq=4.0", "rabbitmq=4.3", "rabbitmq=4.3&queue_type=classic"} {
		t.Run(query, func(t *testing.T) {
			bus, err := patterns.Open(bounded(t), "memory:?"+query)
			must(t, err)
			f(t, bus)
			must(t, bus.Close(bounded(t)))
		})
	}
}

// bury makes dead letters of orders.
func bury(t *testing.T, q *patterns.WorkQueue[order], ids ...int) {
	t.Helper()
	for _, id := range ids {
		must(t, q.Send(bounded(t), order{ID: id}, patterns.MessageID(fmt.Sprint("order-", id)), patterns.Header("tenant", "a")))
		taken, err := q.Get(bounded(t))
		must(t, err)
		must(t, taken.Reject(bounded(t), errKitchen))
	}
}

func look(t *testing.T, q *patterns.WorkQueue[order]) (ids []int) {
	t.Helper()
	for letter, err := range q.Waiting(bounded(t)) {
		must(t, err)
		ids = append(ids, letter.Value.ID)
	}
	return ids
}

// A look through the dead letters changes nothing, not even their order.
func TestWaitingChangesNothing(t *testing.T) {
	eachVersion(t, func(t *testing.T, bus *patterns.Bus) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, q.Declare(bounded(t)))
		if got := look(t, q.Dead()); got != nil {
			t.Errorf("of none there are %v", got)
		}
		bury(t, q, 1, 2, 3, 4)
		for _, err := range q.Dead().Waiting(bounded(t)) { // and is left early
			must(t, err)
			break
		}
		for range 3 {
			if got := look(t, q.Dead()); !slices.Equal(got, []int{1, 2, 3, 4}) {
				t.Errorf("there are %v", got)
			}
		}
	})
}

// A loop that sends each letter on again ends, though each comes back at once.
func TestWaitingDoesNotSeeWhatComesBack(t *testing.T) {
	eachVersion(t, func(t *testing.T, bus *patterns.Bus) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		bury(t, q, 1, 2, 3)
		n := 0
		for letter, err := range q.Dead().Waiting(bounded(t)) {
			must(t, err)
			if n++; letter.Value.ID == 2 {
				continue // it stays where it is
			}
			bury(t, q, letter.Value.ID)
			must(t, letter.Ack(bounded(t)))
		}
		if got := look(t, q.Dead()); n != 3 || !slices.Equal(got, []int{2, 1, 3}) {
			t.Errorf("%d times, then there are %v", n, got)
		}
	})
}

func TestWaitingShowsWhatDoesNotDecode(t *testing.T) {
	bus, broker := newBus(t)
	must(t, patterns.NewWorkQueue[string](bus, "orders").Send(bounded(t), "no order"))
	n := 0
	for letter, err := range patterns.NewWorkQueue[order](bus, "orders").Waiting(bounded(t)) {
		n++
		if wantErr(t, "Waiting", err, patterns.ErrCodec); string(letter.Payload) != `"no order"` {
			t.Errorf("%+v", letter)
		}
	}
	if info, _ := broker.Queue("orders"); n != 1 || info.Ready != 1 {
		t.Errorf("%d times, %+v", n, info)
	}
	for _, err := range patterns.NewWorkQueue[order](bus, "missing", patterns.Passive()).Waiting(bounded(t)) {
		wantErr(t, "of a missing queue", err, adapters.ErrNotFound)
	}
}

// A look holds so many messages, and no more.
func TestWaitingIsBounded(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	must(t, q.SendBatch(bounded(t), make([]order, 1001)))
	n := 0
	for _, err := range q.Waiting(bounded(t)) {
		if n++; n == 1001 {
			wantErr(t, "one more", err, adapters.ErrInvalid)
		} else {
			must(t, err)
		}
	}
	if info, _ := broker.Queue("orders"); n != 1001 || info.Ready != 1001 {
		t.Errorf("%d, %+v", n, info)
	}
}

// A redrive sends on what is there when it begins, once, and each letter as it was, to where it
// died.
func TestRedrive(t *testing.T) {
	eachVersion(t, func(t *testing.T, bus *patterns.Bus) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		bury(t, q, 1, 2, 3)
		seen := newJournal[patterns.Delivery]()
		sub, err := q.Work(bounded(t), func(ctx context.Context, _ order) error {
			d, _ := patterns.DeliveryFrom(ctx)
			seen.add(d)
			return patterns.Reject(errKitchen)
		})
		must(t, err)
		n, err := q.Dead().Redrive(bounded(t))
		must(t, err)
		for i, d := range seen.await(t, 3) {
			if d.ID != fmt.Sprint("order-", i+1) || d.Attempt != 1 || d.Headers["tenant"] != "a" || d.Headers[patterns.HeaderSentBackAt] == "" || len(d.Headers) != 2 {
				t.Errorf("%+v", d)
			}
		}
		must(t, sub.Stop(bounded(t)))
		if got := look(t, q.Dead()); n != 3 || !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("%d sent, then there are %v", n, got)
		}
	})
}

// The dead letters of a group go back to that group alone.
func TestRedriveOfAGroup(t *testing.T) {
	bus, broker := newBus(t)
	placed := patterns.NewPubSub[order](bus, "placed")
	for _, group := range []string{"a", "b"} {
		sub, err := placed.Subscribe(bounded(t), func(context.Context, order) error { return patterns.Reject(errKitchen) }, patterns.Group(group))
		must(t, err)
		must(t, placed.Publish(bounded(t), order{}))
		must(t, second(patterns.NewWorkQueue[patterns.Raw](bus, "placed:"+group+".dead").Get(bounded(t)))) // as it comes back
		must(t, sub.Stop(bounded(t)))
	}
	broker.Restart() // which gives back what was got
	sent, err := patterns.NewWorkQueue[patterns.Raw](bus, "placed:a.dead").Redrive(bounded(t))
	must(t, err)
	a, _ := broker.Queue("placed:a") // has had the second one since
	if b, _ := broker.Queue("placed:b"); a.Ready != 2 || b.Ready != 0 || sent != 1 {
		t.Errorf("%d sent, %+v, %+v", sent, a, b)
	}
}

// What cannot be sent stays a dead letter, and the error names it.
func TestRedriveKeepsWhatItCannotSend(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[order](bus, "orders")
	bury(t, q, 1, 2)
	broker.Inject(memory.Fault{On: memory.OnPublish, Name: "orders", Skip: 1, Do: memory.Refuse})
	n, err := q.Dead().Redrive(bounded(t))
	if n != 1 || !errors.Is(err, adapters.ErrUnavailable) || !strings.Contains(err.Error(), `redrive work queue "orders.dead": message "order-2" to queue "orders"`) {
		t.Errorf("%d sent, %v", n, err)
	}
	if got := look(t, q.Dead()); !slices.Equal(got, []int{2}) {
		t.Errorf("there are %v", got)
	}
	_, err = q.Redrive(bounded(t))
	wantErr(t, "of no dead letters", err, adapters.ErrInvalid)
	_, err = patterns.NewWorkQueue[order](bus, "q", patterns.NoDeadLetter()).Dead().Redrive(bounded(t))
	wantErr(t, "where there are none", err, adapters.ErrInvalid)
}
