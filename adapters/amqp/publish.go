package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// Publish implements [adapters.Driver]. Its messages are under way together,
// and together with those of other calls.
func (d *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	r, err := d.prepare(ctx, &p)
	switch {
	case err != nil:
		return err
	case len(msgs) != 1:
		return d.publishAll(ctx, &r, msgs)
	}
	if err := d.publish(ctx, &r, msgs[0]); err != nil {
		return &adapters.PublishError{Failed: []adapters.FailedMessage{failure(0, msgs[0], err)}}
	}
	return nil
}

func (d *Driver) publish(ctx context.Context, r *route, m *message.Message) error {
	var o outgoing
	if err := d.encode(&o, r, m); err != nil {
		return err
	}
	if err := d.takeOff(ctx); err != nil {
		return err
	}
	f, err := d.send(ctx, r, &o)
	o.release()
	if err != nil {
		<-d.inFlight
		return err
	}
	return d.land(ctx, f)
}

func (d *Driver) publishAll(ctx context.Context, r *route, msgs []*message.Message) error {
	if err := d.arrange(ctx, r); err != nil { // which would be the same for all of them
		return err
	}
	type flight struct {
		inFlight
		index int
	}
	var failed []adapters.FailedMessage
	flying := make([]flight, 0, min(len(msgs), cap(d.inFlight)))
	land := func() {
		f := flying[0]
		flying = flying[1:]
		if err := d.land(ctx, f.inFlight); err != nil {
			failed = append(failed, failure(f.index, msgs[f.index], err))
		}
	}
	for i, m := range msgs {
		var o outgoing
		err := d.encode(&o, r, m)
		if err == nil {
			for len(flying) > 0 && len(d.inFlight) == cap(d.inFlight) {
				land() // the places may all be this call's own
			}
			err = d.takeOff(ctx)
		}
		if err == nil {
			var f inFlight
			f, err = d.send(ctx, r, &o)
			o.release()
			if err != nil {
				<-d.inFlight
			} else {
				flying = append(flying, flight{f, i})
			}
		}
		if err != nil {
			failed = append(failed, failure(i, m, err))
		}
	}
	for len(flying) > 0 {
		land()
	}
	if failed == nil {
		return nil
	}
	slices.SortFunc(failed, func(a, b adapters.FailedMessage) int { return cmp.Compare(a.Index, b.Index) })
	return &adapters.PublishError{Failed: failed}
}

func failure(i int, m *message.Message, err error) adapters.FailedMessage {
	f := adapters.FailedMessage{Index: i, Err: err}
	if m != nil {
		f.UUID = m.UUID
	}
	return f
}

// PublishAsync implements [adapters.AsyncPublisher].
func (d *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	r, err := d.prepare(ctx, &p)
	if err != nil {
		return err
	}
	var o outgoing
	if err := d.encode(&o, &r, m); err != nil {
		return err
	}
	if err := d.takeOff(ctx); err != nil {
		return err
	}
	f, err := d.send(ctx, &r, &o)
	o.release()
	if err != nil {
		<-d.inFlight
		return err
	}
	d.async.add(f, done)
	return nil
}

// prepare checks all that does not depend on the message.
func (d *Driver) prepare(ctx context.Context, p *adapters.Publication) (route, error) {
	if err := d.check(ctx, "publish"); err != nil {
		return route{}, err
	}
	return d.cfg.routeOf(p)
}

// arrange sees to it that there is what a route leads through.
func (d *Driver) arrange(ctx context.Context, r *route) error {
	for {
		s, err := d.ready(ctx)
		if err != nil {
			return err
		}
		if err = s.arrange(ctx, r); err == nil {
			return nil
		}
		if err := d.retry(ctx, s, err); err != nil {
			return fmt.Errorf("amqp: publish to %s: %w", r.p.To, err)
		}
	}
}

