package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

var _ adapters.Inspector = (*Driver)(nil)

// Inspect implements [adapters.Inspector]. Ready and Unacked add up to what is not settled, which
// the broker says. What of it is in hand is what the consumers said last: those of this driver at
// this moment, others with their last heartbeat, some five seconds ago. One whose process has died
// is counted for 45 seconds.
func (d *Driver) Inspect(ctx context.Context, queue string) (info adapters.QueueInfo, err error) {
	err = d.inspect(ctx, "inspect", queue, nil, func(ctx context.Context, t topic) error {
		q, err := d.depth(ctx, t)
		if err != nil {
			return err
		}
		if info = q.info(queue); info.Ready == 0 {
			return nil
		}
		first, err := d.browse(ctx, t, q, 1)
		if err == nil && len(first) > 0 {
			info.Oldest = first[0].Timestamp
		}
		if errors.Is(err, adapters.ErrAccess) {
			return nil // it is not known
		}
		return err
	})
	return info, err
}

// Queues implements [adapters.Inspector]: it lists Motif's queues, private ones among them. All are
// looked at before the first one is yielded, fifty at once; what the broker does not say of those
// within five seconds is -1.
func (d *Driver) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	return func(yield func(adapters.QueueInfo, error) bool) {
		var names map[string]string
		var all map[string]depth
		err := d.ask(ctx, "list queues", func(ctx context.Context) (err error) {
			var topics []topic
			if topics, names, err = d.allQueues(ctx); err != nil {
				return err
			}
			all, err = d.depths(ctx, topics)
			return err
		})
		if err != nil {
			yield(adapters.QueueInfo{}, err)
			return
		}
		for topic, q := range all {
			if name, isOurs := names[topic]; isOurs && !yield(q.info(name), nil) {
				return
			}
		}
	}
}

// topicsWith returns the topics whose names begin with a prefix.
func (d *Driver) topicsWith(ctx context.Context, prefix string) (found []topic, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	all, err := within(ctx, func() (kadm.TopicDetails, error) { return d.admin.ListTopics(ctx) })
	if err != nil {
		return nil, apiError("listing topics", err)
	}
	for name, t := range all {
		if strings.HasPrefix(name, prefix) && t.Err == nil && len(t.Partitions) == 1 {
			found = append(found, topic{name: name, id: t.ID, leader: t.Partitions[0].Leader, epoch: t.Partitions[0].LeaderEpoch})
		}
	}
	return found, nil
}

// allQueues returns the topics of queues, and the names of those by them.
func (d *Driver) allQueues(ctx context.Context) (topics []topic, names map[string]string, err error) {
	if topics, err = d.topicsWith(ctx, queuePrefix); err != nil {
		return nil, nil, err
	}
	names = map[string]string{}
	hashes := false
	for _, t := range topics {
		if name, ok := nameOf(strings.TrimPrefix(t.name, queuePrefix)); ok {
			names[t.name] = name
		}
		hashes = hashes || strings.HasPrefix(t.name, queuePrefix+hashed)
	}
	if hashes {
		var declared map[string]string
		declared, err = d.declaredQueues(ctx)
		maps.Copy(names, declared) // and what was deleted, which has no topic
	}
	return topics, names, err
}

// Browse implements [adapters.Inspector]. It consumes nothing. What consumers hold at this moment
// is among what it returns, since the broker does not say what that is; and what was given back is
// in the order in which it was published. Where rights are given it takes that of a broker
// (ClusterAction) to know what of a queue is settled: without it Returned is -1, and a queue in
// which a message was settled before an earlier one is an ErrAccess.
func (d *Driver) Browse(ctx context.Context, queue string, limit int) (found []adapters.Delivery, err error) {
	err = d.inspect(ctx, "browse", queue, adapters.ValidateBrowse(queue, limit), func(ctx context.Context, t topic) error {
		q, err := d.depth(ctx, t)
		if err == nil {
			found, err = d.browse(ctx, t, q, limit)
		}
		return err
	})
	return found, err
}

