package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// target is the topic of a queue that gets a copy.
type target struct {
	topic string
	bound *kit.Bound // by which binding; nil for what is published to the queue itself
}

// Publish implements [adapters.Driver].
func (d *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if err := d.checkPublish(ctx, &p); err != nil || len(msgs) == 0 {
		return err
	}
	targets, err := d.route(ctx, &p)
	if err != nil {
		return err
	}
	batch := kit.NewBatch(msgs)
	for i, m := range msgs {
		if err := d.send(ctx, &p, targets, m, func(err error) { batch.Resolve(i, err) }); err != nil {
			batch.Resolve(i, err)
		}
	}
	return batch.Wait(ctx)
}

// PublishAsync implements [adapters.AsyncPublisher].
func (d *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if err := d.checkPublish(ctx, &p); err != nil {
		return err
	}
	targets, err := d.route(ctx, &p)
	if err != nil {
		return err
	}
	return d.send(ctx, &p, targets, m, done)
}

func (d *Driver) checkPublish(ctx context.Context, p *adapters.Publication) error {
	if err := cmp.Or(d.tasks.Check(ctx, "kafka: publish"), p.Validate(), features.Require(p.Needs())); err != nil {
		return err
	}
	if p.Timestamp.IsZero() {
		p.Timestamp = time.Now()
	}
	p.Attempt = max(p.Attempt, 1)
	return nil
}

