package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Delays are made by a ladder of topics. In the one called n all records wait equally long, for
// rungLength(n), so that they are due in their order, and whoever waits for the first waits for no
// later one. Then a record is written to the longest rung that what is left of its delay has room
// for, and in the end to its destination.
//
// Movers do that: one for each rung in each driver that has published with a delay, or has found
// that others did. They are members of a share group, so that each record is one mover's, and
// another one's when that dies. A record is settled in its rung once it is written where it goes
// next. So it may be written twice, and is never lost.
const (
	delayPrefix  = "motif-delay-" // a rung, and the share group of its movers
	rungs        = 10
	shortestRung = 100 * time.Millisecond
)

const (
	lookForRungs = 30 * time.Second // whether others have delayed something
	firstLook    = 5 * time.Second
	moveAtOnce   = 100                     // how many records a mover has in hand at most
	moveAgain    = 1600 * time.Millisecond // after this, what could not be written to its destination
	mostRefusals = 5                       // by its destination, before a message goes to dead letters
)

// rungLength is how long a record waits in a rung: four times as long as in the one before. One
// that is to wait for longer than in the last comes to the last again.
func rungLength(n int) time.Duration { return shortestRung << (2 * n) }

// rungFor returns the longest rung that so long a delay has room for.
func rungFor(left time.Duration) int {
	n := 0
	for n < rungs-1 && rungLength(n+1) <= left {
		n++
	}
	return n
}

func rungTopic(n int) string { return fmt.Sprint(delayPrefix, n) }

// makeRung makes a rung, unless it exists. Its records have the broker's time: that is when their
// wait begins, whatever the clocks of those who write.
func (d *Driver) makeRung(ctx context.Context, n int) (topic, error) {
	return d.makeQueue(ctx, rungTopic(n), "message.timestamp.type", "LogAppendTime")
}

// routeDelayed returns where what is delayed waits.
func (d *Driver) routeDelayed(ctx context.Context, p *adapters.Publication) (targets []target, err error) {
	switch {
	case p.To.Kind == adapters.Exchange: // it has to exist
		_, err = d.routes.Route(ctx, p.To, p.Key)
	case p.To.Kind.IsExchange():
		err = d.routes.Declare(ctx, p.To)
	}
	if err == nil {
		err = d.useRung(ctx, rungFor(p.Delay))
	}
	if err != nil {
		return nil, err
	}
	return []target{{topic: rungTopic(rungFor(p.Delay))}}, nil
}

// useRung makes a rung exist, and has this driver move what is in it.
func (d *Driver) useRung(ctx context.Context, n int) error {
	_, err := d.known(ctx, rungTopic(n))
	if errors.Is(err, adapters.ErrNotFound) {
		_, err = d.makeRung(ctx, n)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	if d.moves[n] == nil {
		l := newLink("delay")
		d.moves[n] = l
		d.tasks.Go(func() { d.move(n, l) })
	}
	d.mu.Unlock()
	return nil
}

// lookForDelayed has this driver move what others have delayed, until it is closed.
func (d *Driver) lookForDelayed() {
	ctx, cancel := d.bound(context.Background())
	defer cancel()
	for next := firstLook; ; next = lookForRungs {
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
		for _, n := range d.fullRungs(ctx) {
			_ = d.useRung(ctx, n) // or the next time
		}
	}
}

// fullRungs returns the rungs in which something may wait, as far as that is known.
func (d *Driver) fullRungs(ctx context.Context) (full []int) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var names []string
	for n := range rungs {
		names = append(names, rungTopic(n))
	}
	starts, err := within(ctx, func() (kadm.ListedOffsets, error) { return d.admin.ListStartOffsets(ctx, names...) })
	if err != nil {
		return nil
	}
	ends, err := within(ctx, func() (kadm.ListedOffsets, error) { return d.admin.ListEndOffsets(ctx, names...) })
	if err != nil {
		return nil
	}
	for n, name := range names {
		start, isThere := starts.Lookup(name, 0)
		end, _ := ends.Lookup(name, 0)
		if isThere && start.Err == nil && end.Err == nil && start.Offset < end.Offset {
			full = append(full, n)
		}
	}
	return full
}

// mover moves what is in a rung, as a member of its share group.
type mover struct {
	*member
	n       int
	link    *link
	ctx     context.Context // ends when the driver is closed
	ending  context.Context // ends when Close may not take any longer
	waiting []waiting       // what is in hand
	renewed time.Time
}

// waiting is a record that is in hand.
type waiting struct {
	acquired
	envelope
	wake time.Time // when to do something about it
}

