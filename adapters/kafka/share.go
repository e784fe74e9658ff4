package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// This file speaks the protocol of share groups (KIP-932), which kgo does for whole groups and
// here has to be done for single messages: how many are fetched is what there is room for.

// How long a fetch waits at the broker for something to come. While it does, nothing that was
// settled gets there, so it is short where something is in hand.
const (
	waitIdle  = 250 * time.Millisecond
	waitBusy  = 100 * time.Millisecond
	waitFirst = 10 * time.Millisecond
)

// fetchBytes is about how much one fetch returns at most, unless one batch has more.
const fetchBytes = 8 << 20

// How a record is acknowledged.
const (
	ackGap int8 = iota // there is none
	ackAccept
	ackRelease
	ackReject
	ackRenew // it is still in hand
)

// settled says what became of a record.
type settled struct {
	offset int64
	how    int8
}

// acquired is a record that the broker has given to a member.
type acquired struct {
	*kgo.Record
	count int // of its deliveries, with this one
}

// member is one of a share group, with a share session at the leader of the one partition. The
// broker ties the session to a connection, and gives back what it holds when that is lost.
type member struct {
	d      *Driver
	client *kgo.Client // for that connection
	topic  topic
	id     string
	epoch  int32 // of the session
	lock   time.Duration

	joined int32 // the member's epoch; it has one goroutine at a time

	holds func() int // how many messages it has in hand; nil if it does not say so
}

// newMember joins the group of a topic, which has its name.
func newMember(ctx context.Context, d *Driver, t topic) (m *member, err error) {
	m = &member{d: d, topic: t, id: newID(), lock: 30 * time.Second}
	if m.client, err = kgo.NewClient(append(d.config.common(), kgo.RequestRetries(0))...); err != nil {
		return nil, fmt.Errorf("kafka: %w: %w", adapters.ErrInvalid, err)
	}
	if err = m.join(ctx); err == nil {
		_, err = within(ctx, func() (any, error) { return nil, m.client.Ping(ctx) }) // and hear of all brokers
	}
	if err != nil {
		m.client.Close()
		return nil, apiError("joining the share group "+t.name, err)
	}
	return m, nil
}

// join waits until the partition is assigned to the member.
func (m *member) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*apiTimeout)
	defer cancel()
	wait := kit.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		answer, err := m.beat(ctx)
		if err == nil && answer.Assignment != nil && len(answer.Assignment.TopicPartitions) > 0 {
			return nil
		}
		if err != nil && !kerr.IsRetriable(err) {
			return err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return cmp.Or(err, ctx.Err())
		}
	}
}

// beat says that the member is alive, and joins when it is new or was forgotten.
func (m *member) beat(ctx context.Context) (*kmsg.ShareGroupHeartbeatResponse, error) {
	r := kmsg.NewPtrShareGroupHeartbeatRequest()
	r.GroupID, r.MemberID, r.MemberEpoch = m.topic.name, m.id, m.joined
	if m.joined == 0 {
		r.SubscribedTopicNames = []string{m.topic.name}
	}
	if m.holds != nil { // so that Inspect can tell
		held := heldPrefix + strconv.Itoa(m.holds())
		r.RackID = &held
	}
	answer, err := r.RequestWith(ctx, patient{m.d.client})
	if err != nil {
		return nil, err
	}
	switch err := kerr.ErrorForCode(answer.ErrorCode); {
	case isAny(err, kerr.UnknownMemberID, kerr.FencedMemberEpoch):
		m.joined = 0
		return answer, nil
	case err != nil:
		return nil, err
	}
	m.joined = answer.MemberEpoch
	return answer, nil
}

// stayAlive has the member say so until the func that it returns is called.
func (m *member) stayAlive(ctx context.Context) (enough func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() { m.beats(ctx) })
	return func() {
		cancel()
		beats.Wait()
	}
}

// beats says so until ctx ends.
func (m *member) beats(ctx context.Context) {
	every := 2 * time.Second
	for {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
		if answer, err := m.beat(ctx); err == nil && answer.HeartbeatIntervalMillis > 0 {
			every = max(time.Duration(answer.HeartbeatIntervalMillis)*time.Millisecond, 100*time.Millisecond)
		}
	}
}

// leave takes the member out of the group.
func (m *member) leave(ctx context.Context) {
	m.joined = -1
	_, _ = m.beat(ctx) // or the broker forgets it
}

// begin fetches for the first time. The first fetch of a cluster has it make a topic of its own,
// before it knows what it has to give.
func (m *member) begin(ctx context.Context, most int) (got []acquired, gaps []settled, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wait := kit.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		got, gaps, err = m.fetch(ctx, most, waitFirst, nil)
		if !kerr.IsRetriable(err) && !errors.Is(err, kerr.UnknownServerError) {
			return got, gaps, err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return nil, nil, err
		}
	}
}