func (d *Driver) browse(ctx context.Context, t topic, q depth, limit int) (found []adapters.Delivery, err error) {
	if q.unsettled == 0 {
		return nil, nil
	}
	var delivered stored
	if q.isUsed {
		delivered, err = d.stored(ctx, t)
	}
	isKnown := err == nil
	if err != nil && (!errors.Is(err, adapters.ErrAccess) || int64(q.unsettled) < q.end-q.start) {
		return nil, err
	}
	size, behind := 0, q.unsettled
	for next := q.start; next < q.end; {
		part, err := d.fetchFrom(ctx, t, next)
		if err != nil {
			return nil, err
		}
		for _, r := range part.records {
			deliveries, over := delivered.of(r.Offset)
			if q.tally != nil {
				deliveries = q.tally.of(r.Offset)
				over = deliveries == isSettled
			}
			if r.Offset < next || over {
				continue
			}
			if size += len(r.Value); len(found) == limit || size > adapters.MaxBrowseBytes && len(found) > 0 {
				found[len(found)-1].Remaining = max(0, behind)
				return found, nil
			}
			behind--
			e, metadata := decode(r)
			copied := e.delivery(r, metadata)
			copied.Message.SetContext(context.WithoutCancel(ctx))
			copied.Returned = e.Returned + deliveries
			copied.Redelivered = copied.Returned > 0 || e.Again
			if !isKnown {
				copied.Returned = -1
			}
			found = append(found, copied)
		}
		if part.next <= next {
			break // it has been dropped meanwhile
		}
		next = part.next
	}
	if len(found) > 0 {
		found[len(found)-1].Remaining = 0
	}
	return found, nil
}

// Bindings implements [adapters.Inspector]. It reads all exchanges.
func (d *Driver) Bindings(ctx context.Context, queue string) (bound []adapters.Binding, err error) {
	err = d.inspect(ctx, "list bindings", queue, nil, func(ctx context.Context, t topic) error {
		bound = nil
		exchanges, err := d.exchanges(ctx)
		for _, exchange := range exchanges {
			some, err := d.routes.Bindings(ctx, exchange, kit.Bound{Queue: queue, ID: boundID(t.id)})
			if err != nil {
				return err
			}
			bound = append(bound, some...)
		}
		return err
	})
	return bound, err
}

// exchanges returns the names of all exchanges.
func (d *Driver) exchanges(ctx context.Context) (names []string, err error) {
	topics, err := d.topicsWith(ctx, exchangePrefix)
	for _, t := range topics {
		name, ok := nameOf(strings.TrimPrefix(t.name, exchangePrefix))
		if !ok {
			l := &ledger{}
			if _, err := d.catchUp(ctx, l, t.name, 0); err != nil && !errors.Is(err, adapters.ErrNotFound) {
				return nil, err
			}
			name, ok = l.name, l.name != ""
		}
		if ok && !strings.HasPrefix(name, specsPrefix) {
			names = append(names, name)
		}
	}
	return names, err
}

// Purge implements [adapters.Inspector]. It takes what waits, as a consumer does, and acknowledges
// it: what the broker delivers to nobody, behind too many that are in hand, stays. If the
// connection is lost meanwhile, it goes on in the next one. A queue with a single active consumer
// can be purged while nobody consumes it, and is ErrUnsupported else.
func (d *Driver) Purge(ctx context.Context, queue string) (n int, err error) {
	err = d.inspect(ctx, "purge", queue, nil, func(ctx context.Context, t topic) error {
		q, err := d.depth(ctx, t)
		if err != nil || q.unsettled == 0 {
			return err
		}
		spec, err := d.spec(ctx, queue, t, nil)
		if err != nil {
			return err
		}
		if spec.SingleActive {
			n, err = d.purgeLine(ctx, t, q)
			return err
		}
		some, err := d.purge(ctx, t, q.unsettled)
		n += some
		return err
	})
	return n, err
}

// purgeBatch is how many messages a purge has in hand at most.
const purgeBatch = 500

func (d *Driver) purge(ctx context.Context, t topic, left int) (n int, err error) {
	const what = "purge"
	m, err := newMember(ctx, d, t)
	if err != nil {
		return 0, err
	}
	defer m.client.Close()
	defer m.leave(ctx)
	defer m.stayAlive(ctx)()
	got, done, err := m.begin(ctx, min(left, purgeBatch))
	for empty := 0; err == nil && empty < 2; { // the first time the broker may not know yet
		if len(got) == 0 {
			empty++
		}
		for _, r := range got {
			done = append(done, settled{r.Offset, ackAccept})
		}
		if err = m.acknowledge(ctx, done, false); err != nil {
			break
		}
		n += len(got)
		if left -= len(got); left == 0 {
			break
		}
		got, done, err = m.fetch(ctx, min(left, purgeBatch), waitIdle, nil)
	}
	if err == nil {
		err = m.acknowledge(ctx, nil, true)
	}
	if err != nil {
		return n, apiError(what, err)
	}
	m.trim(ctx)
	return n, nil
}

