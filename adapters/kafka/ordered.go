package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
)

const (
	// maxAhead is how many records may be delivered behind one that is in hand, or the prefetch:
	// all are remembered until it is settled.
	maxAhead = 2000

	// tellEvery is how often at most the broker is told what was settled, if nothing else is to be
	// told.
	tellEvery = 100 * time.Millisecond
)

// line is an attachment to a queue of which one consumer is active. Its goroutine is that of
// subscription.run, but for its beats.
type line struct {
	*classic
	at *attachment

	resumed bool          // next is known
	next    int64         // which record is to be fetched
	buffer  []*kgo.Record // that were fetched, and have no place yet
	before  tally         // of those who were active before
	told    time.Time     // when something was committed last
	kept    int64         // what was committed last
	trimmed int64
	trims   time.Time

	// Guarded by the subscription's mutex:
	order []*place // from the first that is not settled on
	taken int64    // the offset behind the last that has, or had, a place
	news  bool     // there is something to commit,
	fresh int      // and so many places, the last ones, wait for that
}

// place is that of a record in the order.
type place struct {
	record *kgo.Record
	h      *delivery // as it is delivered; nil if it is settled or was given back
	count  int       // of deliveries, with that one, or isSettled
}

var (
	_ adapters.Returner        = (*subscription)(nil)
	_ adapters.ConsumerCounter = (*subscription)(nil)
)

// isOrdered reports whether a queue has a single active consumer.
func (s *subscription) isOrdered(ctx context.Context, t topic) (bool, error) {
	if !s.source.Passive || s.source.Private() {
		return s.source.Queue.SingleActive, nil
	}
	spec, err := s.d.spec(ctx, s.queue, t, nil)
	return spec.SingleActive, err
}

// attachInLine begins to consume, or to wait for it.
func (s *subscription) attachInLine(ctx context.Context, t topic, letters string) (*attachment, error) {
	s.mu.Lock()
	former := ""
	if s.at != nil && s.at.line != nil {
		former, _ = s.at.line.asMember()
	}
	s.mu.Unlock()
	m, err := newClassic(ctx, s.d, t, former)
	if err != nil {
		return nil, err
	}
	at := &attachment{member: &member{d: s.d, client: m.client, topic: t}, sub: s, letters: letters}
	at.line = &line{classic: m, at: at, trims: time.Now()}
	at.ctx, at.end = context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.at = at
	s.mu.Unlock()
	return at, nil
}

// expired reports whether what is in hand may be another's by now. A share group's is told so.
func (at *attachment) expired() bool { return at.line != nil && at.line.isOver() }

// StopAndReturn implements [adapters.Returner], for queues with a single active consumer.
func (s *subscription) StopAndReturn() error {
	s.mu.Lock()
	at := s.at
	if at == nil || at.line == nil {
		s.mu.Unlock()
		return fmt.Errorf("kafka: %w: giving back in order what a share group has delivered", adapters.ErrUnsupported)
	}
	s.returning = true
	s.mu.Unlock()
	s.finish(adapters.ErrStopped)
	s.signal()
	select {
	case <-s.gone:
	case <-s.d.tasks.Closed():
	}
	return nil
}

// Consumers implements [adapters.ConsumerCounter], for queues with a single active consumer.
func (s *subscription) Consumers() int {
	s.mu.Lock()
	at := s.at
	s.mu.Unlock()
	if at.line == nil {
		return 0
	}
	return at.line.count()
}

// consume consumes while this is the active consumer, and else waits until it is.
func (l *line) consume(ctx context.Context) error {
	s := l.at.sub
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	beating, enough := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() {
		if err := l.beats(beating, s.signal); beating.Err() == nil {
			lose(err)
		}
	})
	defer beats.Wait()
	defer enough()
	err := l.work(ctx)
	if lost := context.Cause(ctx); lost != nil {
		return lost
	}
	if err != nil {
		return err
	}
	enough()
	beats.Wait()
	leaving, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	id, _ := l.asMember()
	l.leave(leaving, id)
	l.trim(leaving)
	return nil
}