// fetch asks for at most so many records, and says what became of earlier ones.
func (m *member) fetch(ctx context.Context, most int, wait time.Duration, done []settled) (got []acquired, gaps []settled, err error) {
	r := kmsg.NewPtrShareFetchRequest()
	r.GroupID, r.MemberID, r.ShareSessionEpoch = &m.topic.name, &m.id, m.epoch
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(wait.Milliseconds()), 1, fetchBytes
	r.MaxRecords, r.BatchSize, r.ShareAcquireMode = int32(most), int32(most), 1 // not a record more
	if m.epoch == 0 || len(done) > 0 {
		p := kmsg.NewShareFetchRequestTopicPartition()
		p.PartitionMaxBytes = fetchBytes
		for _, run := range runs(done) {
			p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch(run))
		}
		r.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: m.topic.id, Partitions: []kmsg.ShareFetchRequestTopicPartition{p}}}
	}
	answered, err := ask(ctx, m.client, m.topic.leader, r)
	if err != nil {
		return nil, nil, err
	}
	answer := answered.(*kmsg.ShareFetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return nil, nil, err
	}
	m.epoch = next(m.epoch)
	if answer.AcquisitionLockTimeoutMillis > 0 {
		m.lock = time.Duration(answer.AcquisitionLockTimeoutMillis) * time.Millisecond
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := cmp.Or(kerr.ErrorForCode(p.ErrorCode), kerr.ErrorForCode(p.AcknowledgeErrorCode)); err != nil {
				return nil, nil, err
			}
			if got, gaps, err = m.decode(&p); err != nil {
				return nil, nil, err
			}
		}
	}
	return got, gaps, nil
}

// decode returns the records that were acquired, and where there are none.
func (m *member) decode(p *kmsg.ShareFetchResponseTopicPartition) (got []acquired, gaps []settled, err error) {
	classic := kmsg.NewFetchResponseTopicPartition()
	classic.RecordBatches = p.Records
	all, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: m.topic.name}, &classic, kgo.DefaultDecompressor(), nil)
	if all.Err != nil {
		return nil, nil, all.Err
	}
	records := all.Records
	for _, a := range p.AcquiredRecords {
		for offset := a.FirstOffset; offset <= a.LastOffset; offset++ {
			for len(records) > 0 && records[0].Offset < offset {
				records = records[1:]
			}
			if len(records) == 0 || records[0].Offset > offset {
				gaps = append(gaps, settled{offset, ackGap})
				continue
			}
			got = append(got, acquired{records[0], int(a.DeliveryCount)})
		}
	}
	return got, gaps, nil
}

// acknowledge says what became of records, and ends the session if it is the last time: then all
// that is held goes back.
func (m *member) acknowledge(ctx context.Context, done []settled, last bool) error {
	if m.epoch == 0 {
		return nil // there is no session
	}
	r := kmsg.NewPtrShareAcknowledgeRequest()
	r.GroupID, r.MemberID, r.ShareSessionEpoch = &m.topic.name, &m.id, m.epoch
	if last {
		r.ShareSessionEpoch = -1
	}
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	for _, run := range runs(done) {
		r.IsRenewAck = r.IsRenewAck || run.AcknowledgeTypes[0] == ackRenew
		p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch(run))
	}
	if len(done) > 0 {
		r.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: m.topic.id, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{p}}}
	}
	answered, err := ask(ctx, m.client, m.topic.leader, r)
	if err != nil {
		return err
	}
	answer := answered.(*kmsg.ShareAcknowledgeResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return err
	}
	m.epoch = next(m.epoch)
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// trim drops what is before the first record that is not settled: the broker keeps it, else.
func (m *member) trim(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout/3)
	defer cancel()
	all, err := within(ctx, func() (kadm.DescribedShareGroupsOffsets, error) {
		return m.d.admin.DescribeShareGroupOffsets(ctx, m.topic.name)
	})
	if err != nil {
		return // or the next time
	}
	var drop kadm.Offsets
	for _, group := range all {
		for _, parts := range group.Offsets {
			for _, o := range parts {
				if o.Topic == m.topic.name && o.StartOffset > 0 {
					drop.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.StartOffset, LeaderEpoch: -1})
				}
			}
		}
	}
	if len(drop) > 0 {
		m.d.drop(ctx, drop)
	}
}

// next returns the epoch after one: 0 and -1 mean something else.
func next(epoch int32) int32 { return max(1, epoch+1) }

// run is what became of records that follow each other.
type run kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch

func runs(done []settled) (all []run) {
	slices.SortFunc(done, func(a, b settled) int { return cmp.Compare(a.offset, b.offset) })
	for _, s := range done {
		if n := len(all) - 1; n >= 0 && all[n].LastOffset == s.offset-1 && all[n].AcknowledgeTypes[0] == s.how {
			all[n].LastOffset = s.offset
		} else {
			all = append(all, run{FirstOffset: s.offset, LastOffset: s.offset, AcknowledgeTypes: []int8{s.how}})
		}
	}
	return all
}
