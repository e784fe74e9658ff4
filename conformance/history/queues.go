package history

import "github.com/motifmq/motif/adapters"

// Queues returns the durable queues that recorded clients declared or subscribed
// to, each as it was first declared, and their dead-letter queues. Those that go
// with their last consumer are left out.
func (l *Log) Queues() []adapters.Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]adapters.Source(nil), l.queues...)
}

// remember keeps the source of a queue, once.
func (l *Log) remember(s adapters.Source) {
	name := s.QueueName()
	if name == "" || s.Queue.AutoDelete {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, known := range l.queues {
		if known.QueueName() == name {
			return
		}
	}
	l.queues = append(l.queues, s)
	if dead := s.Queue.DeadLetter; dead != "" {
		l.queues = append(l.queues, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: dead}})
	}
}
