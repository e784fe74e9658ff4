package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/motifmq/motif/adapters"
)

// addLines adds what the consumer groups of queues with a single active consumer say of them. A
// queue that a share group has consumed is none of those.
func (d *Driver) addLines(ctx context.Context, all map[string]depth, topics []topic) error {
	byGroup := map[string]string{}
	var groups []string
	for _, t := range topics {
		if q, found := all[t.name]; found && !q.isUsed {
			byGroup[classicGroup(t)] = t.name
			groups = append(groups, classicGroup(t))
		}
	}
	if len(groups) == 0 {
		return nil
	}
	offsets, err := within(ctx, func() (kadm.FetchOffsetsResponses, error) { return d.admin.FetchManyOffsets(ctx, groups...), nil })
	if err != nil {
		return err
	}
	members, err := within(ctx, func() (kadm.DescribedGroups, error) { return d.admin.DescribeGroups(ctx, groups...) })
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return err
	}
	for group, name := range byGroup {
		if err := offsets[group].Err; err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return err
		}
		q := all[name]
		q.consumers += len(members[group].Members)
		if told, ok := offsets[group].Fetched.Lookup(name, 0); ok && told.At >= 0 {
			q.addTally(told.At, parseTally(told.Metadata, told.At))
		}
		all[name] = q
	}
	return nil
}

// addTally adds that all before from is settled, and what a tally says of the rest. What was
// delivered, and not settled, is in somebody's hand, if there is anybody.
func (d *depth) addTally(from int64, t tally) {
	d.start, d.tally = max(d.start, from), t
	d.unsettled = int(max(0, d.end-d.start))
	for _, s := range t {
		begin, end := max(from, d.start), min(s.end, d.end)
		from = s.end
		switch n := int(max(0, end-begin)); {
		case s.count == isSettled:
			d.unsettled -= n
		case s.count > 0 && d.consumers > 0:
			d.held += n
		}
	}
}

// purgeLine drops what waits in a queue with a single active consumer, as long as nobody consumes
// it: what is in somebody's hand could not be told from what waits, and may be given back.
func (d *Driver) purgeLine(ctx context.Context, t topic, q depth) (int, error) {
	inUse := fmt.Errorf("%w: a queue with a single active consumer, while somebody consumes it", adapters.ErrUnsupported)
	if q.consumers > 0 {
		return 0, inUse
	}
	var end kadm.Offsets
	end.AddOffset(t.name, 0, q.end, -1)
	done, err := within(ctx, func() (kadm.OffsetResponses, error) { return d.admin.CommitOffsets(ctx, classicGroup(t), end) })
	if err == nil {
		err = done.Error()
	}
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.RebalanceInProgress): // somebody has just come
		return 0, inUse
	case err != nil:
		return 0, apiError("purge", err)
	}
	return q.unsettled, nil
}
