package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// byLadder makes a publication to a queue take the ladder when it is delayed, by a driver that
// usesAtOnce returns.
func byLadder(p adapters.Publication) adapters.Publication {
	if !p.To.Kind.IsExchange() {
		p.Key = "a.key"
	}
	return p
}

// usesAtOnce has a driver not wait until the queue of a delay is a second old, and know byLadder.
func usesAtOnce(d *Driver) *Driver {
	d.delayQueues.settles, d.delayQueues.ladder = 0, "a.key"
	return d
}

// waysOfDelay are those that a delayed message can take to a queue.
var waysOfDelay = map[string]func(adapters.Publication) adapters.Publication{
	"queue":  func(p adapters.Publication) adapters.Publication { return p },
	"ladder": byLadder,
}

// A delay is never cut, nor made longer by more than a twentieth, or by one unit, and there are
// few.
func TestRoundDelay(t *testing.T) {
	values := map[uint64]bool{}
	const hour, month = uint64(time.Hour / delayUnit), uint64(maxDelay / delayUnit)
	for units := uint64(1); units <= month; units += 1 + units/hour {
		r := roundDelay(units)
		if r < units || 20*(r-units) > units {
			t.Fatalf("%d units become %d", units, r)
		}
		if roundDelay(r) != r || r > month {
			t.Fatalf("%d units become %d, and that %d", units, r, roundDelay(r))
		}
		values[r] = true
	}
	if len(values) > 1100 {
		t.Errorf("%d values", len(values))
	}
	for _, s := range []uint64{1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600, 900, 1800, 3600, 5400, 86400, 129600, 604800, 2592000} {
		if !values[10*s] {
			t.Errorf("%d s is none of them", s)
		}
	}
}

// deathsOf returns the queues that a message has expired in, the last one first.
func deathsOf(d amqp091.Delivery) (queues []string) {
	list, _ := d.Headers[metadataDeaths].([]any)
	for _, item := range list {
		table, _ := item.(amqp091.Table)
		queues = append(queues, text(table["queue"]))
	}
	return queues
}

// arrive takes a message from a queue, and returns the queues that it has expired in.
func arrive(t *testing.T, ch *amqp091.Channel, queue, id string) []string {
	t.Helper()
	m := look(t, ch, queue)
	if m.MessageId != id {
		t.Errorf("%s came, want %s", m.MessageId, id)
	}
	if err := m.Ack(false); err != nil {
		t.Fatal(err)
	}
	return deathsOf(m)
}

func wantWay(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("it came over %q, want %q", got, want)
	}
}

// TestDelayQueue: a delayed message takes one queue, and none has a copy, while its destination is
// bound; else it takes the way that knows the destination by name, and is dropped if there is none.
func TestDelayQueue(t *testing.T) {
	v := amqptest.Shared(t)
	d, ch := usesAtOnce(connectTo(t, v.URL)), plainClient(t, v.URL)
	const q, delay = "q", 2 * time.Second // in which a busy broker deletes a queue
	destination := toQueues + q
	own, last := delayQueueName(20, destination), destinationQueue(destination)
	declare(t, d, fromQueue(q, 1))
	publish(t, d, delayed(toQueue(q), delay), "first")
	wantWay(t, arrive(t, ch, q, "first"), own)

	// From here on the queue that drops what comes keeps it.
	if _, err := ch.QueueDelete(discardQueue, false, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare(discardQueue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	publish(t, d, delayed(toQueue(q), delay), "second")
	wantWay(t, arrive(t, ch, q, "second"), own)
	if kept, ok, err := ch.Get(discardQueue, true); ok || err != nil {
		t.Errorf("there is a copy of %s: %v", kept.MessageId, err)
	}

	publish(t, d, delayed(toQueue(q), delay), "to one that is made again")
	if err := d.Delete(soon(t), q, 0); err != nil {
		t.Fatal(err)
	}
	declare(t, d, fromQueue(q, 1))
	wantWay(t, arrive(t, ch, q, "to one that is made again"), last, own)
	if m := look(t, ch, discardQueue); m.MessageId != "to one that is made again" || m.Ack(false) != nil {
		t.Errorf("there is a copy of %s", m.MessageId)
	}

	publish(t, d, delayed(toQueue(q), delay), "to one that is gone")
	if err := d.Delete(soon(t), q, 0); err != nil {
		t.Fatal(err)
	}
	if m := look(t, ch, discardQueue); m.MessageId != "to one that is gone" || m.Ack(false) != nil {
		t.Errorf("%s is dropped", m.MessageId)
	}

	declare(t, d, fromQueue(q, 1))
	stale(d)
	publish(t, d, delayed(toQueue(q), delay), "bound again")
	wantWay(t, arrive(t, ch, q, "bound again"), own)
}

// TestDelayQueueOfExchange: a delayed message to an exchange takes one queue, and one that was
// deleted is bound again when it is made again.
func TestDelayQueueOfExchange(t *testing.T) {
	v := amqptest.Shared(t)
	d, ch := usesAtOnce(connectTo(t, v.URL)), plainClient(t, v.URL)
	p := delayed(adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "x"}, Key: "a.b"}, 3*time.Second) // in which a busy broker binds a queue
	declare(t, d, fromQueue("q", 1))
	for _, id := range []string{"first", "second"} {
		publish(t, d, p, id)
		if err := ch.QueueBind("q", "a.*", "x", false, nil); err != nil {
			t.Fatal(err)
		}
		m := look(t, ch, "q")
		wantWay(t, deathsOf(m), delayQueueName(30, "exchange.x"))
		if m.MessageId != id || m.RoutingKey != "a.b" || m.Ack(false) != nil {
			t.Errorf("%s came with the key %s", m.MessageId, m.RoutingKey)
		}
		if err := ch.ExchangeDelete("x", false, false); err != nil {
			t.Fatal(err)
		}
		stale(d)
	}
}

