package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// This file speaks the protocol of classic consumer groups. Each queue with a single active
// consumer has one, whose members are the queue's subscriptions, and who has the one partition is
// active. kgo does this for whole clients, but keeps from us in which generation something is, and
// when the broker last heard of us, by which a member knows that it was given up.

const (
	// sessionTimeout is after how long the broker gives up a member that it does not hear of.
	// Brokers allow 6 s to 30 min by default (group.min.session.timeout.ms and max).
	sessionTimeout = 10 * time.Second

	// beatEvery is how often a member says that it is there, and hears that others have come or
	// gone.
	beatEvery = 500 * time.Millisecond
	beatTime  = 2 * time.Second // for an answer

	classicType     = "consumer"
	classicProtocol = "motif-single-active"
)

var (
	errExpired = errors.New("the broker has not heard of this consumer for longer than its session lasts")
	errMoved   = errors.New("another consumer has become the active one")
	errLater   = errors.New("the group is choosing its active member")
)

// classic is a member of a group.
type classic struct {
	client *kgo.Client // its own: who waits to join keeps a connection busy
	topic  topic
	group  string
	came   int64 // when, of those who came in one generation

	mu         sync.Mutex
	id         string
	generation int32
	since      int32     // the first generation that it was in, or 0
	active     bool      // it has the partition
	members    int       // of the group
	joining    time.Time // when it asked to, and nobody waits for its heartbeats; zero if it does not
	alive      time.Time // when the last heartbeat was sent that the broker answered
}

// classicGroup is the group of a topic. One that is made anew is not to begin where the group of
// the one before was.
func classicGroup(t topic) string { return t.name + "-" + t.id.String() }

// newClassic joins the group of a topic. A former member that is nobody any more leaves it.
func newClassic(ctx context.Context, d *Driver, t topic, former string) (*classic, error) {
	m := &classic{topic: t, group: classicGroup(t), came: time.Now().UnixMicro()}
	var err error
	if m.client, err = kgo.NewClient(d.config.common()...); err != nil {
		return nil, fmt.Errorf("kafka: %w: %w", adapters.ErrInvalid, err)
	}
	if former != "" {
		brief, cancel := context.WithTimeout(ctx, beatTime)
		m.leave(brief, former)
		cancel()
	}
	if err = m.join(ctx); err != nil {
		m.client.Close()
		what := "joining the consumer group " + m.group
		if isAny(err, kerr.InvalidSessionTimeout, kerr.InconsistentGroupProtocol, kerr.GroupMaxSizeReached, kerr.InvalidGroupID) {
			return nil, fmt.Errorf("kafka: %s: %w: %w", what, adapters.ErrInvalid, err)
		}
		return nil, apiError(what, err)
	}
	return m, nil
}

// join takes part in a new generation, and returns when it is known who is active.
func (m *classic) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*sessionTimeout)
	defer cancel()
	defer m.set(func() { m.joining = time.Time{} })
	wait := kit.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		answer, err := m.askToJoin(ctx)
		if err == nil {
			err = m.sync(ctx, answer)
		}
		if err == nil || !kerr.IsRetriable(err) && !isAny(err, kerr.MemberIDRequired, kerr.RebalanceInProgress) {
			return err
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return err
		}
	}
}

func (m *classic) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// asMember returns what a request of the member says.
func (m *classic) asMember() (id string, generation int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id, m.generation
}

// askToJoin returns who is in the next generation.
func (m *classic) askToJoin(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.ProtocolType = m.group, classicType
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = int32(sessionTimeout.Milliseconds()), int32(sessionTimeout.Milliseconds())
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = classicProtocol
	m.set(func() {
		r.MemberID, m.joining = m.id, time.Now()
		said := kmsg.NewConsumerMemberMetadata()
		said.Version, said.Topics, said.Generation = 2, []string{m.topic.name}, m.generation
		said.UserData = fmt.Appendf(nil, "%d %d", m.since, m.came)
		if m.active {
			said.OwnedPartitions = []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: m.topic.name, Partitions: []int32{0}}}
		}
		p.Metadata = said.AppendTo(nil)
	})
	r.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	answer, err := r.RequestWith(ctx, patient{m.client})
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err == nil || isAny(err, kerr.MemberIDRequired) {
		m.set(func() { m.id = answer.MemberID })
	}
	return answer, err
}

