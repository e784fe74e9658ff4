package interop

import (
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters/watermill"
)

// TestReconnect publishes while it receives, and once it has received this
// many, compares them with those that its publishers have noted by then. But
// RabbitMQ may deliver a message before it confirms it, and one of which the confirm was lost is
// published again: the last ones are received before they are noted.
const messagesOfReconnect = 10000

// lastOneLate returns a pair that hands the last message over when all have
// been published without an error.
func lastOneLate(pub message.Publisher, sub *watermill.Subscriber) (message.Publisher, message.Subscriber) {
	n := &noting{Publisher: pub, noted: map[string]bool{}, all: make(chan struct{})}
	return n, &late{sub, n.all}
}

type noting struct {
	message.Publisher
	mu    sync.Mutex
	noted map[string]bool
	all   chan struct{} // closed when all are noted
}

func (n *noting) Publish(topic string, msgs ...*message.Message) error {
	if err := n.Publisher.Publish(topic, msgs...); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.noted)
	for _, m := range msgs {
		n.noted[m.UUID] = true
	}
	if before < messagesOfReconnect && len(n.noted) >= messagesOfReconnect {
		close(n.all)
	}
	return nil
}

type late struct {
	*watermill.Subscriber
	all chan struct{}
}

func (s *late) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	in, err := s.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := make(chan *message.Message)
	go func() {
		defer close(out)
		// Nothing tells when the test has noted what Publish has just returned for.
		noted := sync.OnceFunc(func() { time.Sleep(time.Second) })
		seen := map[string]bool{}
		for m := range in {
			to := out
			if seen[m.UUID] = true; len(seen) == messagesOfReconnect {
				select {
				case <-s.all:
					noted()
				case <-m.Context().Done():
					to = nil
				}
			}
			select {
			case to <- m:
			case <-m.Context().Done(): // it comes again, or nobody is there to take it
				m.Nack()
			}
		}
	}()
	return out, nil
}
