package amqp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// A queue is moved to other properties by way of two others, for it has to keep its name:
//
//	publishers -> detour --+--> QUEUE                (before, and after)
//	                       +--> rest -> QUEUE.new    (meanwhile: the detour has no queue)
//
// The detour is a fanout exchange whose alternate exchange is rest. So to unbind QUEUE from the
// detour leads each message to one of the two and none to both or to neither. What waits in QUEUE
// is then moved to QUEUE.past, QUEUE is deleted and declared again, and first the past and then
// what is new is moved to it. At the end the publishers are held back for a moment, because the
// last of QUEUE.new must precede what comes next.
//
// Which step is next is seen from which queues there are, so a move that was interrupted anywhere
// goes on when it is begun again. A message leaves a queue once another has it; an interruption
// makes second copies of those that were on their way, at most movePrefetch.

const (
	movePrefetch = browseGroup            // messages on their way from one queue to another; when more are returned at once, a quorum queue mixes them up
	quietBefore  = 2 * time.Second        // for so long nothing must come to a queue before it is deleted
	quietHeld    = 100 * time.Millisecond // for so long nothing must come from publishers that are held back
	lockPatience = 20 * time.Second       // the broker notices by then that a machine is gone
	lockPause    = 100 * time.Millisecond // between two attempts
	mostMigrated = 200                    // bytes in the name of a queue, whose helpers have longer ones
)

// migration is one call of Migrate, and what it knows of the names.
type migration struct {
	d      *Driver
	conn   *connection // of the lock
	source adapters.Source
	queue  string
	step   func(string)

	past, newer string // temporary queues
}

// PrepareMigration makes the exchange over which those publish who know that the queue of s is
// being moved, see [Config.Migrating]. It changes nothing for others. It has to be called before
// anybody is told. The queue is that of a work queue: what is published to groups takes an exchange
// anyway, and Migrate prepares that.
func (d *Driver) PrepareMigration(ctx context.Context, s adapters.Source) error {
	return d.migrate(ctx, "prepare to move", s, nil, func(ctx context.Context, m *migration) error {
		begun, err := m.exists(ctx, m.newer)
		switch {
		case err != nil:
			return err
		case begun:
			return fmt.Errorf("%w: the move has begun: go on with it", adapters.ErrPrecondition)
		}
		return m.prepare(ctx)
	})
}

// Migrate gives the queue of s, which exists, the properties that s has, or another type, and keeps
// what is in it. step is called before each step with a text for people; nil is fine.
//
// Publishers go on, if they publish to an exchange that leads to the queue, as to that of a group;
// those of a work queue must use [Config.Migrating]. Nobody may consume: that is ErrPrecondition.
// If the queue turns out to be published to by its name, the move ends before the queue is deleted.
//
// Nothing is lost. The order is kept but for a group's queue, where the last messages that were
// diverted come behind the first ones that were not; step is told how many. After an error, or if
// the process dies, call it again: what was on its way may then be there twice, with the same id. A
// message's time to live begins again. Two at a time are ErrInUse.
func (d *Driver) Migrate(ctx context.Context, s adapters.Source, step func(string)) error {
	return d.migrate(ctx, "move", s, step, func(ctx context.Context, m *migration) error { return m.run(ctx) })
}

// FinishMigration removes the exchange that PrepareMigration has made, once nobody uses
// [Config.Migrating] any more.
func (d *Driver) FinishMigration(ctx context.Context, s adapters.Source) error {
	return d.migrate(ctx, "finish the move of", s, nil, func(ctx context.Context, m *migration) error {
		for _, left := range []string{m.newer, m.past} {
			found, err := m.exists(ctx, left)
			if found && err == nil {
				err = fmt.Errorf("%w: the move is not done, queue %q is there: go on with it", adapters.ErrPrecondition, left)
			}
			if err != nil {
				return err
			}
		}
		return m.finish(ctx)
	})
}

