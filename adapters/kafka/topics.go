package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// topic is one as it is at the broker. Ours have one partition, whose leader orders what is
// written.
type topic struct {
	name   string
	id     kadm.TopicID // another one of that name has another one
	leader int32
	epoch  int32 // of the leader
}

// apiError is about what a broker said, or that it said nothing. Wherever it is used, nothing was
// stored that matters.
func apiError(what string, err error) error {
	sentinel := adapters.ErrUnavailable
	switch {
	case errors.Is(err, adapters.ErrClosed):
		return err
	case isAny(err, kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed):
		sentinel = adapters.ErrAccess
	case isAny(err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		sentinel = adapters.ErrNotFound
	case isAny(err, kerr.MessageTooLarge, kerr.RecordListTooLarge):
		sentinel = adapters.ErrTooLarge
	case isAny(err, kerr.InvalidReplicationFactor, kerr.InvalidConfig, kerr.PolicyViolation, kerr.InvalidTopicException):
		sentinel = adapters.ErrInvalid
	}
	return fmt.Errorf("kafka: %s: %w: %w", what, sentinel, err)
}

func isAny(err error, kinds ...*kerr.Error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// within calls f, which asks a broker, and waits no longer than ctx: the client itself does, while
// it makes a connection. Then f ends with that, or with the client.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		answer T
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := f()
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// ask sends a request to one broker.
func ask(ctx context.Context, client *kgo.Client, broker int32, r kmsg.Request) (kmsg.Response, error) {
	return within(ctx, func() (kmsg.Response, error) { return client.Broker(int(broker)).Request(ctx, r) })
}

// patient is a client whose requests wait no longer than their ctx.
type patient struct{ *kgo.Client }

func (c patient) Request(ctx context.Context, r kmsg.Request) (kmsg.Response, error) {
	return within(ctx, func() (kmsg.Response, error) { return c.Client.Request(ctx, r) })
}

// look returns a topic as it is now. A broker that lags may not have heard of it, or know one of
// that name that was deleted: so a topic is not found, or another one, only if all brokers say so.
func (d *Driver) look(ctx context.Context, name string) (topic, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	d.mu.Lock()
	before, known := d.topics[name]
	d.mu.Unlock()
	found, brokers, err := d.describe(ctx, name, patient{d.client}.Request)
	isOther := err == nil && known && found.id != before.id
	if len(brokers) > 1 && (isOther || errors.Is(err, adapters.ErrNotFound)) {
		var all []topic
		all, err = d.describeAll(ctx, name, brokers)
		if i := slices.IndexFunc(all, func(t topic) bool { return known && t.id == before.id }); i >= 0 {
			found, err = all[i], nil
		} else if err == nil && len(all) > 0 {
			found = all[0]
		} else if err == nil {
			err = apiError("looking for topic "+name, kerr.UnknownTopicOrPartition)
		}
	}
	switch {
	case errors.Is(err, adapters.ErrNotFound):
		return topic{}, cmp.Or(d.forget(ctx, name), err)
	case err != nil:
		return topic{}, err
	case known && found.id != before.id:
		if err := d.forget(ctx, name); err != nil {
			return topic{}, err
		}
	}
	d.mu.Lock()
	d.topics[name] = found
	d.mu.Unlock()
	return found, nil
}

// describeAll returns the topics of a name that some of these brokers know. They have not long to
// answer: one that is lost is still among them for a while.
func (d *Driver) describeAll(ctx context.Context, name string, brokers []int32) (found []topic, err error) {
	ctx, cancel := context.WithTimeout(ctx, othersTimeout)
	defer cancel()
	topics, errs := make([]topic, len(brokers)), make([]error, len(brokers))
	var asked sync.WaitGroup
	for i, b := range brokers {
		asked.Go(func() {
			topics[i], _, errs[i] = d.describe(ctx, name, func(ctx context.Context, r kmsg.Request) (kmsg.Response, error) {
				return ask(ctx, d.client, b, r)
			})
		})
	}
	asked.Wait()
	for i := range brokers {
		switch {
		case errs[i] == nil:
			found = append(found, topics[i])
		case !errors.Is(errs[i], adapters.ErrNotFound):
			err = errs[i]
		}
	}
	return found, err
}

// describe asks a broker for a topic as that knows it, and for the brokers that there are.
func (d *Driver) describe(ctx context.Context, name string, request func(context.Context, kmsg.Request) (kmsg.Response, error)) (
	found topic, brokers []int32, err error,
) {
	what := "looking for topic " + name
	r := kmsg.NewPtrMetadataRequest()
	r.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	answered, err := request(ctx, r)
	if err != nil {
		return topic{}, nil, apiError(what, err)
	}
	answer := answered.(*kmsg.MetadataResponse)
	for _, b := range answer.Brokers {
		brokers = append(brokers, b.NodeID)
	}
	if len(answer.Topics) != 1 {
		return topic{}, brokers, apiError(what, kerr.UnknownTopicOrPartition)
	}
	t := answer.Topics[0]
	switch err := kerr.ErrorForCode(t.ErrorCode); {
	case err != nil:
		return topic{}, brokers, apiError(what, err)
	case len(t.Partitions) != 1:
		return topic{}, nil, fmt.Errorf("kafka: topic %s has %d partitions, and is none of Motif's: %w", name, len(t.Partitions), adapters.ErrMismatch)
	case t.Partitions[0].Leader < 0:
		return topic{}, nil, apiError(what, kerr.LeaderNotAvailable)
	}
	return topic{name: name, id: t.TopicID, leader: t.Partitions[0].Leader, epoch: t.Partitions[0].LeaderEpoch}, brokers, nil
}

// known returns a topic as it was when it was last looked at.
func (d *Driver) known(ctx context.Context, name string) (topic, error) {
	d.mu.Lock()
	t, found := d.topics[name]
	d.mu.Unlock()
	if found {
		return t, nil
	}
	t, err := d.look(ctx, name)
	if err == nil && strings.HasPrefix(name, privateTopics) {
		d.review(ctx, name)
	}
	return t, err
}

// review forgets private queues that have gone: of those that are remembered it looks at two, for
// each new one.
func (d *Driver) review(ctx context.Context, newest string) {
	var names []string
	d.mu.Lock()
	for name := range d.topics { // in no order
		if len(names) < 2 && name != newest && strings.HasPrefix(name, privateTopics) {
			names = append(names, name)
		}
	}
	d.mu.Unlock()
	for _, name := range names {
		_, _ = d.look(ctx, name)
	}
}

// forget forgets a topic that was deleted. The client would go on writing to it. It must not forget
// one that exists: it would number what it writes from the beginning, and the broker takes what has
// a number that it has seen for a duplicate.
func (d *Driver) forget(ctx context.Context, name string) error {
	d.mu.Lock()
	delete(d.topics, name)
	d.mu.Unlock()
	_, err := within(ctx, func() (struct{}, error) { // it waits while the client asks a broker
		d.client.PurgeTopicsFromClient(name)
		return struct{}{}, nil
	})
	if err != nil {
		return apiError("forgetting topic "+name, err)
	}
	return nil
}

// makeTopic makes a topic that keeps all that is written to it, until we say otherwise. Options are
// names and values.
func (d *Driver) makeTopic(ctx context.Context, name string, options ...string) (topic, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	forever, largest := "-1", strconv.Itoa(maxRecordBytes)
	config := map[string]*string{"retention.ms": &forever, "retention.bytes": &forever, "max.message.bytes": &largest}
	for i := 0; i+1 < len(options); i += 2 {
		config[options[i]] = &options[i+1]
	}
	_, err := within(ctx, func() (kadm.CreateTopicResponse, error) {
		return d.admin.CreateTopic(ctx, 1, d.config.replicas, config, name)
	})
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return topic{}, apiError("making topic "+name, err)
	}
	wait := kit.Backoff{Min: 2 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		t, err := d.look(ctx, name)
		if err == nil || !errors.Is(err, adapters.ErrNotFound) && !errors.Is(err, kerr.LeaderNotAvailable) {
			return t, err
		}
		select { // the brokers have not heard of it yet
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return topic{}, apiError("making topic "+name, ctx.Err())
		}
	}
}

// makeQueue makes the topic of a queue, unless it exists. Its share group is configured before, so
// that wherever the topic is known, that is, too: a group begins with what waits already.
func (d *Driver) makeQueue(ctx context.Context, name string, options ...string) (topic, error) {
	t, err := d.look(ctx, name)
	if !errors.Is(err, adapters.ErrNotFound) {
		return t, err
	}
	earliest := "earliest"
	r := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: name,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "share.auto.offset.reset", Value: &earliest}},
	}}
	answer, err := r.RequestWith(ctx, patient{d.client})
	if err == nil {
		for _, one := range answer.Resources {
			err = kerr.ErrorForCode(one.ErrorCode)
		}
	}
	if err != nil {
		return t, apiError("configuring the share group "+name, err)
	}
	return d.makeTopic(ctx, name, options...)
}

// deleteQueue deletes a queue, what is in it, and its group.
func (d *Driver) deleteQueue(ctx context.Context, name string) error {
	_, err := within(ctx, func() (kadm.DeleteTopicResponse, error) { return d.admin.DeleteTopic(ctx, name) })
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return apiError("deleting topic "+name, err)
	}
	if err := d.forget(ctx, name); err != nil {
		return err
	}
	_, err = within(ctx, func() (kadm.DeleteGroupResponse, error) { return d.admin.DeleteGroup(ctx, name) })
	if err != nil && !isAny(err, kerr.GroupIDNotFound, kerr.NonEmptyGroup) { // it may have members that make the queue anew
		return apiError("deleting the share group "+name, err)
	}
	return nil
}