// route returns where the messages of a call go, as bindings are now. Queues that are gone are not
// among them.
func (d *Driver) route(ctx context.Context, p *adapters.Publication) (targets []target, err error) {
	if p.Delay <= 0 && p.To.Kind == adapters.Queue { // no waiting
		topic := queueTopic(p.To.Name)
		d.mu.Lock()
		_, isKnown := d.topics[topic]
		d.mu.Unlock()
		if isKnown {
			return []target{{topic: topic}}, nil
		}
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	if p.Delay > 0 {
		targets, err = d.routeDelayed(ctx, p)
		return targets, d.tasks.Explain(ctx, err)
	}
	all := []target{{topic: queueTopic(p.To.Name)}}
	if p.To.Kind.IsExchange() {
		bound, err := d.routes.Route(ctx, p.To, p.Key)
		if err != nil {
			return nil, d.tasks.Explain(ctx, err)
		}
		all = nil
		for _, b := range bound {
			all = append(all, target{queueTopic(b.Queue), &b})
		}
	}
	for _, t := range all {
		found, err := d.known(ctx, t.topic)
		gone := errors.Is(err, adapters.ErrNotFound)
		if err == nil && !t.is(found) {
			gone, err = d.isGone(ctx, t)
		}
		switch {
		case gone:
			d.unbind(ctx, p.To, t)
		case err != nil:
			return nil, d.tasks.Explain(ctx, err)
		default:
			targets = append(targets, t)
		}
	}
	return targets, nil
}

// is reports whether a topic is the target, rather than that of a queue that was made anew.
func (t target) is(found topic) bool { return t.bound == nil || boundID(found.id) == t.bound.ID }

// isGone reports whether the queue was deleted. That is so only if no broker knows it: one may lag.
func (d *Driver) isGone(ctx context.Context, t target) (bool, error) {
	found, err := d.look(ctx, t.topic)
	if err != nil || t.is(found) {
		return errors.Is(err, adapters.ErrNotFound), err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	_, brokers, err := d.describe(ctx, t.topic, patient{d.client}.Request)
	if len(brokers) == 0 {
		return false, err
	}
	all, err := d.describeAll(ctx, t.topic, brokers)
	return err == nil && !slices.ContainsFunc(all, t.is), err
}

// unbind ends the binding of a queue that was deleted.
func (d *Driver) unbind(ctx context.Context, e adapters.Endpoint, t target) {
	if t.bound != nil {
		_ = d.routes.Remove(ctx, e, *t.bound) // or the next publisher does
	}
}

func boundID(id kadm.TopicID) string { return id.String() }

// send sends m to its targets, and calls done with what became of it. After an error nothing was
// sent, and done is not called.
func (d *Driver) send(ctx context.Context, p *adapters.Publication, targets []target, m *message.Message, done func(error)) error {
	if err := cmp.Or(d.tasks.Check(ctx, "kafka: publish"), adapters.ValidateMessage(m)); err != nil {
		return err
	}
	record, err := encode(p, m)
	if err != nil {
		return err
	}
	return d.sendRecord(ctx, p, targets, record, done)
}

// sendRecord is send of what is a record already.
func (d *Driver) sendRecord(ctx context.Context, p *adapters.Publication, targets []target, record *kgo.Record, done func(error)) error {
	if len(targets) == 0 {
		if p.Mandatory {
			done(adapters.ErrUnroutable)
		} else {
			done(nil)
		}
		return nil
	}
	c := kit.NewCopies(len(targets), p.Mandatory, done)
	for i, t := range targets {
		one := record
		if i < len(targets)-1 {
			one = copied(record)
		}
		one.Topic = t.topic
		err := d.start(ctx, one, func(err error) {
			if !errors.Is(err, adapters.ErrNotFound) {
				c.Resolve(false, err)
				return
			}
			// Not here, in the client's own goroutine.
			if !d.tasks.Go(func() { c.Resolve(d.missing(p, t, one)) }) {
				c.Resolve(false, adapters.ErrUnconfirmed)
			}
		})
		if err == nil {
			continue
		}
		if i == 0 {
			return err // none was
		}
		for range targets[i:] {
			c.Resolve(false, fmt.Errorf("%w: by some of its queues: %w", adapters.ErrUnconfirmed, err))
		}
		break
	}
	return nil
}

// missing says what it means that a broker does not know the topic of a queue: that it is gone, or
// that the broker lags, or that it was made anew. Then it gets the message yet.
func (d *Driver) missing(p *adapters.Publication, t target, r *kgo.Record) (gone bool, err error) {
	ctx, cancel := d.bound(context.Background())
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, confirmTimeout)
	defer cancelTimeout()
	if p.Delay > 0 {
		return false, d.rewrite(ctx, p, r)
	}
	gone, err = d.isGone(ctx, t)
	if err == nil && !gone {
		err = d.produceAgain(ctx, r)
		gone = errors.Is(err, adapters.ErrNotFound)
	}
	if gone {
		d.unbind(ctx, p.To, t)
		return true, nil
	}
	return false, err
}

// produceAgain is produce of a record that a broker had no topic for, until all know the topic. The
// error is ErrNotFound if it is gone.
func (d *Driver) produceAgain(ctx context.Context, r *kgo.Record) error {
	wait := kit.Backoff{Min: 2 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		err := d.produce(ctx, copied(r))
		if !errors.Is(err, adapters.ErrNotFound) {
			return err
		}
		if _, err := d.look(ctx, r.Topic); err != nil {
			return err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return apiError("publishing to topic "+r.Topic, ctx.Err())
		}
	}
}

// copied returns a record to be written once more.
func copied(r *kgo.Record) *kgo.Record {
	return &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}
}

// produce is start that waits.
func (d *Driver) produce(ctx context.Context, r *kgo.Record) error {
	done := make(chan error, 1)
	if err := d.start(ctx, r, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("kafka: %w: %w", adapters.ErrUnconfirmed, ctx.Err())
	}
}

// start sends a record, and calls done once with what became of it, in a goroutine of the client.
// It returns an error if it was not sent.
func (d *Driver) start(ctx context.Context, r *kgo.Record, done func(error)) error {
	select {
	case d.window <- struct{}{}:
	case <-d.tasks.Closed():
		return adapters.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("kafka: publish: %w: %w", adapters.ErrUnavailable, ctx.Err())
	}
	d.client.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		<-d.window
		done(confirmed(err))
	})
	return nil
}

// confirmed returns what the answer to a record says.
func confirmed(err error) error {
	sentinel := adapters.ErrUnconfirmed
	switch {
	case err == nil:
		return nil
	case isAny(err, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		sentinel = adapters.ErrTooLarge
	case isAny(err, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed):
		sentinel = adapters.ErrAccess
	case isAny(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		sentinel = adapters.ErrNotFound // of no user: see missing
	case isAny(err, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation):
		sentinel = adapters.ErrNacked
	}
	return fmt.Errorf("kafka: %w: %w", sentinel, err)
}
