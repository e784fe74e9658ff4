package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestUnbind(t *testing.T) {
	d := connect(t)
	x := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t)}
	src := adapters.Source{Endpoint: x, Group: "g", Keys: []string{"a", "b"}, Prefetch: 10}
	sub := subscribe(t, d, src)
	src.Keys = []string{"a", "never"}
	if err := d.Unbind(ctx, src); err != nil {
		t.Fatal(err)
	}
	publish(t, d, adapters.Publication{To: x, Key: "a"}, "a")
	publish(t, d, adapters.Publication{To: x, Key: "b"}, "b")
	receiveAll(t, sub, "b")
	src.Name += ".not"
	if err := d.Unbind(ctx, src); err != nil {
		t.Errorf("nothing to unbind: %v", err)
	}
	src.Group = ""
	wantErr(t, "private", d.Unbind(ctx, src), adapters.ErrInvalid)
}

func TestPassive(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	src := fromQueue(unique(t), 1)
	src.Passive = true
	_, err := d.Subscribe(ctx, src)
	wantErr(t, "Subscribe", err, adapters.ErrNotFound)
	wantErr(t, "Declare", d.Declare(ctx, src), adapters.ErrNotFound)
	_, err = d.Get(ctx, src)
	wantErr(t, "Get", err, adapters.ErrNotFound)

	// As it stands, whatever that is.
	declare(t, d, adapters.Source{Endpoint: src.Endpoint, Queue: adapters.QueueSpec{MaxLength: 7, MaxPriority: 3}})
	sub := subscribe(t, d, src)
	publish(t, d, mandatory(src.Name), "a")
	receiveAll(t, sub, "a")
	if err := v.DeleteQueue(ctx, src.Name); err != nil {
		t.Fatal(err)
	}
	_, err = sub.Receive(soon(t))
	wantErr(t, "Receive after the queue was deleted", err, adapters.ErrNotFound)
	if err := sub.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMismatch(t *testing.T) {
	d := connect(t)
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	for i, spec := range []adapters.QueueSpec{
		{MaxLength: 1}, {MaxLength: 1, Overflow: adapters.DropHead}, {MessageTTL: time.Second}, {MaxPriority: 1}, {AutoDelete: true}, {DeadLetter: q + ".dead"},
	} {
		src := adapters.Source{Endpoint: queueAt(q), Queue: spec, Prefetch: 1}
		err := d.Declare(ctx, src)
		wantErr(t, fmt.Sprintf("Declare %d", i), err, adapters.ErrMismatch)
		if e, ok := errors.AsType[*amqp091.Error](err); !ok || e.Code != amqp091.PreconditionFailed {
			t.Errorf("the cause is not there: %v", err)
		}
		_, err = d.Subscribe(ctx, src)
		wantErr(t, "Subscribe", err, adapters.ErrMismatch)
		_, err = d.Get(ctx, src)
		wantErr(t, "Get", err, adapters.ErrMismatch)
	}
	declare(t, d, fromQueue(q, 1))

	x := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t) + ".x"}
	publish(t, d, adapters.Publication{To: x, Key: "k"}, "a")
	x.Kind = adapters.Fanout
	wantErr(t, "Publish", d.Publish(ctx, adapters.Publication{To: x}, msg("a")), adapters.ErrMismatch)
	wantErr(t, "Declare", d.Declare(ctx, adapters.Source{Endpoint: x}), adapters.ErrMismatch)
	wantErr(t, "Declare a reply address", d.Declare(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}}), adapters.ErrInvalid)

	// And all that agrees is fine, twice.
	for i, spec := range []adapters.QueueSpec{
		{MaxLength: 1},
		{MaxLength: 1, Overflow: adapters.DropHead, DeadLetter: q},
		{MessageTTL: time.Second, DeadLetter: q},
		{MaxPriority: 1, DeadLetter: q},
		{AutoDelete: true, DeadLetter: q},
		{DeadLetter: q},
		{MaxLength: 5, DeadLetter: q},
	} {
		for range 2 {
			declare(t, d, adapters.Source{Endpoint: queueAt(fmt.Sprint(q, i)), Queue: spec})
		}
	}
}

