package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters"
)

// slowBroker answers a declaration when as many are under way as there may be, and refuses one
// queue.
type slowBroker struct {
	recorder
	refused string

	mu       sync.Mutex
	underWay int
	most     int
	all      chan struct{}
	names    []string
}

func (b *slowBroker) Declare(_ context.Context, s adapters.Source) error {
	b.mu.Lock()
	b.names = append(b.names, s.QueueName())
	b.underWay++
	b.most = max(b.most, b.underWay)
	all := b.all
	if len(b.names)%mostAtOnce == 0 {
		close(all)
		b.all = make(chan struct{})
	}
	b.mu.Unlock()
	<-all
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
	if s.QueueName() == b.refused {
		return adapters.ErrMismatch
	}
	return nil
}

// TestApplyDeclaresSeveralAtATime: and no more than that, each queue once, dead letters and
// exchanges with whose they are, and everything though one is refused.
func TestApplyDeclaresSeveralAtATime(t *testing.T) {
	top := Topology{Exchanges: []Exchange{{"news", "fanout"}}}
	var want []string
	for i := range 2*mostAtOnce - 1 {
		name := fmt.Sprint("work", i)
		want = append(want, name)
		top.Queues = append(top.Queues, Queue{Name: name, Spec: adapters.QueueSpec{DeadLetter: name + ".dead"}}, Queue{Name: name + ".dead"})
	}
	want = append(want, "news:readers")
	top.Queues = append(top.Queues, Queue{Name: "news:readers", Exchange: "news", Group: "readers"})
	synctest.Test(t, func(t *testing.T) { // in which it is seen at once if they wait in vain
		b := &slowBroker{all: make(chan struct{}), refused: "work3"}
		if err := top.Apply(t.Context(), b); !errors.Is(err, adapters.ErrMismatch) {
			t.Errorf("a queue that is refused: %v", err)
		}
		slices.Sort(b.names)
		slices.Sort(want)
		if !slices.Equal(b.names, want) || b.most != mostAtOnce {
			t.Errorf("%d at a time: %q, want %q", b.most, b.names, want)
		}
	})
}
