package kafka

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

// TestDeadLetters: they say where and why a message died first, whoever wrote it; how often it came
// back does not matter, and those who take a queue as it stands have them, too.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(1)
	s.Queue.DeadLetter = s.Name + "-dead"
	must(t, d.Declare(ctx, s))
	dead := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: s.Queue.DeadLetter}, Prefetch: 1}
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint, Key: "key"}, message.NewMessage("ours", nil)))
	must(t, d.produce(ctx, &kgo.Record{Topic: queueTopic(s.Name), Key: []byte("key"), Value: []byte("theirs")}))
	other, _ := newDriver(t)
	sub, err := other.Subscribe(ctx, adapters.Source{Endpoint: s.Endpoint, Prefetch: 1, Passive: true})
	must(t, err)
	for i := range 8 { // more often than the broker delivers
		got := receive(ctx, t, sub)
		o := adapters.Requeue
		if i > 5 {
			o = adapters.Reject
		}
		must(t, got.Settle(ctx, o))
	}
	letters, err := d.Subscribe(ctx, dead)
	must(t, err)
	for range 2 {
		got := receive(ctx, t, letters)
		if m := got.Message.Metadata; m[MetadataFirstDeathQueue] != s.Name || m[MetadataFirstDeathReason] != "rejected" || !got.Died || got.Returned != 0 || got.Key != "key" {
			t.Errorf("a dead letter is %+v, %v", got, m)
		}
		must(t, got.Settle(ctx, adapters.Ack))
	}
}

// TestOneDeclares: of many who declare one queue at the same time, and do not agree on what it is,
// all get their way who agree with the first.
func TestOneDeclares(t *testing.T) {
	t.Parallel()
	one, ctx := newDriver(t)
	other, _ := newDriver(t)
	s := newQueue(1)
	specs := []adapters.QueueSpec{{}, {DeadLetter: s.Name + "-dead"}, {DeadLetter: s.Name + "-rest"}}
	var mu sync.Mutex
	agreed, refused := map[adapters.QueueSpec]int{}, 0
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			d, s := []*Driver{one, other}[i%2], s
			s.Queue = specs[i%len(specs)]
			err := d.Declare(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				agreed[s.Queue]++
			case errors.Is(err, adapters.ErrMismatch):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(agreed) != 1 || refused != 8 {
		t.Errorf("%v were declared, and %d refused", fmt.Sprint(agreed), refused)
	}
}