func TestGet(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	src := fromQueue(unique(t), 0)
	_, err := d.Get(ctx, src)
	wantErr(t, "Get of nothing", err, adapters.ErrEmpty)
	publish(t, d, mandatory(src.Name), "a", "b")
	get := func(id string) adapters.Delivery {
		t.Helper()
		m, err := d.Get(soon(t), src)
		if err != nil || m.Message.UUID != id {
			t.Fatalf("Get: %+v %v, want %s", m, err, id)
		}
		return m
	}
	a, b := get("a"), get("b")
	_, err = d.Get(ctx, src)
	wantErr(t, "Get with all in hand", err, adapters.ErrEmpty)
	settle(t, b, adapters.Ack)
	settle(t, b, adapters.Requeue)
	settle(t, a, adapters.Requeue)
	if a = get("a"); !a.Redelivered {
		t.Error("not redelivered")
	}
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	<-a.Message.Context().Done()
	wantErr(t, "cause", context.Cause(a.Message.Context()), adapters.ErrSessionLost)
	wantErr(t, "late settle", a.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	eventually(t, "the message is back", func() bool {
		m, err := d.Get(soon(t), src)
		if err == nil {
			settle(t, m, adapters.Reject)
		}
		return err == nil
	})
	_, err = d.Get(ctx, src)
	wantErr(t, "Get of nothing", err, adapters.ErrEmpty)
	d.mu.Lock()
	defer d.mu.Unlock()
	if used := d.consumers[0].used; used > 1 { // the last settle may still be closing its channel
		t.Errorf("%d channels held", used)
	}
}

func TestDeadLetters(t *testing.T) {
	d := connect(t)
	q := unique(t)
	src := adapters.Source{Endpoint: queueAt(q), Queue: adapters.QueueSpec{DeadLetter: q + ".dead"}, Prefetch: 10}
	sub := subscribe(t, d, src)
	dead := subscribe(t, d, fromQueue(q+".dead", 10))
	p := mandatory(q)
	p.Key, p.Attempt = "k", 3
	publish(t, d, p, "a")
	settle(t, receive(t, sub, "a"), adapters.Reject)
	m := receive(t, dead, "a")
	if m.Key != "k" || m.Attempt != 3 || m.Message.Metadata["x-death"] != q+" rejected 1" ||
		m.Message.Metadata["x-first-death-reason"] != "rejected" || m.Message.Metadata["x-first-death-queue"] != q {
		t.Errorf("%+v %v", m, m.Message.Metadata)
	}
	settle(t, m, adapters.Ack)

	x := adapters.Endpoint{Kind: adapters.Topic, Name: q + ".x"}
	group := adapters.Source{Endpoint: x, Group: "g", Keys: []string{"#"}, Queue: src.Queue, Prefetch: 1}
	sub = subscribe(t, d, group)
	publish(t, d, adapters.Publication{To: x, Key: "its.key"}, "b")
	settle(t, receive(t, sub, "b"), adapters.Reject)
	if m = receive(t, dead, "b"); m.Key != "its.key" {
		t.Errorf("key %q", m.Key)
	}
}

// TestPatternSpellings: patterns are bound in their normal form, which is also how they
// are remembered; and Unbind takes away what somebody has bound as it was spelled.
func TestPatternSpellings(t *testing.T) {
	d := connect(t)
	name := unique(t)
	src := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Topic, Name: name}, Group: "g", Keys: []string{"a.#.#", "#.#.b.#.#"}, Prefetch: 1}
	declare(t, d, src)
	if kept := d.declared[sourceName(src)].Keys; !slices.Equal(kept, []string{"#.b.#", "a.#"}) {
		t.Errorf("remembered %q", kept)
	}
	err := d.Do(ctx, func(ch *amqp091.Channel) error { return ch.QueueBind(src.QueueName(), "c.#.#", name, false, nil) })
	if err != nil {
		t.Fatal(err)
	}
	less := src
	less.Keys = []string{"a.#", "#.#.#.b.#", "c.#.#"}
	if err := d.Unbind(soon(t), less); err != nil {
		t.Fatal(err)
	}
	if kept, ok := d.declared[sourceName(src)]; ok {
		t.Errorf("remembered still %+v", kept)
	}
	src.Keys = []string{"d"}
	sub := subscribe(t, d, src)
	for _, key := range []string{"a", "b", "c", "d"} {
		publish(t, d, adapters.Publication{To: src.Endpoint, Key: key}, key)
	}
	receiveAll(t, sub, "d")
	nothing(t, sub)
}
