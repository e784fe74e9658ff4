package memory

import (
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

func TestInequivalentRedeclarationIsRefusedAndChangesNothing(t *testing.T) {
	base := adapters.QueueSpec{MaxLength: 10}
	with := func(change func(*adapters.QueueSpec)) adapters.QueueSpec {
		spec := base
		change(&spec)
		return spec
	}
	for name, spec := range map[string]adapters.QueueSpec{
		"dead letters": with(func(q *adapters.QueueSpec) { q.DeadLetter = "q.dead" }),
		"max length":   with(func(q *adapters.QueueSpec) { q.MaxLength = 11 }),
		"overflow":     with(func(q *adapters.QueueSpec) { q.Overflow = adapters.DropHead }),
		"TTL":          with(func(q *adapters.QueueSpec) { q.MessageTTL = time.Second }),
		"priority":     with(func(q *adapters.QueueSpec) { q.MaxPriority = 1 }),
		"auto-delete":  with(func(q *adapters.QueueSpec) { q.AutoDelete = true }),
	} {
		t.Run(name, func(t *testing.T) {
			b, c := connect(t)
			s := adapters.Source{Endpoint: endpoint(adapters.Direct), Group: "g", Keys: []string{"k"}, Prefetch: 1, Queue: base}
			for range 2 {
				declare(t, c, s)
			}
			s.Queue, s.Keys = spec, []string{"k2"}
			wantErr(t, "Declare", c.Declare(ctx, s), adapters.ErrMismatch)
			_, err := c.Subscribe(ctx, s)
			wantErr(t, "Subscribe", err, adapters.ErrMismatch)
			_, err = c.Get(ctx, s)
			wantErr(t, "Get", err, adapters.ErrMismatch)
			if info, _ := b.Queue("the-direct:g"); info != (QueueInfo{Bindings: 1}) {
				t.Errorf("after a refused declaration: %+v", info)
			}
			if len(b.routes.queues) != 1 {
				t.Errorf("after a refused declaration there are %d queues", len(b.routes.queues))
			}
		})
	}
}

func TestExchangesShareOneNamespace(t *testing.T) {
	b, c := connect(t)
	declare(t, c, adapters.Source{Endpoint: endpoint(adapters.Direct), Keys: []string{"k"}})
	for _, kind := range []adapters.Kind{adapters.Fanout, adapters.Topic} {
		s := from(kind, "g", "k")
		if s.Name = "the-direct"; kind == adapters.Fanout {
			s.Keys = nil
		}
		s.Queue.DeadLetter = "dead"
		wantErr(t, "Declare", c.Declare(ctx, s), adapters.ErrMismatch)
	}
	if len(b.routes.queues) > 0 {
		t.Error("a refused declaration made a queue")
	}
	declare(t, c, fromQueue("the-direct", 1)) // queues have names of their own
}

func TestDeadLetterQueueIsDeclaredWithItsSource(t *testing.T) {
	b, c := connect(t)
	s := fromQueue("q", 1)
	s.Queue.DeadLetter = "q.dead"
	declare(t, c, s)
	wantQueue(t, b, "q.dead", 0, 0, 0)
	declare(t, c, fromQueue("q.dead", 1))

	// Both or neither.
	taken := fromQueue("taken", 1)
	taken.Queue.MaxLength = 1
	declare(t, c, taken)
	s = fromQueue("p", 1)
	s.Queue.DeadLetter = "taken"
	wantErr(t, "Declare", c.Declare(ctx, s), adapters.ErrMismatch)
	if _, ok := b.Queue("p"); ok {
		t.Error("a refused declaration made a queue")
	}
}

func TestPassiveUsesWhatIsThere(t *testing.T) {
	b, c := connect(t)
	s := fromQueue("q", 1)
	s.Passive = true
	_, err := c.Subscribe(ctx, s)
	wantErr(t, "Subscribe", err, adapters.ErrNotFound)
	_, err = c.Get(ctx, s)
	wantErr(t, "Get", err, adapters.ErrNotFound)
	wantErr(t, "Declare", c.Declare(ctx, s), adapters.ErrNotFound)

	full := fromQueue("q", 1)
	full.Queue.MaxLength = 1
	declare(t, c, full)
	sub := subscribe(t, c, s)
	publish(t, c, toQueue("q"), "a")
	receiveAll(t, sub, "a")

	if err := b.DeleteQueue("q"); err != nil {
		t.Fatal(err)
	}
	_, err = sub.Receive(ctx)
	wantErr(t, "Receive", err, adapters.ErrNotFound)
	if _, ok := b.Queue("q"); ok {
		t.Error("a passive subscription declared its queue")
	}
}

func TestAutoDeleteGoesWithItsLastConsumer(t *testing.T) {
	b, c := connect(t)
	s := fromQueue("q", 1)
	s.Queue.AutoDelete = true
	declare(t, c, s)
	wantQueue(t, b, "q", 0, 0, 0) // never had one
	if _, err := c.Get(ctx, s); err == nil {
		t.Fatal("Get from an empty queue")
	}
	first, second := subscribe(t, c, s), subscribe(t, c, s)
	publish(t, c, toQueue("q"), "a", "b", "c")
	d := receive(t, first, "a")
	_ = first.Stop()
	wantQueue(t, b, "q", 1, 2, 1)
	_ = second.Stop()
	if _, ok := b.Queue("q"); ok {
		t.Error("the queue is still there")
	}
	settle(t, d, adapters.Requeue) // harmless
	if n := len(c.session.consumers); n != 0 {
		t.Errorf("the session still knows %d consumers", n)
	}
}

func TestAutoDeleteStaysForAGet(t *testing.T) {
	b, c := connect(t)
	s := fromQueue("q", 1)
	s.Queue.AutoDelete = true
	declare(t, c, s)
	publish(t, c, toQueue("q"), "a")
	if _, err := c.Get(ctx, s); err != nil {
		t.Fatal(err)
	}
	c.Cut() // a Get is no consumer, so its end is not the last one's
	wantQueue(t, b, "q", 1, 0, 0)
}

func TestPrivateQueuesGoWithTheirSubscription(t *testing.T) {
	b, c := connect(t)
	for _, s := range []adapters.Source{
		from(adapters.Fanout, ""), from(adapters.Direct, "", "k"), from(adapters.Topic, "", "k.#"),
	} {
		sub := subscribe(t, c, s)
		name := sub.Address()
		if !strings.HasPrefix(name, "amq.gen-") {
			t.Errorf("a private queue is called %q", name)
		}
		key := ""
		if s.Kind.UsesKeys() {
			key = "k"
		}
		publish(t, c, to(s.Kind, key), "a", "b")
		d := receive(t, sub, "a")
		wantQueue(t, b, name, 0, 2, 1)
		_ = sub.Stop()
		if _, ok := b.Queue(name); ok {
			t.Errorf("%s is still there", name)
		}
		settle(t, d, adapters.Requeue)
		settle(t, d, adapters.Ack)
		p := to(s.Kind, key)
		p.Mandatory = true
		wantErr(t, "publish", c.Publish(ctx, p, msg("c")), adapters.ErrUnroutable)
	}
	if n := len(c.session.consumers); n != 0 {
		t.Errorf("the session still knows %d consumers", n)
	}
	for name, x := range b.routes.exchanges {
		if n := len(x.byKey) + len(x.patterns.values); n != 0 {
			t.Errorf("%s still has %d bindings", name, n)
		}
	}
}

func TestDeclareOfAPrivateSourceDeclaresItsExchange(t *testing.T) {
	b, c := connect(t)
	declare(t, c, from(adapters.Fanout, ""))
	if len(b.routes.queues) != 0 || b.routes.exchanges["the-fanout"] == nil {
		t.Errorf("%d queues, exchange %v", len(b.routes.queues), b.routes.exchanges["the-fanout"])
	}
}

func TestSubscribeKeepsItsOwnKeys(t *testing.T) {
	_, c := connect(t)
	keys := []string{"a"}
	sub := subscribe(t, c, from(adapters.Direct, "", keys...))
	keys[0] = "b"
	c.Cut()
	publish(t, c, to(adapters.Direct, "a"), "1")
	receive(t, sub, "1")
}

func TestDeleteQueueCancelsConsumersAndTheyHeal(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, from(adapters.Direct, "g", "k"))
	publish(t, c, to(adapters.Direct, "k"), "a", "b")
	d := receive(t, sub, "a")
	if err := b.DeleteQueue("the-direct:g"); err != nil {
		t.Fatal(err)
	}
	nothing(t, sub) // what was in it is gone
	if err := d.Message.Context().Err(); err != nil {
		t.Errorf("the session is alive, but the message has context error %v", err)
	}
	settle(t, d, adapters.Requeue) // harmless
	nothing(t, sub)
	publish(t, c, to(adapters.Direct, "k"), "c") // bound again
	receiveAll(t, sub, "c")
	wantErr(t, "DeleteQueue", b.DeleteQueue("none"), adapters.ErrNotFound)
}

func TestDeleteExchangeTakesItsBindings(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, from(adapters.Topic, "g", "#"))
	if err := b.DeleteExchange("the-topic"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "DeleteExchange", b.DeleteExchange("the-topic"), adapters.ErrNotFound)
	publish(t, c, to(adapters.Topic, "k"), "a")
	nothing(t, sub)
	declare(t, c, from(adapters.Topic, "g", "#"))
	publish(t, c, to(adapters.Topic, "k"), "b")
	receive(t, sub, "b")
}

func TestInvalid(t *testing.T) {
	_, c := connect(t)
	_, err := c.Subscribe(ctx, fromQueue("q", 0))
	wantErr(t, "prefetch 0", err, adapters.ErrInvalid)
	wantErr(t, "reserved name", c.Declare(ctx, fromQueue("amq.gen-x", 1)), adapters.ErrInvalid)
	wantErr(t, "key of a fanout", c.Publish(ctx, to(adapters.Fanout, "k"), msg("a")), adapters.ErrInvalid)
	wantErr(t, "no name", c.PublishAsync(ctx, toQueue(""), msg("a"), nil), adapters.ErrInvalid)
}