// stale has a driver look again at what it has declared for delays.
func stale(d *Driver) {
	conn := d.publisher.current()
	conn.mu.Lock()
	defer conn.mu.Unlock()
	for name, q := range conn.delayQueues {
		q.checked = time.Time{}
		conn.delayQueues[name] = q
	}
}

// TestDelayQueuesAreFew: of many delays the first ones have queues, and the others come as well.
func TestDelayQueuesAreFew(t *testing.T) {
	v := amqptest.Shared(t)
	d, ch := usesAtOnce(connectTo(t, v.URL)), plainClient(t, v.URL)
	declare(t, d, fromQueue("q", 1))
	for i := range mostDelayQueues + 3 {
		publish(t, d, delayed(toQueue("q"), time.Duration(i+1)*delayUnit), fmt.Sprint(i))
	}
	publish(t, d, delayed(toQueue("q"), delayUnit), "as before")
	own := map[string]bool{}
	for range mostDelayQueues + 4 {
		m := look(t, ch, "q")
		if way := deathsOf(m); len(way) == 1 {
			own[way[0]] = true
		}
		if err := m.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
	if len(own) != mostDelayQueues || !own[delayQueueName(1, "queue.q")] {
		t.Errorf("%d delays had queues: %v", len(own), own)
	}
	_, err := d.Inspect(soon(t), delayQueueName(mostDelayQueues+1, "queue.q"))
	wantErr(t, "Inspect one more", err, adapters.ErrNotFound)
}

// TestWaysOfDelays: which way a delayed message takes.
func TestWaysOfDelays(t *testing.T) {
	d := usesAtOnce(connectTo(t, amqptest.Shared(t).URL, func(c *Config) { c.Migrating = []string{"moved"} }))
	x := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Topic, Name: "x"}, Key: "k"}
	for name, c := range map[string]struct {
		p     adapters.Publication
		delay time.Duration
		want  string
	}{
		"short":                  {toQueue("q"), time.Millisecond, "motif.delay.100ms.queue.q"},
		"rounded":                {toQueue("q"), 61 * time.Second, "motif.delay.63000ms.queue.q"},
		"an hour":                {toQueue("q"), time.Hour, "motif.delay.3600000ms.queue.q"},
		"more":                   {toQueue("q"), time.Hour + time.Second, "motif.delay.3780000ms.queue.q"},
		"a day":                  {toQueue("q"), 24 * time.Hour, "motif.delay.86400000ms.queue.q"},
		"with a key":             {adapters.Publication{To: toQueue("q").To, Key: "k"}, time.Second, "motif.delay.1000ms.queue.q"},
		"to one that is moved":   {toQueue("moved"), time.Second, rungName(3)},
		"to an exchange":         {x, time.Second, "motif.delay.1000ms.exchange.x"},
		"to one with a long one": {toQueue(strings.Repeat("n", 200)), time.Second, delayQueueName(10, "queue."+strings.Repeat("n", 200))},
	} {
		p := delayed(c.p, c.delay)
		if r, err := d.prepare(soon(t), &p); err != nil || r.exchange != c.want {
			t.Errorf("%s: %q, want %q: %v", name, r.exchange, c.want, err)
		}
	}
}

