package kafka

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// afterHeader is the header of what is written to the log of an exchange: which revision it is to
// replace.
const afterHeader = "motif-after"

// nameHeader is the header that has the name of an exchange whose topic is named by its hash.
const nameHeader = "motif-name"

// trimAfter is how many records the log of an exchange may have before they are dropped but for the
// last one that counts.
const trimAfter = 64

// records keeps the bindings of an exchange in a topic of its own. Kafka does not compare and set,
// but it orders what is written: a record counts if the last one before it that does is the one
// that its writer had seen. All readers come to the same result, and the writer is one of them.
type records struct{ d *Driver }

// ledger is the log of an exchange, as far as it was read.
type ledger struct {
	busy chan struct{} // of one, for whoever reads or writes
	reading
}

// reading is what was read of a log.
type reading struct {
	topic    topic
	from     int64 // the first offset that was read
	next     int64
	revision uint64 // the offset of the last record that counts, and one
	record   []byte
	name     string // of the exchange, if the topic's is a hash
}

func (r records) ledger(ctx context.Context, exchange string) (*ledger, error) {
	d := r.d
	d.mu.Lock()
	l := d.ledgers[exchange]
	if l == nil {
		l = &ledger{busy: make(chan struct{}, 1)}
		d.ledgers[exchange] = l
	}
	d.mu.Unlock()
	select {
	case l.busy <- struct{}{}:
		return l, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("kafka: bindings: %w", ctx.Err())
	case <-d.tasks.Closed():
		return nil, adapters.ErrClosed
	}
}

// Load implements [kit.Records].
func (r records) Load(ctx context.Context, exchange string) ([]byte, uint64, error) {
	ctx, cancel := r.d.bound(ctx)
	defer cancel()
	l, err := r.ledger(ctx, exchange)
	if err != nil {
		return nil, 0, err
	}
	defer func() { <-l.busy }()
	if _, err = r.d.catchUp(ctx, l, exchangeTopic(exchange), 0); errors.Is(err, adapters.ErrNotFound) {
		return nil, 0, nil
	}
	return l.record, l.revision, err
}

// Store implements [kit.Records].
func (r records) Store(ctx context.Context, exchange string, record []byte, revision uint64) error {
	ctx, cancel := r.d.bound(ctx)
	defer cancel()
	l, err := r.ledger(ctx, exchange)
	if err != nil {
		return err
	}
	defer func() { <-l.busy }()
	name := exchangeTopic(exchange)
	t, err := r.d.known(ctx, name)
	if errors.Is(err, adapters.ErrNotFound) {
		t, err = r.d.makeTopic(ctx, name)
	}
	if err != nil {
		return err
	}
	written := &kgo.Record{Topic: name, Value: record, Headers: []kgo.RecordHeader{{Key: afterHeader, Value: []byte(after(t.id, revision))}}}
	if strings.HasPrefix(token(exchange), hashed) {
		written.Headers = append(written.Headers, kgo.RecordHeader{Key: nameHeader, Value: []byte(exchange)})
	}
	if err := r.d.produce(ctx, written); err != nil {
		_, _ = r.d.look(ctx, name) // it may be gone, which the next one then finds out
		return err
	}
	counts, err := r.d.catchUp(ctx, l, name, written.Offset+1)
	if err == nil && !counts {
		err = kit.ErrChanged
	}
	if err == nil && written.Offset-l.from > trimAfter {
		var drop kadm.Offsets
		drop.Add(kadm.Offset{Topic: name, At: written.Offset, LeaderEpoch: -1})
		r.d.drop(ctx, drop)
	}
	return err
}

// drop drops what is before some offsets. If it cannot, the next one does.
func (d *Driver) drop(ctx context.Context, before kadm.Offsets) {
	_, _ = within(ctx, func() (kadm.DeleteRecordsResponses, error) { return d.admin.DeleteRecords(ctx, before) })
}

// after says which revision a record replaces. A topic that was made anew has none of those before.
func after(id kadm.TopicID, revision uint64) string {
	return base64.RawURLEncoding.EncodeToString(id[:]) + ":" + strconv.FormatUint(revision, 10)
}