// sync hears whether the member is active. If the broker has made it the leader, it says who is.
func (m *classic) sync(ctx context.Context, joined *kmsg.JoinGroupResponse) error {
	r := kmsg.NewPtrSyncGroupRequest()
	kind, protocol := classicType, classicProtocol
	r.Group, r.Generation, r.MemberID, r.ProtocolType, r.Protocol = m.group, joined.Generation, joined.MemberID, &kind, &protocol
	if joined.LeaderID == joined.MemberID {
		r.GroupAssignment = m.assign(joined.Members)
	}
	sent := time.Now()
	answer, err := r.RequestWith(ctx, patient{m.client})
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return err
	}
	var said kmsg.ConsumerMemberAssignment
	if err := said.ReadFrom(answer.MemberAssignment); err != nil {
		return fmt.Errorf("what the group's leader says: %w", err)
	}
	m.set(func() {
		m.generation, m.since, m.alive = joined.Generation, cmp.Or(m.since, joined.Generation), sent
		m.active = len(said.Topics) > 0
		m.members, _ = strconv.Atoi(string(said.UserData)) // 0 is not known
	})
	return nil
}

// assign gives the partition to the active member.
func (m *classic) assign(members []kmsg.JoinGroupResponseMember) (all []kmsg.SyncGroupRequestGroupAssignment) {
	active := chooseActive(members)
	for _, member := range members {
		one := kmsg.NewSyncGroupRequestGroupAssignment()
		said := kmsg.NewConsumerMemberAssignment()
		said.UserData = strconv.AppendInt(nil, int64(len(members)), 10)
		if member.MemberID == active {
			said.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: m.topic.name, Partitions: []int32{0}}}
		}
		one.MemberID, one.MemberAssignment = member.MemberID, said.AppendTo(nil)
		all = append(all, one)
	}
	return all
}

// chooseActive returns who is active: who was, or who has waited for longest. That is told by
// generations, so that clocks decide only between those who came in the same one.
func chooseActive(members []kmsg.JoinGroupResponseMember) string {
	type candidate struct {
		id    string
		owner int32 // the generation in which it was active, or -1
		since int32
		came  int64
	}
	var all []candidate
	for _, member := range members {
		c := candidate{id: member.MemberID, owner: -1, came: math.MaxInt64}
		var said kmsg.ConsumerMemberMetadata
		if said.ReadFrom(member.ProtocolMetadata) == nil {
			_, _ = fmt.Sscan(string(said.UserData), &c.since, &c.came) // else it comes last
			if len(said.OwnedPartitions) > 0 {
				c.owner = said.Generation
			}
		}
		if c.since <= 0 {
			c.since = math.MaxInt32 // it is new
		}
		all = append(all, c)
	}
	return slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.owner, a.owner), cmp.Compare(a.since, b.since), cmp.Compare(a.came, b.came), cmp.Compare(a.id, b.id))
	}).id
}

// beats keeps up the membership until ctx ends or it is over, and returns why. changed is called
// when the group has another generation.
func (m *classic) beats(ctx context.Context, changed func()) error {
	for {
		select {
		case <-time.After(beatEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
		if m.isOver() {
			return errExpired
		}
		err := m.beat(ctx)
		switch {
		case isAny(err, kerr.RebalanceInProgress):
			before := m.isActive()
			if err := m.join(ctx); err != nil {
				return err
			}
			if before && !m.isActive() {
				return errMoved
			}
			changed()
		case isAny(err, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.GroupAuthorizationFailed):
			return err
		} // another one is no answer: there may be one before the session is over
	}
}

func (m *classic) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group = m.group
	r.MemberID, r.Generation = m.asMember()
	sent := time.Now()
	answer, err := r.RequestWith(ctx, patient{m.client})
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err == nil {
		m.set(func() { m.alive = sent })
	}
	return err
}

func (m *classic) isActive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active
}

// count returns how many members the group has, or 0.
func (m *classic) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members
}

// isOver reports whether the broker may have given up the member, which then is one no more: also
// before it has heard of it, as after its process stood still.
func (m *classic) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.joining.IsZero() { // it has as long as the broker waits for others
		return time.Since(m.joining) > sessionTimeout+beatTime
	}
	return time.Since(m.alive) > sessionTimeout
}

// commit stores where the next active member is to begin, and what it has to know. It returns
// errLater if that cannot be stored now, and another error if the member is none any more.
func (m *classic) commit(ctx context.Context, offset int64, text string) error {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group = m.group
	r.MemberID, r.Generation = m.asMember()
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, &text
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: m.topic.name, TopicID: m.topic.id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	answer, err := r.RequestWith(ctx, patient{m.client})
	if err != nil {
		return err
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			err = cmp.Or(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if isAny(err, kerr.RebalanceInProgress) ||
		isAny(err, kerr.IllegalGeneration) && (!m.joining.IsZero() || m.generation != r.Generation) { // that of another one was begun
		return errLater
	}
	return err
}

// leave takes a member out of the group.
func (m *classic) leave(ctx context.Context, id string) {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group, r.MemberID = m.group, id
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = id
	r.Members = []kmsg.LeaveGroupRequestMember{one}
	_, _ = r.RequestWith(ctx, patient{m.client}) // or the broker gives it up
}