// TestNewDelayQueue: a message waits in a queue that is a second old, or on the ladder.
func TestNewDelayQueue(t *testing.T) {
	v := amqptest.Shared(t)
	d, ch := connectTo(t, v.URL), plainClient(t, v.URL)
	own, last := delayQueueName(1, "queue.q"), destinationQueue("queue.q")
	declare(t, d, fromQueue("q", 1))
	send := func(id string) []string {
		t.Helper()
		publish(t, d, delayed(toQueue("q"), delayUnit), id)
		return arrive(t, ch, "q", id)
	}
	start := time.Now()
	way := send("first")
	if took := time.Since(start); took < queueSettles { // else it was waited for
		wantWay(t, way, last, rungName(0))
	}
	if _, err := d.Inspect(soon(t), own); err != nil {
		t.Error(err)
	}
	eventually(t, "it is used", func() bool { return slices.Equal(send("another"), []string{own}) })
	if took := time.Since(start); took < queueSettles {
		t.Errorf("it is used after %v", took)
	}
}

// TestDelayQueueRights: who may not declare a queue for a delay uses it if it is there, and the
// ladder else; and where the destination may not be bound, it is reached by its name.
func TestDelayQueueRights(t *testing.T) {
	v := amqptest.Shared(t)
	admin := usesAtOnce(connectTo(t, v.URL))
	ch := plainClient(t, v.URL)
	const delay = 2 * delayUnit
	own, last := delayQueueName(2, "queue.q"), destinationQueue("queue.q")
	declare(t, admin, fromQueue("q", 1))
	as := func(r rights) *Driver {
		t.Helper()
		if err := v.AddUser(ctx, r.name, password); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = v.DeleteUser(ctx, r.name) })
		if err := v.SetPermissions(ctx, r.name, r.configure, r.write, r.read); err != nil {
			t.Fatal(err)
		}
		return usesAtOnce(connectTo(t, v.URLFor(r.name, password)))
	}
	const delays = `^(motif\.delay|amq\.(gen|default))`
	publish(t, as(rights{"clerk", delays, delays, delays}), delayed(toQueue("q"), delay), "unbound")
	wantWay(t, arrive(t, ch, "q", "unbound"), last, own)
	if err := errFirstOf(ch.QueueDelete(own, false, false, false)); err != nil {
		t.Fatal(err)
	}

	publish(t, admin, delayed(byLadder(toQueue("q")), delay), "declares the ladder")
	wantWay(t, arrive(t, ch, "q", "declares the ladder"), last, rungName(1))
	publish(t, as(rights{"guest1", "^$", delays, "^$"}), delayed(toQueue("q"), delay), "no rights")
	wantWay(t, arrive(t, ch, "q", "no rights"), last, rungName(1))

	publish(t, admin, delayed(toQueue("q"), delay), "declares the queue")
	wantWay(t, arrive(t, ch, "q", "declares the queue"), own)
	late := as(rights{"guest2", "^$", delays, "^$"})
	publish(t, late, delayed(toQueue("q"), delay), "uses it")
	wantWay(t, arrive(t, ch, "q", "uses it"), own)
	stale(late)
	publish(t, late, delayed(toQueue("q"), delay), "still")
	wantWay(t, arrive(t, ch, "q", "still"), own)
}

func errFirstOf[T any](_ T, err error) error { return err }

// TestKeyOverDelayQueue: a message that waited in a queue of its own has its Key.
func TestKeyOverDelayQueue(t *testing.T) {
	v := amqptest.Shared(t)
	d, ch := usesAtOnce(connectTo(t, v.URL)), plainClient(t, v.URL)
	to := adapters.Publication{To: toQueue("q").To, Key: "k.1"}
	declare(t, d, fromQueue("q", 1))
	publish(t, d, delayed(to, delayUnit), "seen")
	wantWay(t, arrive(t, ch, "q", "seen"), delayQueueName(1, "queue.q"))
	sub := subscribe(t, d, fromQueue("q", 1))
	publish(t, d, delayed(to, delayUnit), "received")
	m := receive(t, sub, "received")
	if m.Key != "k.1" {
		t.Errorf("it came with the key %q", m.Key)
	}
	settle(t, m, adapters.Ack)
}

// TestRetryTakesDelayQueue: the next attempt of a work queue's message waits in a queue of its own.
func TestRetryTakesDelayQueue(t *testing.T) {
	d := usesAtOnce(connectTo(t, amqptest.Shared(t).URL))
	bus := patterns.New(d)
	defer bus.Close(ctx)
	q := patterns.NewWorkQueue[string](bus, "q")
	again := make(chan struct{})
	if _, err := q.Work(ctx, func(ctx context.Context, _ string) error {
		if d, _ := patterns.DeliveryFrom(ctx); d.Attempt == 1 {
			return patterns.RetryAfter(delayUnit, errors.New("once"))
		}
		close(again)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := q.Send(soon(t), "a"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-again:
	case <-soon(t).Done():
		t.Fatal("it does not come again")
	}
	if _, err := d.Inspect(soon(t), delayQueueName(1, "queue.q")); err != nil {
		t.Error(err)
	}
	_, err := d.Inspect(soon(t), rungName(0))
	wantErr(t, "Inspect the ladder", err, adapters.ErrNotFound)
}
