package jetstream

import (
	"context"
	"errors"
	"time"

	"github.com/motifmq/motif/adapters"
)

// What no server does is done by whoever is connected: to route what was delayed on its way to an
// exchange, and to take what has expired out of queues that nobody reads. With nobody connected it
// is done later.
const (
	careEvery    = time.Second
	lookForMoves = 30 * time.Second // whether others have delayed something
	lookAtHead   = 5 * time.Second  // at the first message of a queue, where it does not say when
)

// delayed is the queue of what waits to be routed.
var delayed = adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "amq.jetstream.delayed"}, Prefetch: 100}

// care does these things until the driver is closed.
func (d *Driver) care() {
	ctx, cancel := d.background()
	defer cancel()
	ticker := time.NewTicker(careEvery)
	defer ticker.Stop()
	var looked time.Time
	for {
		if time.Since(looked) > lookForMoves {
			looked = time.Now()
			d.moveIfAny(ctx)
		}
		d.expireHeads(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// moveIfAny begins to route what was delayed, if there ever was anything.
func (d *Driver) moveIfAny(ctx context.Context) {
	s, err := d.live(ctx)
	if err != nil {
		return
	}
	if _, err := s.look(ctx, nameQueue(delayed.Name)); err == nil {
		_ = d.moveDelayed(ctx)
	}
}

// moveDelayed begins to route what was delayed, unless this driver does so already.
func (d *Driver) moveDelayed(ctx context.Context) error {
	d.moving.Lock()
	defer d.moving.Unlock()
	if d.moves {
		return nil
	}
	sub, err := d.subscribe(ctx, delayed)
	if err != nil {
		return err
	}
	d.moves = true
	d.tasks.Go(func() {
		ctx, cancel := d.background()
		defer cancel()
		for {
			got, err := sub.Receive(ctx)
			if err != nil {
				return // ErrClosed
			}
			d.move(ctx, got)
		}
	})
	return nil
}

// move routes what was delayed. It does not wait for the queues: one that does not answer holds up
// no message for others. What some of them refuse comes again, and all others get it again.
func (d *Driver) move(ctx context.Context, got adapters.Delivery) {
	h := got.Settler.(*delivery)
	e := &h.envelope
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Kind(e.ToKind), Name: e.ToName}, Key: got.Key, Properties: got.Properties, Lasting: e.Lasting}
	done := func(err error) {
		switch {
		case d.tasks.IsClosed(): // Close has given it back
		case err == nil, errors.Is(err, adapters.ErrMismatch), errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrAccess), errors.Is(err, adapters.ErrNotFound):
			_ = h.Settle(ctx, adapters.Ack) // there is no publisher to be told
		default:
			d.warn("jetstream: a delayed message was not routed", "to", p.To.String(), "error", err)
			_ = h.tryLater(ctx)
		}
	}
	if err := d.PublishAsync(ctx, p, got.Message, done); err != nil {
		done(err)
	}
}

// lettered is a queue with dead letters that this driver has declared.
type lettered struct {
	source adapters.Source
	look   time.Time // when to look at its first message
}

// remember has the driver look after a queue that has dead letters.
func (d *Driver) remember(q *queue) {
	if q.spec.DeadLetter == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lettered[q.name] == nil {
		d.lettered[q.name] = &lettered{source: adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: q.name}, Passive: true}}
	}
}

// expireHeads takes expired messages out of queues that have dead letters.
func (d *Driver) expireHeads(ctx context.Context) {
	d.mu.Lock()
	var due []*lettered
	for _, l := range d.lettered {
		if time.Now().After(l.look) {
			due = append(due, l)
		}
	}
	d.mu.Unlock()
	for _, l := range due {
		s, err := d.live(ctx)
		if err != nil {
			return
		}
		l.look = time.Now().Add(lookAtHead)
		if d.expireHead(ctx, s, l) {
			d.mu.Lock()
			delete(d.lettered, l.source.Name)
			d.mu.Unlock()
		}
	}
}

// expireHead does so for one queue, and reports whether the queue is gone.
func (d *Driver) expireHead(ctx context.Context, s *session, l *lettered) (gone bool) {
	q, err := s.look(ctx, nameQueue(l.source.Name))
	if err != nil {
		return errors.Is(err, adapters.ErrNotFound)
	}
	for {
		expires, found := s.head(ctx, q)
		switch {
		case !found || expires.IsZero():
			return false
		case time.Now().Before(expires):
			if expires.Before(l.look) {
				l.look = expires
			}
			return false
		}
		got, err := d.get(ctx, s, l.source, q)
		if err == nil { // one that has not: an older one was given back meanwhile
			_ = got.Settle(ctx, adapters.Requeue)
			return false
		}
		if !errors.Is(err, adapters.ErrEmpty) {
			return false
		}
	}
}

// head returns when the first message of a queue expires that was not delivered yet.
func (s *session) head(ctx context.Context, q *queue) (expires time.Time, found bool) {
	c, err := s.js.Consumer(ctx, q.stream(), q.consumer())
	if err != nil || c.CachedInfo().NumPending == 0 {
		return expires, false
	}
	stored, err := s.storedFrom(ctx, q, c.CachedInfo().Delivered.Stream+1)
	if stored == nil || err != nil {
		return expires, false
	}
	return stored.expires(q), true
}
