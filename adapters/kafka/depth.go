package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
)

// A share group knows what of its topic is settled. What is in hand only the leader of the topic
// knows, and tells nobody. So each member says how much it holds, in its heartbeats, in the one
// field that others can read and nothing depends on: its rack.
const heldPrefix = "motif-held-"

// depth is what a queue holds.
type depth struct {
	isUnknown  bool
	isUsed     bool  // somebody has consumed it
	start, end int64 // before start all is settled, and end is that of the topic
	unsettled  int
	held       int // as its members said last
	consumers  int
	tally      tally // of a queue with a single active consumer
}

func (d depth) info(queue string) adapters.QueueInfo {
	if d.isUnknown {
		return adapters.QueueInfo{Name: queue, Ready: -1, Unacked: -1, Consumers: -1}
	}
	held := min(d.held, d.unsettled)
	return adapters.QueueInfo{Name: queue, Ready: d.unsettled - held, Unacked: held, Consumers: d.consumers}
}

// holding is how much the attachment has in hand, or had until a moment ago.
func (at *attachment) holding() int {
	s := at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.held)
	for _, d := range at.done {
		if d.how == ackAccept || d.how == ackReject {
			n++ // the broker does not know it yet
		}
	}
	return n
}

// Queues are asked about so many at once: a broker may have to read what it knows of each. If it
// does not tell in time, nothing is known of those.
const (
	atOnce = 50
	inTime = 5 * time.Second
)

// depths says what queues hold, by their topics: those of them that exist.
func (d *Driver) depths(ctx context.Context, topics []topic) (map[string]depth, error) {
	all := map[string]depth{}
	for some := range slices.Chunk(topics, atOnce) {
		asking, cancel := context.WithTimeout(ctx, inTime)
		err := d.addDepths(asking, all, some)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			for _, t := range some {
				all[t.name] = depth{isUnknown: true}
			}
		case err != nil:
			return nil, apiError("inspecting queues", err)
		}
	}
	return all, nil
}

func (d *Driver) addDepths(ctx context.Context, all map[string]depth, topics []topic) error {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.name
	}
	const earliest, latest = -2, -1
	starts, err := d.offsets(ctx, topics, earliest)
	if err != nil {
		return err
	}
	groups, err := within(ctx, func() (kadm.DescribedShareGroups, error) { return d.admin.DescribeShareGroups(ctx, names...) })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	offsets, err := within(ctx, func() (kadm.DescribedShareGroupsOffsets, error) {
		return d.admin.DescribeShareGroupOffsets(ctx, names...)
	})
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	ends, err := d.offsets(ctx, topics, latest)
	if err != nil {
		return err
	}
	own := d.holding()
	for _, name := range names {
		start, found := starts[name]
		end, foundEnd := ends[name]
		group, of := groups[name], offsets[name]
		o, described := of.Offsets.Lookup(name, 0)
		if !found || !foundEnd || isAny(o.Err, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID) {
			continue // it was deleted meanwhile
		}
		for _, err := range []error{group.Err, of.Err, o.Err} {
			if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
				return err
			}
		}
		q := depth{start: start, end: end, consumers: len(group.Members)}
		q.unsettled = int(max(0, q.end-q.start))
		if described && o.StartOffset >= 0 && o.Lag >= 0 {
			q.isUsed = true
			q.start, q.unsettled = max(q.start, o.StartOffset), int(o.Lag)
		}
		for _, m := range group.Members {
			held, isOwn := own[m.MemberID]
			if !isOwn && m.RackID != nil && strings.HasPrefix(*m.RackID, heldPrefix) {
				held, _ = strconv.Atoi((*m.RackID)[len(heldPrefix):])
			}
			q.held += held
		}
		all[name] = q
	}
	return d.addLines(ctx, all, topics)
}