// Delete implements [adapters.Inspector]. It looks whether a condition is met and deletes the
// queue in two steps, and its bindings in further ones. A queue is empty if nothing in it is in
// hand, either.
func (d *Driver) Delete(ctx context.Context, queue string, only adapters.Condition) error {
	begun := false
	err := d.inspect(ctx, "delete", queue, nil, func(ctx context.Context, t topic) error {
		if only != 0 {
			q, err := d.depth(ctx, t)
			q.held = 0 // others' may be old
			if err := cmp.Or(err, only.Unmet(q.info(queue))); err != nil {
				return err
			}
		}
		begun = true
		if err := d.deleteQueue(ctx, t.name); err != nil {
			return err
		}
		if err := d.untilGone(ctx, t); err != nil {
			return err
		}
		exchanges, err := d.exchanges(ctx)
		for _, exchange := range exchanges {
			e := adapters.Endpoint{Kind: adapters.Exchange, Name: exchange}
			if err := d.routes.Remove(ctx, e, kit.Bound{Queue: queue, ID: boundID(t.id)}); err != nil {
				return err
			}
		}
		return err
	})
	if begun && errors.Is(err, adapters.ErrNotFound) {
		return nil // the attempt before had deleted it
	}
	return err
}

// untilGone waits until a broker that is asked for a topic knows that it was deleted.
func (d *Driver) untilGone(ctx context.Context, t topic) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wait := kit.Backoff{Min: 2 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		now, err := d.look(ctx, t.name)
		if errors.Is(err, adapters.ErrNotFound) || err == nil && now.id != t.id {
			return nil
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return apiError("deleting topic "+t.name, cmp.Or(err, ctx.Err()))
		}
	}
}

// Compare implements [adapters.Inspector].
func (d *Driver) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) (found []adapters.Difference, err error) {
	if err := adapters.ValidateCompare(e, spec); err != nil {
		return nil, fmt.Errorf("kafka: compare: %w", err)
	}
	if e.Kind == adapters.Queue {
		err = d.inspect(ctx, "compare", e.Name, nil, func(ctx context.Context, t topic) error {
			is, err := d.spec(ctx, e.Name, t, nil)
			found = kit.Differences(spec, is)
			return err
		})
		return found, err
	}
	err = d.ask(ctx, "compare", func(ctx context.Context) error {
		kind, err := d.routes.Kind(ctx, e.Name)
		if err == nil && kind != e.Kind.String() {
			found = []adapters.Difference{{Property: "kind", Declared: e.Kind.String(), Actual: kind}}
		}
		return err
	})
	return found, err
}

// inspect calls f with the topic of a queue.
func (d *Driver) inspect(ctx context.Context, verb, queue string, valid error, f func(context.Context, topic) error) error {
	source := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}}
	if err := cmp.Or(valid, source.Validate()); err != nil {
		return fmt.Errorf("kafka: %s: %w", verb, err)
	}
	return d.ask(ctx, verb, func(ctx context.Context) error {
		t, err := d.look(ctx, queueTopic(queue))
		if err != nil {
			return err
		}
		return f(ctx, t)
	})
}

// ask calls f, and again while a connection that was lost is replaced, or a leader: as long as ctx
// allows, or for twice apiTimeout. The client gives one request up after that time, in which on a
// busy machine it may have had no connection.
func (d *Driver) ask(ctx context.Context, verb string, f func(context.Context) error) error {
	if err := d.tasks.Check(ctx, "kafka: "+verb); err != nil {
		return err
	}
	if _, isBounded := ctx.Deadline(); !isBounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 2*apiTimeout)
		defer cancel()
	}
	bound, cancel := d.bound(ctx)
	defer cancel()
	wait := kit.Backoff{Min: 10 * time.Millisecond, Max: time.Second}
	for {
		err := f(bound)
		if !errors.Is(err, adapters.ErrUnavailable) || bound.Err() != nil {
			return d.tasks.Explain(ctx, err)
		}
		select {
		case <-time.After(wait.Next()):
		case <-bound.Done():
		}
	}
}