// move is a mover until the driver is closed.
func (d *Driver) move(n int, l *link) {
	ctx, cancel := d.bound(context.Background())
	defer cancel()
	ending, end := d.untilClosed()
	defer end()
	wait := kit.Backoff{Min: 20 * time.Millisecond, Max: 2 * time.Second}
	for {
		m := &mover{n: n, link: l, ctx: ctx, ending: ending}
		begun := time.Now()
		err := m.run(d)
		if ctx.Err() != nil {
			return
		}
		l.lost(err)
		d.logger().Warn("kafka: what is delayed is late", "topic", rungTopic(n), "error", err)
		if time.Since(begun) > time.Minute {
			wait.Reset()
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return
		}
	}
}

// run joins the group, and moves until the driver is closed or the session is lost.
func (m *mover) run(d *Driver) error {
	t, err := d.makeRung(m.ctx, m.n)
	if err != nil {
		return err
	}
	if m.member, err = newMember(m.ctx, d, t); err != nil {
		return err
	}
	defer m.client.Close()
	beating, enough := context.WithCancel(m.ending)
	var beats sync.WaitGroup
	beats.Go(func() { m.beats(beating) })
	defer beats.Wait()
	defer enough()
	got, gaps, err := m.begin(m.ctx, moveAtOnce)
	if err == nil {
		m.link.made("")
	}
	trimmed := time.Now()
	for err == nil && m.ctx.Err() == nil {
		m.take(got)
		err = m.moveAll()
		if err == nil && m.ctx.Err() == nil && time.Since(trimmed) > trimEvery {
			m.trim(m.ctx)
			trimmed = time.Now()
		}
		if err == nil && m.ctx.Err() == nil {
			fetching, cancel := outliving(m.ending, m.ctx)
			got, gaps, err = m.fetch(fetching, moveAtOnce, waitIdle, gaps)
			cancel()
		}
	}
	if err != nil {
		return err
	}
	leaving, cancel := context.WithTimeout(m.ending, stopTimeout)
	defer cancel()
	err = m.acknowledge(leaving, nil, true) // what is in hand is given back
	enough()
	beats.Wait()
	m.leave(leaving)
	return err
}

// take takes records into hand.
func (m *mover) take(got []acquired) {
	m.renewed = time.Now()
	for _, r := range got {
		e, _ := decode(r.Record)
		w := waiting{acquired: r, envelope: e, wake: m.renewed}
		// One that has come back is written anew at once, or the broker drops it some day.
		if due, length := time.UnixMicro(e.Due), rungLength(m.n); r.count < m.d.renewAt {
			w.wake = r.Timestamp.Add(length)
			if latest := m.renewed.Add(length); w.wake.After(latest) { // by a clock that is ahead
				w.wake = latest
			}
			if due.Sub(w.wake) < shortestRung { // it is not worth another rung
				w.wake = due
			}
		}
		m.waiting = append(m.waiting, w)
	}
}

// moveAll moves what is in hand, one after another when it is time to, unless the driver is closed.
func (m *mover) moveAll() error {
	for len(m.waiting) > 0 && m.ctx.Err() == nil {
		n := 0
		for n < len(m.waiting) && !time.Now().Before(m.waiting[n].wake) {
			n++
		}
		if n > 0 {
			if err := m.moveFirst(n); err != nil {
				return err
			}
			continue
		}
		renew := m.renewed.Add(m.lock / 3)
		next := m.waiting[0].wake
		if renew.Before(next) {
			next = renew
		}
		select {
		case <-time.After(time.Until(next)):
		case <-m.ctx.Done():
		}
		if err := m.renew(m.lock / 3); err != nil {
			return err
		}
	}
	return nil
}

// renew tells the broker that what waits is still in hand, if that was so long ago.
func (m *mover) renew(age time.Duration) error {
	if time.Since(m.renewed) < age || m.ctx.Err() != nil {
		return nil
	}
	var held []settled
	for _, w := range m.waiting {
		held = append(held, settled{w.Offset, ackRenew})
	}
	m.renewed = time.Now()
	return m.acknowledge(m.ctx, held, false)
}

