package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// target is a queue that gets a copy.
type target struct {
	queueName
	subject string
	id      string // of the queue that is bound; "" where its name is all there is to say
}

// Publish implements [adapters.Driver].
func (d *Driver) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if err := d.checkPublish(ctx, &p); err != nil || len(msgs) == 0 {
		return err
	}
	s, targets, err := d.route(ctx, &p)
	if err != nil {
		return err
	}
	batch := kit.NewBatch(msgs)
	for i, m := range msgs {
		if err := d.send(ctx, s, &p, targets, m, func(err error) { batch.Resolve(i, err) }); err != nil {
			batch.Resolve(i, err)
		}
	}
	return batch.Wait(ctx)
}

// PublishAsync implements [adapters.AsyncPublisher].
func (d *Driver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if err := d.checkPublish(ctx, &p); err != nil {
		return err
	}
	s, targets, err := d.route(ctx, &p)
	if err != nil {
		return err
	}
	return d.send(ctx, s, &p, targets, m, done)
}

func (d *Driver) checkPublish(ctx context.Context, p *adapters.Publication) error {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: publish"), p.Validate(), features.Require(p.Needs())); err != nil {
		return err
	}
	if p.Timestamp.IsZero() {
		p.Timestamp = time.Now()
	}
	p.Attempt = max(p.Attempt, 1)
	return nil
}

// route returns where the messages of a call go, as bindings are now.
func (d *Driver) route(ctx context.Context, p *adapters.Publication) (s *session, targets []target, err error) {
	if s, err = d.live(ctx); err != nil {
		return nil, nil, d.tasks.Explain(ctx, err)
	}
	if p.Delay > 0 {
		return d.routeDelayed(ctx, s, p)
	}
	if p.To.Kind == adapters.Reply && !isReplyAddress(p.To.Name) {
		return s, nil, nil // nobody can have it
	}
	if !p.To.Kind.IsExchange() {
		name := nameQueue(p.To.Name)
		return s, []target{{queueName: name, subject: name.subject()}}, nil
	}
	bound, err := d.routes.Route(ctx, p.To, p.Key)
	if err != nil {
		return nil, nil, d.tasks.Explain(ctx, err)
	}
	for _, b := range bound {
		name := nameQueue(b.Queue)
		targets = append(targets, target{name, name.boundSubject(b.ID), b.ID})
	}
	return s, targets, nil
}

// routeDelayed returns where what is delayed waits: at its queue, or where it is routed from when
// it is due.
func (d *Driver) routeDelayed(ctx context.Context, s *session, p *adapters.Publication) (*session, []target, error) {
	name := nameQueue(p.To.Name)
	if p.To.Kind == adapters.Reply {
		return nil, nil, fmt.Errorf("jetstream: publish: %w: a reply that is delayed", adapters.ErrInvalid)
	}
	if p.To.Kind == adapters.Queue {
		_, err := s.look(ctx, name)
		if err == nil {
			return s, []target{{queueName: name, subject: name.newSchedule()}}, nil
		}
		if !errors.Is(err, adapters.ErrNotFound) {
			return nil, nil, d.tasks.Explain(ctx, err)
		}
	} else if p.To.Kind == adapters.Exchange {
		if _, err := d.routes.Route(ctx, p.To, p.Key); err != nil { // it has to exist
			return nil, nil, d.tasks.Explain(ctx, err)
		}
	} else if err := d.routes.Declare(ctx, p.To); err != nil {
		return nil, nil, d.tasks.Explain(ctx, err)
	}
	if err := d.moveDelayed(ctx); err != nil {
		return nil, nil, d.tasks.Explain(ctx, err)
	}
	name = nameQueue(delayed.Name)
	return s, []target{{queueName: name, subject: name.newSchedule()}}, nil
}

// schedule has the server wait with a message.
func schedule(m *nats.Msg, t target, due time.Time) {
	m.Subject = t.newSchedule() // each its own, or it would replace another
	m.Header["Nats-Schedule"] = []string{"@at " + due.UTC().Format(time.RFC3339Nano)}
	m.Header["Nats-Schedule-Target"] = []string{t.queueName.subject()}
}

