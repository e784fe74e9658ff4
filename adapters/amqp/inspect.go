package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// Inspections go over the connections for consuming, which the broker does not block when it takes
// no publishes.

// Inspect implements [adapters.Inspector]. Ready and Consumers are exact. Unacked and Oldest come
// from the management API, where [Config].Management names it, and are unknown otherwise, or if it
// does not answer.
func (d *Driver) Inspect(ctx context.Context, queue string) (adapters.QueueInfo, error) {
	q, err := ask(ctx, d, "inspect", queue, nil, func(conn *connection) (amqp091.Queue, error) {
		return onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) { return conn.passive(ch, queue) })
	})
	if err != nil {
		return adapters.QueueInfo{}, err
	}
	info := adapters.QueueInfo{Name: queue, Ready: q.Messages, Unacked: -1, Consumers: q.Consumers}
	if d.management != nil {
		d.management.complete(ctx, &info)
	}
	return info, nil
}

// Queues implements [adapters.Inspector]. It needs the management API, which counts every 5 s, and
// asks it page by page: a queue that comes or goes meanwhile may hide another.
func (d *Driver) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	return func(yield func(adapters.QueueInfo, error) bool) {
		err := d.checkCall(ctx, "list queues", d.Features().Require(adapters.CanList))
		if err == nil {
			err = d.management.queues(ctx, func(q adapters.QueueInfo) bool { return yield(q, nil) })
		}
		if err != nil {
			yield(adapters.QueueInfo{}, err)
		}
	}
}

// Bindings implements [adapters.Inspector]. It needs the management API. Of a binding to a headers
// exchange it tells the key, which does not matter there.
func (d *Driver) Bindings(ctx context.Context, queue string) ([]adapters.Binding, error) {
	_, err := ask(ctx, d, "list bindings of", queue, d.Features().Require(adapters.CanListBindings), func(conn *connection) (amqp091.Queue, error) {
		return onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) { return conn.passive(ch, queue) }) // the management API has no bindings of a queue that is missing
	})
	if err != nil {
		return nil, err
	}
	return d.management.bindings(ctx, queue)
}

// Browse implements [adapters.Inspector]. It takes the messages, and gives all back as soon as it
// has them; see the package documentation for what that changes.
func (d *Driver) Browse(ctx context.Context, queue string, limit int) ([]adapters.Delivery, error) {
	valid := adapters.ValidateBrowse(queue, limit)
	return ask(ctx, d, "browse", queue, valid, func(conn *connection) ([]adapters.Delivery, error) {
		if err := conn.checkGivesSingly(passive(queue)); err != nil {
			return nil, err
		}
		if limit > fewBrowsed && conn.outlivesConsumers(queue) {
			if found, err := conn.browseMany(ctx, queue, limit); err == nil || ctx.Err() != nil {
				return found, err
			}
		}
		return conn.browse(ctx, queue, limit)
	})
}

// Purge implements [adapters.Inspector]. If the connection is lost meanwhile it purges again, and
// counts only that.
func (d *Driver) Purge(ctx context.Context, queue string) (int, error) {
	return ask(ctx, d, "purge", queue, nil, func(conn *connection) (int, error) {
		if err := conn.checkGivesSingly(passive(queue)); err != nil {
			return 0, err
		}
		return onChannel(conn, func(ch *amqp091.Channel) (int, error) { return ch.QueuePurge(queue, false) })
	})
}

