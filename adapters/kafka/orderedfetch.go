package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// fetch waits a while for records, if none are left of the last time.
func (l *line) fetch(ctx context.Context, busy bool) error {
	if len(l.buffer) > 0 {
		return nil
	}
	s := l.at.sub
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	wait := waitIdle
	if busy {
		wait = waitBusy
	}
	begun := time.Now()
	backoff := kit.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond}
	for {
		err := l.fetchOnce(ctx, wait)
		switch {
		case err == nil, s.life.Err() != nil:
			return nil
		case errors.Is(err, errBehind), time.Since(begun) > sessionTimeout:
			return err
		}
		// It may have another leader, or be gone.
		select {
		case <-time.After(backoff.Next()):
		case <-ctx.Done():
			return cmp.Or(context.Cause(ctx), err)
		}
		if err := l.lookAgain(ctx); err != nil {
			return err
		}
	}
}

// lookAgain looks who leads the topic, and returns an error if it was deleted.
func (l *line) lookAgain(ctx context.Context) error {
	found, err := l.at.d.look(ctx, l.topic.name)
	switch {
	case err == nil && found.id == l.topic.id:
		l.at.topic = found
	case err == nil, errors.Is(err, adapters.ErrNotFound):
		return fmt.Errorf("kafka: %w: queue %q was deleted", adapters.ErrNotFound, l.at.sub.queue)
	}
	return nil // or there is nobody to say so
}

func (l *line) fetchOnce(ctx context.Context, wait time.Duration) error {
	r := kmsg.NewPtrFetchRequest()
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(wait.Milliseconds()), 1, fetchBytes
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = l.next, maxFetch
	r.Topics = []kmsg.FetchRequestTopic{{Topic: l.topic.name, TopicID: l.topic.id, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	answered, err := ask(ctx, l.client, l.at.topic.leader, r)
	if err != nil {
		return err
	}
	answer := answered.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return err
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return nil // nothing has come
	}
	part := &answer.Topics[0].Partitions[0]
	if part.ErrorCode == kerr.OffsetOutOfRange.Code { // somebody else has dropped records
		return l.skip(ctx)
	}
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return err
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: l.next, Topic: l.topic.name}, part, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return got.Err
	}
	l.buffer, l.next = got.Records, max(l.next, next)
	return nil
}

// maxFetch is how many bytes a fetch returns at most, unless one batch has more: they wait here.
const maxFetch = 1 << 20

// skip goes on with the first record that there is.
func (l *line) skip(ctx context.Context) error {
	starts, err := within(ctx, func() (kadm.ListedOffsets, error) { return l.at.d.admin.ListStartOffsets(ctx, l.topic.name) })
	start, found := starts.Lookup(l.topic.name, 0)
	switch {
	case err != nil:
		return err
	case !found || start.Err != nil:
		return cmp.Or(start.Err, error(kerr.OffsetOutOfRange))
	}
	s := l.at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	if start.Offset < l.next {
		if len(l.order) > 0 {
			return errBehind // begin again, with nothing in hand
		}
		l.taken, l.before = start.Offset, nil
	}
	l.next = start.Offset
	return nil
}

var errBehind = errors.New("the broker has lost records that it had delivered")