// moveFirst moves the first n that wait, and settles those that are where they go next. The others
// go to the end of what is in hand.
func (m *mover) moveFirst(n int) error {
	if err := m.renew(m.lock / 6); err != nil {
		return err
	}
	batch := m.waiting[:n:n]
	m.waiting = m.waiting[n:]
	// What is under way when the driver is closed is waited for, or it would be double.
	ctx, cancel := context.WithTimeout(m.ending, m.lock/3)
	var done []settled
	var late []waiting
	for i, result := range m.start(ctx, batch, false) {
		switch err := result(ctx); {
		case err == nil:
			done = append(done, settled{batch[i].Offset, ackAccept})
		case errors.Is(err, errFinal):
			m.d.logger().Error("kafka: what was delayed is dropped, for it cannot be published", "to", batch[i].ToName, "id", batch[i].ID, "error", err)
			done = append(done, settled{batch[i].Offset, ackAccept})
		case m.ctx.Err() != nil: // it is given back
			m.waiting = append(m.waiting, batch[i])
		case isRefusal(err) && batch[i].Refused+1 >= mostRefusals && m.toDeadLetters(ctx, batch[i], err) == nil:
			done = append(done, settled{batch[i].Offset, ackAccept})
		default:
			if isRefusal(err) {
				batch[i].Refused = min(batch[i].Refused+1, mostRefusals)
			}
			m.d.logger().Warn("kafka: what was delayed cannot be published, and is late", "to", batch[i].ToName, "id", batch[i].ID, "error", err)
			late = append(late, batch[i])
		}
	}
	cancel()
	ctx, cancel = context.WithTimeout(m.ctx, m.lock/6)
	defer cancel()
	for i, result := range m.start(ctx, late, true) { // or what waits behind them would wait, too
		if result(ctx) == nil {
			done = append(done, settled{late[i].Offset, ackAccept})
			continue
		}
		w := late[i]
		w.wake = time.Now().Add(shortestRung)
		m.waiting = append(m.waiting, w)
	}
	slices.SortStableFunc(m.waiting, func(a, b waiting) int { return a.wake.Compare(b.wake) })
	if len(done) == 0 {
		return nil
	}
	return m.acknowledge(m.ending, done, false)
}

// errFinal is that to publish again does not help: and there is no publisher any more to be told.
var errFinal = errors.New("where it goes is gone")

// start begins to write records where they go next, in order: to their destinations when they are
// due, else to another rung, or all to that for being tried again. Each result is waited for.
func (m *mover) start(ctx context.Context, batch []waiting, later bool) (results []func(context.Context) error) {
	for _, w := range batch {
		done := make(chan error, 1)
		e := w.envelope
		e.Again = e.Again || later || w.count > 1
		if later { // a refusal is not over as soon as a failure
			e.Due = time.Now().Add(moveAgain << (2 * max(e.Refused-1, 0))).UnixMicro()
		}
		var err error
		if left := time.Until(time.UnixMicro(e.Due)); left > 0 {
			err = m.climb(ctx, w, e, rungFor(left), func(err error) { done <- err })
		} else {
			err = m.publish(ctx, w, e, func(err error) { done <- err })
		}
		results = append(results, func(ctx context.Context) error {
			if err != nil {
				return err
			}
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return fmt.Errorf("kafka: %w: %w", adapters.ErrUnconfirmed, ctx.Err())
			}
		})
	}
	return results
}

// climb writes a record to another rung.
func (m *mover) climb(ctx context.Context, w waiting, e envelope, n int, done func(error)) error {
	if err := m.d.useRung(ctx, n); err != nil {
		return err
	}
	r := again(w.Record, e, 0)
	r.Topic = rungTopic(n)
	return m.d.start(ctx, r, func(err error) {
		if errors.Is(err, adapters.ErrNotFound) { // if it is gone, it is made anew the next time
			m.d.tasks.Go(func() { _, _ = m.d.look(m.ctx, r.Topic) }) // not here, in the client's own goroutine
			err = fmt.Errorf("%w: the topic %s is gone", adapters.ErrUnconfirmed, r.Topic)
		}
		done(err)
	})
}

// publish publishes what is due.
func (m *mover) publish(ctx context.Context, w waiting, e envelope, done func(error)) error {
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Kind(e.ToKind), Name: e.ToName}, Key: string(w.Key)}
	if err := p.Validate(); err != nil { // somebody else wrote it
		return fmt.Errorf("%w: %w", errFinal, err)
	}
	targets, err := m.d.route(ctx, &p)
	switch {
	case errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrNotFound):
		return fmt.Errorf("%w: %w", errFinal, err)
	case err != nil:
		return err
	}
	e.Due, e.ToKind, e.ToName, e.Refused = 0, 0, "", 0
	r := again(w.Record, e, 0)
	return m.d.sendRecord(ctx, &p, targets, r, done)
}

// delayed has a record of another topic say where it goes, and when.
func (e *envelope) delayed(p *adapters.Publication) {
	if p.Delay > 0 {
		e.Due = time.Now().Add(p.Delay).UnixMicro() + 1
		e.ToKind, e.ToName = uint8(p.To.Kind), p.To.Name
	}
}

// rewrite writes a record to its rung, which was gone.
func (d *Driver) rewrite(ctx context.Context, p *adapters.Publication, r *kgo.Record) error {
	if _, err := d.makeRung(ctx, rungFor(p.Delay)); err != nil {
		return err
	}
	if err := d.produceAgain(ctx, r); !errors.Is(err, adapters.ErrNotFound) {
		return err
	}
	return fmt.Errorf("kafka: %w: the topic %s is gone", adapters.ErrUnconfirmed, r.Topic)
}