// send gives a message to the broker, as soon as it is there to take it.
func (d *Driver) send(ctx context.Context, r *route, o *outgoing) (inFlight, error) {
	for {
		if err := ctx.Err(); err != nil {
			return inFlight{}, fmt.Errorf("amqp: publish: %w", err)
		}
		s, err := d.ready(ctx)
		if err != nil {
			return inFlight{}, err
		}
		if limit := s.conn.Config.FrameSize; limit > 0 && o.size > limit {
			return inFlight{}, invalid("metadata and properties of %d bytes, at most %d fit", o.size, limit)
		}
		p, err := s.pipe(ctx, o.exchange) // first: it finds out that something may be gone
		if err == nil {
			err = s.arrange(ctx, r)
		}
		if err == nil {
			var f inFlight
			if f, err = s.give(ctx, p, o); err == nil {
				return f, nil
			}
			if s.alive() && p.ch.IsClosed() {
				continue // the channel is gone, and another can be had
			}
		}
		if err := d.retry(ctx, s, err); err != nil {
			return inFlight{}, fmt.Errorf("amqp: publish to %s: %w", r.p.To, err)
		}
	}
}

// give sends a message. Large ones go one after the other, each once there is
// room: all that had found room could be too many for a broker that stands still.
func (s *session) give(ctx context.Context, p *pipe, o *outgoing) (inFlight, error) {
	if len(o.msg.Body) < wireLarge {
		return p.send(o)
	}
	select {
	case s.large <- struct{}{}:
		defer func() { <-s.large }()
	case <-s.ctx.Done():
		return inFlight{}, context.Cause(s.ctx)
	case <-ctx.Done():
		return inFlight{}, ctx.Err()
	}
	for wait := s.wire.room(); wait != nil; wait = s.wire.room() {
		select {
		case <-wait:
		case <-s.ctx.Done():
			return inFlight{}, context.Cause(s.ctx)
		case <-ctx.Done():
			return inFlight{}, ctx.Err()
		}
	}
	return p.send(o)
}

// retry tells whether what failed with err in session s is to be tried again.
// It returns nil for that, after the end of s unless err itself says so.
func (d *Driver) retry(ctx context.Context, s *session, err error) error {
	switch {
	case errors.Is(err, errForeign):
		return nil
	case errors.Is(err, adapters.ErrClosed):
		return adapters.ErrClosed
	case ctx.Err() != nil:
		return unavailable(ctx, nil)
	case s.alive():
		return classify(err)
	}
	select {
	case <-s.ctx.Done():
		return nil
	case <-ctx.Done():
		return unavailable(ctx, nil)
	}
}

// ready returns a session that takes publishes now.
func (d *Driver) ready(ctx context.Context) (*session, error) {
	for {
		s, err := d.publishing.session(ctx)
		if err != nil {
			return nil, err
		}
		wait, reason := s.blocked()
		if wait == nil {
			reason = "it does not read"
			if wait = s.wire.room(); wait == nil {
				return s, nil
			}
		}
		select {
		case <-wait:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("amqp: %w: %w (blocked by the broker: %s)", adapters.ErrUnavailable, ctx.Err(), reason)
		}
	}
}

// takeOff waits for a place among the publishes in flight.
func (d *Driver) takeOff(ctx context.Context) error {
	select {
	case d.inFlight <- struct{}{}:
		return nil
	default:
	}
	select {
	case d.inFlight <- struct{}{}:
		return nil
	case <-d.ctx.Done():
		return adapters.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("amqp: publish: %w: %w (%d are in flight)", adapters.ErrUnavailable, ctx.Err(), cap(d.inFlight))
	}
}

// land waits for the broker's answer, as long as ctx allows, and gives the
// place back once it is there.
func (d *Driver) land(ctx context.Context, f inFlight) error {
	select {
	case <-f.confirm.Done():
	case <-ctx.Done():
		select {
		case <-f.confirm.Done(): // it is there as well, and says more
		default:
			go func() { // Close waits for the place
				<-f.confirm.Done()
				_ = f.outcome() // takes its return away, if there is one
				<-d.inFlight
			}()
			return fmt.Errorf("amqp: %w: %w", adapters.ErrUnconfirmed, ctx.Err())
		}
	}
	err := f.outcome()
	<-d.inFlight
	return err
}