// send sends m to its targets, and calls done with what became of it. After an error nothing was
// sent, and done is not called.
func (d *Driver) send(ctx context.Context, s *session, p *adapters.Publication, targets []target, m *message.Message, done func(error)) error {
	if err := cmp.Or(d.tasks.Check(ctx, "jetstream: publish"), adapters.ValidateMessage(m)); err != nil {
		return err
	}
	encoded, err := encode(p, m)
	if err != nil {
		return err
	}
	if most := s.nc.MaxPayload(); int64(len(encoded.Data)+len(encoded.Header.Get(header))+256) > most {
		return fmt.Errorf("jetstream: %w: the server takes %d bytes", adapters.ErrTooLarge, most)
	}
	if len(targets) == 0 {
		if p.Mandatory {
			return adapters.ErrUnroutable
		}
		done(nil)
		return nil
	}
	if p.Delay > 0 {
		schedule(encoded, targets[0], time.Now().Add(p.Delay))
		targets = []target{{queueName: targets[0].queueName, subject: encoded.Subject}}
	}
	// The payload is the caller's again as soon as this returns, and may have to be sent again.
	body := bodies.Get().(*[]byte)
	*body = append((*body)[:0], encoded.Data...)
	encoded.Data = *body
	c := kit.NewCopies(len(targets), p.Mandatory, func(err error) {
		if cap(*body) <= largestBody {
			bodies.Put(body)
		}
		done(err)
	})
	for i, t := range targets {
		if err := d.sendCopy(ctx, s, c, p, t, &nats.Msg{Subject: t.subject, Header: encoded.Header, Data: encoded.Data}); err != nil {
			if i == 0 {
				return err // none was
			}
			for range targets[i:] {
				c.Resolve(false, fmt.Errorf("%w: by some of its queues: %w", adapters.ErrUnconfirmed, err))
			}
			break
		}
	}
	return nil
}

func (d *Driver) sendCopy(ctx context.Context, s *session, c *kit.Copies, p *adapters.Publication, t target, m *nats.Msg) error {
	select {
	case d.window <- struct{}{}:
	case <-d.tasks.Closed():
		return adapters.ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("jetstream: publish: %w: %w", adapters.ErrUnavailable, ctx.Err())
	}
	// A copy, since nats.go looks at the header while it sends.
	err := s.request(m, func(back *nats.Msg, err error) {
		<-d.window
		if err == nil && noResponders(back) {
			// This is the goroutine that reads: another one asks what that means.
			if !d.tasks.Go(func() { c.Resolve(d.missing(s, p, t, m)) }) {
				c.Resolve(false, adapters.ErrUnconfirmed)
			}
			return
		}
		c.Resolve(false, confirmed(back, err))
	})
	if err != nil {
		<-d.window
	}
	return err
}

// confirmed returns what the answer to a copy says.
func confirmed(m *nats.Msg, err error) error {
	if err != nil {
		return err
	}
	switch code, err := apiAnswer(m, nil); {
	case code == int(jetstream.JSErrCodeStreamMessageExceedsMaximum):
		return fmt.Errorf("jetstream: %w: %w", adapters.ErrTooLarge, err)
	case code != 0:
		return fmt.Errorf("jetstream: %w: %w", adapters.ErrNacked, err)
	case err != nil:
		return fmt.Errorf("jetstream: %w: %w", adapters.ErrUnconfirmed, err)
	}
	return nil
}

// missing says what it means that nobody took a message: that its queue is gone, which is no error
// yet, or that it has no leader at the moment; then the message is sent again.
func (d *Driver) missing(s *session, p *adapters.Publication, t target, m *nats.Msg) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
	defer cancel()
	wait := kit.Backoff{Min: 10 * time.Millisecond, Max: 500 * time.Millisecond}
	for {
		q, err := s.look(ctx, t.queueName)
		if errors.Is(err, adapters.ErrNotFound) || err == nil && t.id != "" && q.id != t.id {
			if t.id != "" {
				_ = d.routes.Remove(ctx, p.To, kit.Bound{Queue: t.name, ID: t.id}) // or the next publisher does
			}
			return true, nil
		}
		if err == nil {
			back, err := s.askMessage(ctx, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
			if err != nil {
				return false, fmt.Errorf("jetstream: %w: %w", adapters.ErrUnconfirmed, err)
			}
			if !noResponders(back) {
				return false, confirmed(back, nil)
			}
		}
		select {
		case <-time.After(wait.Next()):
		case <-ctx.Done():
			return false, fmt.Errorf("jetstream: %w: queue %q has no leader", adapters.ErrUnavailable, t.name)
		}
	}
}

// largestBody is the size from which on a payload is not kept, or a few large ones would stay.
const largestBody = 64 << 10

// bodies are payloads of messages that are under way no more.
var bodies = sync.Pool{New: func() any { return new([]byte) }}
