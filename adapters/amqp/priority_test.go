package amqp

import (
	"fmt"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// publishPrioritized publishes a message for each priority, with it as its id.
func publishPrioritized(t *testing.T, d *Driver, p adapters.Publication, priorities ...uint8) {
	t.Helper()
	for _, p.Priority = range priorities {
		publish(t, d, p, fmt.Sprint(p.Priority))
	}
}

// wantPriorities receives messages that publishPrioritized has sent.
func wantPriorities(t *testing.T, sub adapters.Subscription, priorities ...uint8) {
	t.Helper()
	for _, priority := range priorities {
		m := receive(t, sub, fmt.Sprint(priority))
		if m.Priority != priority {
			t.Errorf("%s has priority %d", m.Message.UUID, m.Priority)
		}
		settle(t, m, adapters.Ack)
	}
}

// TestPriorityLevels: each is a level, up to the highest of the queue; what has none is
// below all others, and what has waited too.
func TestPriorityLevels(t *testing.T) {
	d := connect(t)
	for _, highest := range []uint8{5, 31, 255} {
		src := fromQueue(fmt.Sprint(unique(t), highest), 1)
		src.Queue.MaxPriority = highest
		declare(t, d, src)
		delayed := toQueue(src.Name)
		delayed.Delay, delayed.Priority = 10*time.Millisecond, 4
		publish(t, d, delayed, "delayed")
		eventually(t, "it is there", func() bool {
			q, err := d.inspect(src.Name)
			return err == nil && q.Messages == 1
		})
		publishPrioritized(t, d, mandatory(src.Name), 1, 0, 254, highest, 4, 3)
		sub := subscribe(t, d, src)
		if highest == 255 {
			wantPriorities(t, sub, 255, 254)
		} else {
			wantPriorities(t, sub, 254, highest)
		}
		wantPriorities(t, sub, 4, 3, 1)
		if m := receive(t, sub, "delayed"); m.Priority != 4 {
			t.Errorf("the delayed one has priority %d", m.Priority)
		} else {
			settle(t, m, adapters.Ack)
		}
		wantPriorities(t, sub, 0)
	}
}

// TestPriorityWithoutLevels: a queue without MaxPriority keeps the order, also a group's and
// that of the dead letters; and so does one for what comes through its exchange without a priority.
func TestPriorityWithoutLevels(t *testing.T) {
	d := connect(t)
	name := unique(t)
	src := fromQueue(name, 1)
	src.Queue.DeadLetter = name + ".dead"
	group := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: name + ".x"}, Group: "g", Prefetch: 1}
	declare(t, d, src)
	declare(t, d, group)
	for _, s := range []adapters.Source{src, fromQueue(src.Queue.DeadLetter, 1), group} {
		publishPrioritized(t, d, mandatory(s.QueueName()), 0, 9, 1, 5)
		wantPriorities(t, subscribe(t, d, s), 0, 9, 1, 5)
	}
}

// TestPriorityUpgrade: a queue that was declared as the other type, on another version of
// RabbitMQ, is used as it is, by who declares, consumes or gets, and levels count; but its
// highest must be the same.
func TestPriorityUpgrade(t *testing.T) {
	d := connect(t)
	conn, err := d.publisher.connection(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	spec := adapters.QueueSpec{MaxPriority: 5}
	was := Quorum
	if conn.queueType("", spec) == Quorum {
		was = Classic
	}
	name := unique(t)
	err = d.Do(ctx, func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, queueArguments(spec, was))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	src := fromQueue(name, 1)
	wantErr(t, "no priorities", d.Declare(soon(t), src), adapters.ErrMismatch)
	for range 2 { // the second time it would know
		src.Queue.MaxPriority = 6
		wantErr(t, "other priorities", d.Declare(soon(t), src), adapters.ErrMismatch)
		src.Queue.MaxPriority = 5
		declare(t, d, src)
	}
	publishPrioritized(t, d, mandatory(name), 1, 9)
	m, err := connect(t).Get(soon(t), src)
	if err != nil || m.Message.UUID == "" {
		t.Fatalf("Get: %+v %v", m, err)
	}
	settle(t, m, adapters.Requeue)
	sub := subscribe(t, connect(t), src)
	if was == Classic {
		wantPriorities(t, sub, 9, 1)
	} else {
		receiveN(t, sub, 1)
	}
}
