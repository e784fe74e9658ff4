package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// A topic has no place for the properties of a queue. They are in records such as those of the
// bindings of exchanges, each for the queues that share a hash.
const specRecords = 16

const specsPrefix = "amq.kafka.queues-"

func specRecord(queue string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(queue)) // it never fails
	return fmt.Sprint(specsPrefix, h.Sum32()%specRecords)
}

// declared is what a queue was first declared as.
type declared struct {
	ID   string             `json:"id"` // of its topic: a queue that was deleted does not say what the next one is
	Spec adapters.QueueSpec `json:"spec"`
}

// spec returns the properties of the queue that has a topic. Where nobody has said what they are,
// they are those that are given, from then on; or none, where none are given.
func (d *Driver) spec(ctx context.Context, queue string, t topic, given *adapters.QueueSpec) (adapters.QueueSpec, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	d.mu.Lock()
	known := d.specs[queue]
	d.mu.Unlock()
	for known.ID != boundID(t.id) {
		all, revision, err := d.loadSpecs(ctx, specRecord(queue))
		if err != nil {
			return adapters.QueueSpec{}, err
		}
		if known = all[queue]; known.ID == boundID(t.id) {
			break
		}
		if given == nil {
			return adapters.QueueSpec{}, nil
		}
		all[queue] = declared{ID: boundID(t.id), Spec: *given}
		record, err := json.Marshal(all)
		if err != nil {
			return adapters.QueueSpec{}, fmt.Errorf("kafka: the properties of queue %q: %w", queue, err)
		}
		if err = (records{d}).Store(ctx, specRecord(queue), record, revision); err == nil {
			known = all[queue]
		} else if !errors.Is(err, kit.ErrChanged) {
			return adapters.QueueSpec{}, err
		}
	}
	d.mu.Lock()
	d.specs[queue] = known
	d.mu.Unlock()
	return known.Spec, nil
}

// loadSpecs reads what is declared of the queues in a record.
func (d *Driver) loadSpecs(ctx context.Context, name string) (all map[string]declared, revision uint64, err error) {
	record, revision, err := records{d}.Load(ctx, name)
	all = map[string]declared{}
	if err == nil && record != nil {
		if err := json.Unmarshal(record, &all); err != nil {
			return nil, 0, fmt.Errorf("kafka: the properties of queues: %w: %w", adapters.ErrMismatch, err)
		}
	}
	return all, revision, err
}

// declaredQueues returns the names of all queues that were declared, by their topics.
func (d *Driver) declaredQueues(ctx context.Context) (map[string]string, error) {
	names := map[string]string{}
	for n := range specRecords {
		all, _, err := d.loadSpecs(ctx, fmt.Sprint(specsPrefix, n))
		if err != nil {
			return nil, err
		}
		for name := range all {
			names[queueTopic(name)] = name
		}
	}
	return names, nil
}

// agree makes sure that a queue is what is declared.
func (d *Driver) agree(ctx context.Context, queue string, t topic, want adapters.QueueSpec) error {
	is, err := d.spec(ctx, queue, t, &want)
	if err == nil && is != want {
		err = fmt.Errorf("kafka: queue %q is %+v, not %+v: %w", queue, is, want, adapters.ErrMismatch)
	}
	return err
}

// declareQueue makes a queue that is as declared, unless it exists.
func (d *Driver) declareQueue(ctx context.Context, queue string, want adapters.QueueSpec) (topic, error) {
	t, err := d.makeQueue(ctx, queueTopic(queue))
	if err == nil {
		err = d.agree(ctx, queue, t, want)
	}
	return t, err
}