// Delete implements [adapters.Inspector]. It looks whether a condition is met and deletes the queue
// then: quorum queues cannot do both at once. What comes in between is lost.
func (d *Driver) Delete(ctx context.Context, queue string, only adapters.Condition) error {
	if only&adapters.IfEmpty != 0 {
		if err := d.checkEmpty(ctx, queue); err != nil && !errors.Is(err, adapters.ErrNotFound) {
			return fmt.Errorf("amqp: delete: %w", err)
		}
	}
	deleting := false
	remove := func(conn *connection, ch *amqp091.Channel) (unmet, err error) {
		q, err := conn.passive(ch, queue)
		switch {
		case err != nil && deleting && errors.Is(sentinel(err), adapters.ErrNotFound):
			return nil, nil // it worked, on a connection that was lost before it said so
		case err != nil:
			return nil, err
		}
		if unmet = only.Unmet(adapters.QueueInfo{Name: queue, Ready: q.Messages, Consumers: q.Consumers}); unmet != nil {
			return unmet, nil
		}
		deleting = true
		d.forgetQueue(queue)
		_, err = ch.QueueDelete(queue, false, false, false)
		return nil, err
	}
	unmet, err := ask(ctx, d, "delete", queue, nil, func(conn *connection) (error, error) {
		return onChannel(conn, func(ch *amqp091.Channel) (error, error) { return remove(conn, ch) })
	})
	if err == nil && unmet != nil {
		err = fmt.Errorf("amqp: delete: %w", unmet)
	}
	return err
}

var errNotEmpty = fmt.Errorf("%w: it has messages", adapters.ErrPrecondition)

// checkEmpty returns errNotEmpty if a message waits. RabbitMQ says of a quorum queue that it is
// empty, too, if it has not found out within a quarter of a second, but not to a Get.
func (d *Driver) checkEmpty(ctx context.Context, queue string) error {
	got, err := d.Get(ctx, passive(queue))
	switch {
	case errors.Is(err, adapters.ErrEmpty):
		return nil
	case err != nil:
		return err
	}
	return errors.Join(fmt.Errorf("queue %q: %w", queue, errNotEmpty), got.Settle(context.WithoutCancel(ctx), adapters.Requeue))
}

// ask runs f, on another connection if the first one is lost.
func ask[T any](ctx context.Context, d *Driver, verb, queue string, valid error, f func(*connection) (T, error)) (answer T, err error) {
	return askAbout(ctx, d, verb, passive(queue).Endpoint, cmp.Or(valid, validateSource(passive(queue))), f)
}

// askAbout is ask for a queue or an exchange.
func askAbout[T any](ctx context.Context, d *Driver, verb string, about adapters.Endpoint, valid error, f func(*connection) (T, error)) (answer T, err error) {
	if err := d.checkCall(ctx, verb, valid); err != nil {
		return answer, err
	}
	sup, err := d.reserveChannel()
	if err != nil {
		return answer, err
	}
	defer func() { d.releaseChannel(sup) }()
	err = d.withConnection(ctx, &sup, about.Name, func(conn *connection) (err error) {
		answer, err = kit.Call(ctx, d.tasks, func() (T, error) {
			conn.carry()
			return f(conn)
		}, func(T) {})
		return err
	})
	if err != nil {
		return answer, fmt.Errorf("amqp: %s %s: %w", verb, about, err)
	}
	return answer, nil
}

// onChannel runs f with a channel of its own, which it may cost.
func onChannel[T any](conn *connection, f func(*amqp091.Channel) (T, error)) (answer T, err error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return answer, err
	}
	defer func() { _ = ch.Close() }()
	return f(ch)
}

// passive is the source of a queue as it stands.
func passive(queue string) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: queue}, Passive: true}
}

// passive finds out whether a queue exists, and what is in it.
func (conn *connection) passive(ch *amqp091.Channel, queue string) (amqp091.Queue, error) {
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil && conn.version.passiveNeedsConfigure() && errors.Is(sentinel(err), adapters.ErrAccess) {
		err = fmt.Errorf("RabbitMQ %s demands the right to configure for a passive declare, as no other version does: %w", conn.version, err)
	}
	return q, err
}

// forgetQueue keeps a queue that is to be deleted from being declared again with the next
// connection.
func (d *Driver) forgetQueue(queue string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.specs, queue)
	for name, s := range d.declared {
		if s.QueueName() == queue {
			delete(d.declared, name)
		}
	}
}
