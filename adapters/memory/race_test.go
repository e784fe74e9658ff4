package memory

import (
	"testing"

	"github.com/motifmq/motif/adapters"
)

// What happens when two things happen at once, step by step.

func TestAMessageIsLostBetweenTakeAndReceive(t *testing.T) {
	b, c := connect(t)
	other := b.Connect()
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a")
	old := sub.(*subscription).current.Load()
	slow, _ := old.take()
	c.Cut()
	_ = sub.Stop()
	elsewhere := subscribe(t, other, fromQueue("q", 1))
	settle(t, receive(t, elsewhere, "a"), adapters.Ack)
	publish(t, c, toQueue("q"), "b") // must not overwrite what the slow one is going to read
	d := old.receive(slow)
	if !d.Message.Equals(msg("a")) {
		t.Errorf("received %s %q", d.Message.UUID, d.Message.Payload)
	}
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	receiveAll(t, elsewhere, "b")
}

func TestSettleBetweenLosingAndCancelling(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a")
	d := receive(t, sub, "a")
	q := b.routes.queues["q"]
	q.mu.Lock()
	q.detachLost(sub.(*subscription).current.Load(), adapters.ErrSessionLost)
	q.unlock()
	wantErr(t, "late settle", d.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	c.Cut()
	receiveAll(t, sub, "a")
}

func TestPublishToAQueueThatIsBeingDeleted(t *testing.T) {
	b, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	q := b.routes.find(queueAt("q"))
	if err := b.DeleteQueue("q"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "put", q.put(new(entry)), adapters.ErrUnroutable)
}

func TestStopOfOneDoesNotDeleteAnothersQueue(t *testing.T) {
	b, c := connect(t)
	s := fromQueue("q", 1)
	s.Queue.AutoDelete = true
	sub := subscribe(t, c, s)
	b.Inject(Fault{On: OnSubscribe, Name: "q", Times: 1, Do: Refuse})
	c.Cut() // sub has no consumer for a while
	subscribe(t, b.Connect(), s)
	_ = sub.Stop()
	wantQueue(t, b, "q", 0, 0, 1)
}

func TestAMessageComesAsItsReceiverLeaves(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	consumer := sub.(*subscription).current.Load()
	_, w := consumer.take()
	publish(t, c, toQueue("q"), "a")
	if got := consumer.cancelWait(w); got.entry == nil || got.entry.uuid != "a" {
		t.Errorf("got %+v, and a message is lost", got)
	}
}

// A cut gives back first what is in hand of everybody, and dispatches then: what
// is published in between comes after it.
func TestAMessageComesWhileOthersAreGivenBack(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a")
	receive(t, sub, "a")
	other := subscribe(t, b.Connect(), fromQueue("q", 2))
	q := b.routes.queues["q"]
	q.mu.Lock()
	q.detachLost(sub.(*subscription).current.Load(), adapters.ErrSessionLost)
	q.unlock()
	publish(t, c, toQueue("q"), "b")
	b.afterDetach(q, true)
	receiveAll(t, other, "a", "b")
}
