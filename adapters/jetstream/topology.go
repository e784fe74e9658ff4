package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Metadata of a queue's stream.
const (
	metaQueue = "motif.queue" // its name
	metaID    = "motif.id"    // new for each stream: see queueName.boundSubject
	metaSpec  = "motif.spec"  // its QueueSpec, in JSON
)

// ackWait is after how long the server gives to others what a client holds that does not say that
// it still does, as it does three times as often. It is shorter in tests only.
var ackWait = 10 * time.Second

// idleAway is how long the server keeps the consumer of a private queue that nobody asks for
// messages, as one does whose client has died.
const idleAway = 30 * time.Second

// queue is a queue as it is at the server.
type queue struct {
	queueName
	id      string
	spec    adapters.QueueSpec
	private bool
	settled uint64 // all up to this number in the stream was, when the queue was declared
}

// consumer is the name of the one consumer of a queue. A queue of the same name that is made later
// has another one, so that an acknowledgement that comes late does not hit a message there.
func (q *queue) consumer() string { return "motif-" + q.id }

func (q *queue) bound() kit.Bound { return kit.Bound{Queue: q.name, ID: q.id} }

// look returns a queue as it stands.
func (s *session) look(ctx context.Context, name queueName) (*queue, error) {
	stream, err := s.js.Stream(ctx, name.stream())
	if err != nil {
		return nil, s.apiError(fmt.Sprintf("looking for queue %q", name.name), err)
	}
	return queueOf(name, stream.CachedInfo().Config)
}

func queueOf(name queueName, c jetstream.StreamConfig) (*queue, error) {
	q := &queue{queueName: name, id: c.Metadata[metaID], private: c.Storage == jetstream.MemoryStorage}
	if q.id == "" || c.Metadata[metaQueue] != name.name || json.Unmarshal([]byte(c.Metadata[metaSpec]), &q.spec) != nil {
		return nil, fmt.Errorf("jetstream: the stream %s is not the queue %q: %w", c.Name, name.name, adapters.ErrMismatch)
	}
	return q, nil
}

// declare makes a queue, unless it exists.
func (s *session) declare(ctx context.Context, name queueName, spec adapters.QueueSpec, replicas int) (*queue, error) {
	q, err := s.look(ctx, name)
	if errors.Is(err, adapters.ErrNotFound) {
		q, err = s.makeQueue(ctx, queue{queueName: name, id: newID(), spec: spec}, replicas)
	}
	if err != nil {
		return nil, err
	}
	if q.spec != spec {
		return nil, mismatch(q, spec)
	}
	return q, s.makeConsumer(ctx, q)
}

func mismatch(q *queue, spec adapters.QueueSpec) error {
	return fmt.Errorf("jetstream: queue %q is %+v, not %+v: %w", q.name, q.spec, spec, adapters.ErrMismatch)
}

// makeQueue makes a queue, or returns the one that somebody else has just made.
func (s *session) makeQueue(ctx context.Context, q queue, replicas int) (*queue, error) {
	spec, err := json.Marshal(q.spec)
	if err != nil {
		return nil, fmt.Errorf("jetstream: queue %q: %w", q.name, err)
	}
	c := jetstream.StreamConfig{
		Name: q.stream(), Description: "Motif: a queue",
		Subjects: []string{q.subject(), q.boundSubject(q.id), q.schedules()}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.FileStorage, Replicas: replicas, AllowMsgSchedules: true, AllowMsgTTL: true, AllowRollup: true,
		Metadata: map[string]string{metaQueue: q.name, metaID: q.id, metaSpec: string(spec)},
	}
	if q.private {
		// With its consumer gone it keeps nothing.
		c.Storage, c.Retention, c.Replicas, c.Subjects = jetstream.MemoryStorage, jetstream.InterestPolicy, 1, []string{q.subject(), q.boundSubject(q.id)}
		c.AllowMsgSchedules, c.AllowMsgTTL, c.AllowRollup = false, false, false
	}
	_, err = s.js.CreateStream(ctx, c)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return s.look(ctx, q.queueName)
	}
	if err != nil {
		return nil, s.apiError(fmt.Sprintf("making queue %q", q.name), err)
	}
	return &q, nil
}

func (s *session) makeConsumer(ctx context.Context, q *queue) error {
	c := jetstream.ConsumerConfig{
		Name: q.consumer(), Durable: q.consumer(), FilterSubject: q.messages(), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: -1,
	}
	if q.private {
		c.Durable, c.InactiveThreshold, c.MemoryStorage = "", idleAway, true
	}
	made, err := s.js.CreateConsumer(ctx, q.stream(), c)
	if err != nil {
		return s.apiError(fmt.Sprintf("making the consumer of queue %q", q.name), err)
	}
	q.settled = made.CachedInfo().AckFloor.Stream
	return nil
}

// deleteQueue deletes a queue, unless it has been made anew.
func (s *session) deleteQueue(ctx context.Context, q *queue) error {
	now, err := s.look(ctx, q.queueName)
	switch {
	case errors.Is(err, adapters.ErrNotFound), err == nil && now.id != q.id:
		return nil
	case err != nil:
		return err
	}
	if err := s.js.DeleteStream(ctx, q.stream()); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.apiError(fmt.Sprintf("deleting queue %q", q.name), err)
	}
	return nil
}