// offsets asks the leaders of topics where those begin or end. It leaves out those that they do not
// know.
func (d *Driver) offsets(ctx context.Context, topics []topic, which int64) (map[string]int64, error) {
	asks := map[int32]*kmsg.ListOffsetsRequest{}
	for _, t := range topics {
		r := asks[t.leader]
		if r == nil {
			r = kmsg.NewPtrListOffsetsRequest()
			asks[t.leader] = r
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = which
		r.Topics = append(r.Topics, kmsg.ListOffsetsRequestTopic{Topic: t.name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}})
	}
	all := map[string]int64{}
	for leader, r := range asks {
		answered, err := ask(ctx, d.client, leader, r)
		if err != nil {
			return nil, err
		}
		for _, t := range answered.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				err := kerr.ErrorForCode(p.ErrorCode)
				if err == nil {
					all[t.Topic] = p.Offset
				} else if !errors.Is(err, kerr.UnknownTopicOrPartition) {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// holding says how much the members hold that are the driver's own.
func (d *Driver) holding() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	own := map[string]int{}
	for s := range d.subs {
		s.mu.Lock()
		at := s.at
		s.mu.Unlock()
		if at != nil {
			own[at.id] = at.holding()
		}
	}
	return own
}

// depth says what a queue holds.
func (d *Driver) depth(ctx context.Context, t topic) (depth, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	all, what := map[string]depth{}, "inspecting topic "+t.name
	if err := d.addDepths(ctx, all, []topic{t}); err != nil {
		return depth{}, apiError(what, err)
	}
	q, found := all[t.name]
	if !found {
		return q, apiError(what, kerr.UnknownTopicOrPartition)
	}
	return q, nil
}

// stored is what the coordinator of a share group has stored about records that were delivered.
type stored []kmsg.ReadShareGroupStateResponseTopicPartitionStateBatch

// of returns how often a record was delivered, and whether it is settled.
func (s stored) of(offset int64) (deliveries int, isSettled bool) {
	for _, batch := range s {
		if batch.FirstOffset <= offset && offset <= batch.LastOffset {
			const available = 0
			return int(batch.DeliveryCount), batch.DeliveryState != available
		}
	}
	return 0, false
}

// stored asks for that. It is what the leader of a topic asks, too, and takes the same right where
// rights are given.
func (d *Driver) stored(ctx context.Context, t topic) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	what := "asking what of topic " + t.name + " is settled"
	coordinator := kmsg.NewPtrFindCoordinatorRequest()
	coordinator.CoordinatorType = 2 // of share groups
	coordinator.CoordinatorKeys = []string{fmt.Sprintf("%s:%s:0", t.name, base64.RawURLEncoding.EncodeToString(t.id[:]))}
	answer, err := coordinator.RequestWith(ctx, patient{d.client})
	if err != nil {
		return nil, apiError(what, err)
	}
	if len(answer.Coordinators) != 1 {
		return nil, apiError(what, kerr.CoordinatorNotAvailable)
	}
	if err := kerr.ErrorForCode(answer.Coordinators[0].ErrorCode); err != nil {
		return nil, apiError(what, err)
	}
	r := kmsg.NewPtrReadShareGroupStateRequest()
	r.GroupID = t.name
	r.Topics = []kmsg.ReadShareGroupStateRequestTopic{{
		TopicID: t.id, Partitions: []kmsg.ReadShareGroupStateRequestTopicPartition{{LeaderEpoch: t.epoch}}, // another epoch would end the leader's
	}}
	answered, err := ask(ctx, d.client, answer.Coordinators[0].NodeID, r)
	if err != nil {
		return nil, apiError(what, err)
	}
	of := answered.(*kmsg.ReadShareGroupStateResponse).Topics
	if len(of) != 1 || len(of[0].Partitions) != 1 {
		return nil, apiError(what, kerr.UnknownTopicOrPartition)
	}
	if err := kerr.ErrorForCode(of[0].Partitions[0].ErrorCode); err != nil {
		return nil, apiError(what, err)
	}
	return of[0].Partitions[0].StateBatches, nil
}