// work fetches and commits until the subscription is over, or returns why it cannot.
func (l *line) work(ctx context.Context) error {
	s := l.at.sub
	for {
		if !l.resumed && l.isActive() {
			if err := l.resume(ctx); err != nil {
				return err
			}
		}
		t := l.due()
		if t.stopped {
			s.stop()
		}
		if t.commits {
			err := l.tell(ctx, t)
			if errors.Is(err, errLater) {
				select {
				case <-time.After(20 * time.Millisecond):
				case <-ctx.Done():
				}
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			continue
		}
		if t.over {
			return nil
		}
		if time.Since(l.trims) > trimEvery {
			l.trim(ctx)
			if err := l.lookAgain(ctx); err != nil { // also of who waits, or has no room
				return err
			}
		}
		if t.room > 0 {
			if err := l.fetch(ctx, t.busy); err != nil {
				return err
			}
			l.take()
			continue
		}
		select {
		case <-s.wake:
		case <-time.After(max(t.wait, time.Millisecond)):
		case <-s.d.tasks.Closed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tidings are what a line has to do next.
type tidings struct {
	commits bool
	offset  int64
	text    string

	room    int
	busy    bool          // there is something to commit, or may be soon
	wait    time.Duration // for nothing to happen
	stopped bool
	over    bool
}

// due returns what is to be done.
func (l *line) due() (t tidings) {
	s := l.at.sub
	t.stopped = s.why() != nil
	isClosed := s.d.tasks.IsClosed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.stopped {
		l.giveBack(isClosed || s.returning)
	}
	for len(l.order) > 0 && l.order[0].count == isSettled {
		l.order = l.order[1:]
	}
	l.fresh = min(l.fresh, len(l.order))
	t.over = t.stopped && len(s.held) == 0
	t.wait = trimEvery
	if l.news && l.resumed {
		t.wait = tellEvery - time.Since(l.told)
		t.commits = t.wait <= 0 || l.fresh > 0 || t.stopped
	}
	t.busy = l.news || len(s.held) > 0
	if t.commits {
		l.news = false
		t.offset, t.text = l.first(), l.tally().text(l.first())
		return t
	}
	if !t.stopped && l.resumed {
		t.room = l.room()
	}
	return t
}

// first returns from where on not all is settled. The subscription's mutex is held, here and below
// where nothing else is said.
func (l *line) first() int64 {
	if len(l.order) > 0 {
		return l.order[0].record.Offset
	}
	return l.taken
}

// room returns how many more records may have a place.
func (l *line) room() int {
	s := l.at.sub
	return min(s.source.Prefetch-len(s.held), max(maxAhead, s.source.Prefetch)-len(l.order))
}

// tally returns what is known of all from first on.
func (l *line) tally() (t tally) {
	for _, p := range l.order {
		t.add(p.record.Offset+1, p.count)
	}
	for _, before := range l.before {
		if before.end > l.taken {
			t.add(before.end, before.count)
		}
	}
	return t
}

// giveBack gives back what was not received, and all, if it is to.
func (l *line) giveBack(all bool) {
	s := l.at.sub
	waits := map[*delivery]bool{}
	for _, h := range s.ready {
		waits[h] = true
	}
	fresh := len(l.order) - l.fresh
	s.ready, l.fresh = nil, 0
	for i, p := range l.order {
		switch {
		case p.h == nil:
			continue
		case i >= fresh || waits[p.h]: // it is as if it had not been delivered
			p.count--
		case !all:
			continue
		}
		delete(s.held, p.h)
		p.h = nil
		l.news = true
	}
	l.at.lost = l.at.lost || all
}

// settle is for a delivery that is settled.
func (l *line) settle(h *delivery, how int8) {
	s := l.at.sub
	l.news = true
	i, found := slices.BinarySearchFunc(l.order, h.record.Offset, func(p *place, offset int64) int { return cmp.Compare(p.record.Offset, offset) })
	if !found {
		return // it cannot be
	}
	p := l.order[i]
	p.h = nil
	switch {
	case how != ackRelease:
		p.count = isSettled
	case s.err == nil: // else it is the next active consumer's
		p.count++
		p.h = l.deliver(p)
		i, _ := slices.BinarySearchFunc(s.ready, h.record.Offset, func(h *delivery, offset int64) int { return cmp.Compare(h.record.Offset, offset) })
		s.ready = slices.Insert(s.ready, i, p.h)
		s.come.Signal()
	}
}

// deliver returns a record as it is delivered. Whoever gets it may change it, and it may come
// again.
func (l *line) deliver(p *place) *delivery {
	r := *p.record
	r.Value = slices.Clone(r.Value)
	h := &delivery{at: l.at, record: acquired{&r, p.count}}
	h.envelope, h.metadata = decode(&r)
	l.at.sub.held[h] = struct{}{}
	return h
}

// take gives records of the buffer their places, as many as there is room for.
func (l *line) take() {
	s := l.at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(l.buffer) > 0 && l.room() > 0 && s.err == nil; l.buffer = l.buffer[1:] {
		p := &place{record: l.buffer[0], count: l.before.of(l.buffer[0].Offset)}
		l.order = append(l.order, p)
		l.taken = p.record.Offset + 1
		l.news = true
		l.fresh++
		if p.count != isSettled {
			p.count++
			p.h = l.deliver(p)
		}
	}
	for len(l.before) > 0 && l.before[0].end <= l.taken {
		l.before = l.before[1:]
	}
}

// The mutex is not held from here on.

// tell commits, and makes ready what waited for that.
func (l *line) tell(ctx context.Context, t tidings) error {
	s := l.at.sub
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	err := l.commit(ctx, t.offset, t.text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		l.news = true
		return err
	}
	l.told, l.kept = time.Now(), t.offset
	for _, p := range l.order[len(l.order)-l.fresh:] {
		if p.h != nil {
			s.ready = append(s.ready, p.h)
			s.come.Signal()
		}
	}
	l.fresh = 0
	return nil
}

// resume begins where the one that was active before had got to.
func (l *line) resume(ctx context.Context) error {
	all, err := within(ctx, func() (kadm.OffsetResponses, error) { return l.at.d.admin.FetchOffsets(ctx, l.group) })
	if err != nil {
		return apiError("reading the offset of group "+l.group, err)
	}
	if o, found := all.Lookup(l.topic.name, 0); found && o.Err != nil {
		return apiError("reading the offset of group "+l.group, o.Err)
	} else if found && o.At >= 0 {
		l.next, l.before = o.At, parseTally(o.Metadata, o.At)
	}
	l.kept, l.trimmed = l.next, l.next
	l.resumed = true
	l.at.sub.mu.Lock()
	l.taken = l.next
	l.at.sub.mu.Unlock()
	return nil
}

// trim drops what is before the first record that is not settled, as far as that is committed.
func (l *line) trim(ctx context.Context) {
	l.trims = time.Now()
	if l.kept <= l.trimmed {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout/3)
	defer cancel()
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: l.topic.name, At: l.kept, LeaderEpoch: -1})
	l.at.d.drop(ctx, before)
	l.trimmed = l.kept
}