// migrate runs f while no other process moves the same queue.
func (d *Driver) migrate(ctx context.Context, verb string, s adapters.Source, step func(string), f func(context.Context, *migration) error) error {
	if err := d.checkCall(ctx, verb, validateSource(s)); err != nil {
		return err
	}
	queue := s.QueueName()
	switch {
	case queue == "" || s.Passive:
		return invalid("%s: a queue that is private, or used as it stands, has no properties", verb)
	case s.Queue.AutoDelete:
		return invalid("%s: queue %q goes with its last consumer", verb, clip(queue))
	case len(queue) > mostMigrated:
		return invalid("%s: a queue name of %d bytes, at most %d are possible", verb, len(queue), mostMigrated)
	case d.cfg.migrates(queue):
		return invalid("%s: Config.Migrating is for those who publish to queue %q, not for who moves it", verb, clip(queue))
	}
	conn, err := d.publisher.connection(ctx)
	if err != nil {
		return err
	}
	m := &migration{d: d, conn: conn, source: s, queue: queue, past: migratePrefix + queue + ".past", newer: migratePrefix + queue + ".new", step: func(string) {}}
	if step != nil {
		m.step = step
	}
	unlock, err := m.lock(ctx)
	if err == nil {
		defer unlock()
		ctx, cancel := context.WithCancelCause(ctx) // the lock is lost with its connection
		defer context.AfterFunc(conn.ctx, func() { cancel(context.Cause(conn.ctx)) })()
		err = f(ctx, m)
		if err != nil && conn.ctx.Err() != nil {
			err = fmt.Errorf("%w: the connection was lost: call it again: %w", adapters.ErrUnavailable, err)
		}
	}
	if err != nil {
		return fmt.Errorf("amqp: %s queue %q: %w", verb, queue, err)
	}
	return nil
}

// lock declares a queue that only this connection may use. The broker may take a while to notice
// that the last one is gone.
func (m *migration) lock(ctx context.Context) (unlock func(), err error) {
	name := migratePrefix + m.queue + ".lock"
	for deadline := time.Now().Add(lockPatience); ; {
		err = m.do(ctx, func(ch *amqp091.Channel) error {
			_, err := ch.QueueDeclare(name, false, false, true, false, amqp091.Table{"x-queue-type": string(Classic)})
			return err
		})
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) || !sleep(ctx, lockPause) {
			break
		}
	}
	return func() {
		_ = m.do(context.WithoutCancel(ctx), func(ch *amqp091.Channel) error { _, err := ch.QueueDelete(name, false, false, false); return err })
	}, err
}

// run finds out what is to be done, and does it.
func (m *migration) run(ctx context.Context) error {
	begun, err := m.exists(ctx, m.newer)
	if err != nil {
		return err
	}
	differs, err := m.conn.compareQueue(m.queue, m.source.Queue)
	missing := err != nil && errors.Is(sentinel(err), adapters.ErrNotFound)
	switch {
	case missing && begun:
	case err != nil:
		return classify(err)
	case !begun && len(differs) == 0:
		m.step("it is as declared")
		return nil
	}
	if !missing && len(differs) > 0 {
		if err := m.clear(ctx, begun); err != nil {
			return err
		}
	}
	return m.refill(ctx)
}

// clear leads publishers to the newer queue, empties the queue and deletes it.
func (m *migration) clear(ctx context.Context, begun bool) error {
	check := m.checkUnused
	if begun {
		check = m.awaitUnused // a process that was killed
	}
	if err := check(ctx, m.queue); err != nil {
		return err
	}
	if m.source.Kind.IsExchange() && !begun {
		m.step("prepare: its exchange leads to it over another one")
		if err := m.prepare(ctx); err != nil {
			return err
		}
	}
	m.step("divert: what is published from now on goes to " + m.newer)
	if err := m.divert(ctx); err != nil {
		return err
	}
	m.step("empty: what waits goes to " + m.past)
	if err := m.declareHelper(ctx, m.past); err != nil {
		return err
	}
	if _, err := m.drain(ctx, m.queue, m.past, quietBefore, nil); err != nil {
		return err
	}
	m.step("delete: the queue is empty")
	return m.remove(ctx, m.queue)
}

