package patterns_test

import (
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestSendsAfterTheQueueWasDeleted(t *testing.T) {
	bus, broker := newBus(t)
	q := patterns.NewWorkQueue[int](bus, "q", patterns.MaxLength(2))
	must(t, q.Send(bounded(t), 1))
	must(t, broker.DeleteQueue("q"))
	// The first one finds the queue gone, and declares it again; it is refused
	// once more on its way, and the order of the failures is still the call's.
	err := q.SendBatch(bounded(t), []int{1, 2, 3, 4})
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 2 || failed.Failed[1].Index != 3 {
		t.Errorf("got %v", err)
	}
	must(t, broker.DeleteQueue("q"))
	broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q", Skip: 3, Do: memory.Refuse, Times: 1})
	err = q.SendBatch(bounded(t), []int{1, 2, 3, 4}) // the fourth is refused, then there is room for two
	failed, ok = errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 2 || failed.Failed[1].Index != 3 {
		t.Errorf("got %v", err)
	}

	must(t, broker.DeleteQueue("q"))
	broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q", Do: memory.Refuse, Times: 1})
	err = q.SendBatch(bounded(t), []int{1, 2, 3, 4}) // the first is refused, then there is room for two
	failed, ok = errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != 2 || failed.Failed[0].Index != 0 || failed.Failed[1].Index != 3 {
		t.Errorf("got %v", err)
	}

	must(t, broker.DeleteQueue("q"))
	broker.Inject(memory.Fault{On: memory.OnSubscribe, Name: "q", Do: memory.Refuse, Times: 1})
	err = q.Send(bounded(t), 1)
	wantErr(t, "Send where the queue cannot be declared", err, adapters.ErrUnroutable)
	wantErr(t, "Send where the queue cannot be declared", err, adapters.ErrUnavailable)

	must(t, q.Send(bounded(t), 1))
	must(t, broker.DeleteQueue("q"))
	r, err := q.SendAsync(bounded(t), 1)
	must(t, err)
	wantErr(t, "the first asynchronous send", r.Wait(bounded(t)), adapters.ErrUnroutable)
	r, err = q.SendAsync(bounded(t), 1)
	must(t, err)
	must(t, r.Wait(bounded(t)))
}

func TestWaitForRoomIsForQueues(t *testing.T) {
	bus, _ := newBus(t)
	ps := patterns.NewPubSub[int](bus, "ticks")
	must(t, ps.Declare(bounded(t), patterns.Group("full"), patterns.MaxLength(1)))
	must(t, ps.Declare(bounded(t), patterns.Group("roomy")))
	must(t, ps.Publish(bounded(t), 1))
	wantErr(t, "WaitForRoom of a fanout", ps.Publish(bounded(t), 2, patterns.WaitForRoom()), adapters.ErrInvalid)
	wantErr(t, "WaitForRoom by key", patterns.NewRouted[int](bus, "logs").Publish(bounded(t), "k", 2, patterns.WaitForRoom()), adapters.ErrInvalid)
}

func TestRefusedAsynchronousPublishLeavesItsPlace(t *testing.T) {
	bus, _ := newBus(t, patterns.MaxInFlight(1))
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, q.Send(bounded(t), 1))
	must(t, bus.Close(bounded(t)))
	for range 3 {
		wantErr(t, "SendAsync", second(q.SendAsync(bounded(t), 1)), adapters.ErrClosed)
	}
}

func TestLongestDelay(t *testing.T) {
	broker := memory.New()
	defer broker.Close()
	bus := patterns.New(impatientDriver{broker.Connect()})
	q := patterns.NewWorkQueue[int](bus, "q")
	must(t, q.Send(bounded(t), 1, patterns.Delay(time.Minute)))
	wantErr(t, "a longer one", q.Send(bounded(t), 1, patterns.Delay(time.Minute+1)), adapters.ErrInvalid)
	must(t, bus.Close(bounded(t)))
}