// catchUp reads a log as far as it is now, as its leader has it, and at least up to an offset. It
// reports whether the record before that offset counts. The error is ErrNotFound only if there is
// no log: a leader that lags does not know it either, at first.
func (d *Driver) catchUp(ctx context.Context, l *ledger, name string, to int64) (counts bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	find := d.known
	wait := kit.Backoff{Min: 2 * time.Millisecond, Max: 200 * time.Millisecond}
	for try := 0; ; try++ {
		t, err := find(ctx, name)
		if errors.Is(err, adapters.ErrNotFound) {
			return false, err
		}
		if err == nil {
			if t.id != l.topic.id {
				l.reading = reading{}
			}
			l.topic = t
			counts, err = d.readLog(ctx, l, to)
			if err == nil {
				return counts, nil
			}
		}
		lags := errors.Is(err, adapters.ErrNotFound)
		if lags {
			err = fmt.Errorf("kafka: reading topic %s: %w: its leader does not know it", name, adapters.ErrUnavailable)
		}
		if ctx.Err() != nil || try > 2 && !lags {
			return false, err
		}
		find = d.look
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
		}
	}
}

func (d *Driver) readLog(ctx context.Context, l *ledger, to int64) (counts bool, err error) {
	for {
		got, err := d.fetchFrom(ctx, l.topic, l.next)
		if errors.Is(err, kerr.OffsetOutOfRange) { // it was trimmed
			starts, failed := within(ctx, func() (kadm.ListedOffsets, error) { return d.admin.ListStartOffsets(ctx, l.topic.name) })
			start, found := starts.Lookup(l.topic.name, 0)
			if failed != nil || !found || start.Err != nil || start.Offset == l.next {
				return false, apiError("reading topic "+l.topic.name, cmp.Or(failed, start.Err, error(kerr.OffsetOutOfRange)))
			}
			l.reading = reading{topic: l.topic, from: start.Offset, next: start.Offset}
			continue
		}
		if err != nil {
			return false, err
		}
		for _, rec := range got.records {
			if !l.takes(rec) {
				continue
			}
			l.record, l.revision = rec.Value, uint64(rec.Offset)+1
			l.name = headerOf(rec, nameHeader)
			counts = counts || rec.Offset == to-1
		}
		l.next = max(l.next, got.next)
		if l.next >= got.end && l.next >= to {
			return counts, nil
		}
		if err := ctx.Err(); err != nil {
			return false, apiError("reading topic "+l.topic.name, err)
		}
	}
}

// fetched is a part of a topic.
type fetched struct {
	records   []*kgo.Record
	next, end int64 // where the next part begins, and the topic ends
}

// fetchFrom reads a topic from an offset on, as its leader has it, and consumes nothing.
func (d *Driver) fetchFrom(ctx context.Context, t topic, offset int64) (f fetched, err error) {
	what := "reading topic " + t.name
	r := kmsg.NewPtrFetchRequest()
	r.MaxWaitMillis, r.MinBytes = 0, 0
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, 16<<20
	r.Topics = []kmsg.FetchRequestTopic{{Topic: t.name, TopicID: t.id, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	answered, err := ask(ctx, d.client, t.leader, r)
	if err != nil {
		return f, apiError(what, err)
	}
	answer := answered.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return f, apiError(what, err)
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return f, apiError(what, kerr.UnknownTopicOrPartition)
	}
	part := &answer.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return f, apiError(what, err)
	}
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: t.name}, part, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return f, apiError(what, got.Err)
	}
	return fetched{got.Records, next, part.HighWatermark}, nil
}

// takes reports whether a record counts. The first that is left of a log that was trimmed does, or
// it would not have been trimmed there.
func (l *ledger) takes(r *kgo.Record) bool {
	if r.Offset > 0 && r.Offset == l.from {
		return true
	}
	return headerOf(r, afterHeader) == after(l.topic.id, l.revision)
}

// headerOf returns the first header of a name, or "".
func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