// refill declares the queue, fills it again, and leads publishers to it.
func (m *migration) refill(ctx context.Context) error {
	m.step("declare: the queue is missing")
	err := m.do(ctx, func(ch *amqp091.Channel) error {
		return m.conn.declare(ch, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: m.queue}, Queue: m.source.Queue}, true)
	})
	if err != nil {
		return err
	}
	past, err := m.exists(ctx, m.past)
	if err != nil {
		return err
	}
	if past {
		m.step("return: what waited comes back")
		if _, err := m.drain(ctx, m.past, m.queue, quietHeld, nil); err != nil {
			return err
		}
		if err := m.remove(ctx, m.past); err != nil {
			return err
		}
	}
	m.step("follow: what was published meanwhile comes behind it")
	if err := m.takeBackDelayed(ctx); err != nil {
		return err
	}
	if err := m.switchBack(ctx); err != nil {
		return err
	}
	m.step("clean up: " + m.newer + " is empty")
	n, err := m.drain(ctx, m.newer, m.queue, quietBefore, nil)
	if err != nil {
		return err
	}
	if n > 0 {
		m.step(fmt.Sprintf("%d messages came late, and may be behind some that were published after them", n))
	}
	if err := m.remove(ctx, m.newer); err != nil {
		return err
	}
	if m.source.Kind.IsExchange() {
		return m.finish(ctx)
	}
	return nil
}

// switchBack leads publishers to the queue. Those of a work queue are held back while the rest of
// what was diverted is moved; those of an exchange need not be Mandatory, and would lose what leads
// nowhere.
func (m *migration) switchBack(ctx context.Context) error {
	bind := func(ch *amqp091.Channel) error { return ch.QueueBind(m.queue, "", detourOf(m.queue), false, nil) }
	if m.source.Kind.IsExchange() {
		n, err := m.drain(ctx, m.newer, m.queue, quietHeld, func() error {
			m.step("switch: what is published from now on goes to the queue")
			return m.do(ctx, bind)
		})
		m.step(fmt.Sprintf("%d messages that were published before come behind it", n))
		return err
	}
	// What was routed before may come late where the broker is busy.
	_, err := m.drain(ctx, m.newer, m.queue, max(quietHeld, m.conn.settlingTime()), func() error {
		m.step("hold: publishers wait")
		return m.do(ctx, func(ch *amqp091.Channel) error { return ch.QueueUnbind(m.newer, "", restOf(m.queue), nil) })
	})
	if err != nil {
		return err
	}
	m.step("switch: publishers go on")
	return m.do(ctx, bind)
}

// declareHelper declares a temporary queue.
func (m *migration) declareHelper(ctx context.Context, name string) error {
	return m.do(ctx, func(ch *amqp091.Channel) error {
		fresh, err := m.conn.declareQueue(ch, name, adapters.QueueSpec{DeadLetter: m.source.Queue.DeadLetter})
		if err == nil && fresh {
			sleep(m.conn.ctx, m.conn.settlingTime())
		}
		return err
	})
}

// remove deletes a queue that is empty and unused, and to which nobody publishes any more.
func (m *migration) remove(ctx context.Context, queue string) error {
	q, err := m.d.Inspect(ctx, queue)
	if err == nil {
		err = (adapters.IfEmpty | adapters.IfUnused).Unmet(q)
	}
	if err == nil {
		err = m.d.checkEmpty(ctx, queue)
	}
	if err != nil {
		return err
	}
	n := 0
	err = m.do(ctx, func(ch *amqp091.Channel) (err error) {
		m.d.forgetQueue(queue)
		n, err = ch.QueueDelete(queue, false, false, false)
		return err
	})
	if err == nil && n > 0 {
		return fmt.Errorf("%d messages came to queue %q at the moment in which it was deleted, and are lost: somebody publishes to it by name", n, queue)
	}
	return err
}

func (m *migration) exists(ctx context.Context, queue string) (bool, error) {
	_, err := m.d.Inspect(ctx, queue)
	if errors.Is(err, adapters.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// do runs f on a channel of its own, of the connection that has the lock.
func (m *migration) do(ctx context.Context, f func(*amqp091.Channel) error) error {
	for {
		err := m.conn.withChannel(ctx, f)
		if !errors.Is(err, errDeclareAgain) {
			return errClassified(err)
		}
	}
}

// errClassified is classify for an error that may be none of amqp091's.
func errClassified(err error) error {
	if _, ok := errors.AsType[*amqp091.Error](err); ok {
		return classify(err)
	}
	return err
}
