package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
)

// queue returns a source and an address of a queue of that name.
func queue(name string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name}, Prefetch: prefetch}
}

// group returns the source of a group's queue.
func group(kind adapters.Kind, name, group string, keys ...string) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: kind, Name: name}, Group: group, Keys: keys, Prefetch: 10}
}

// private returns the source of a private queue.
func private(kind adapters.Kind, name string, keys ...string) adapters.Source {
	return group(kind, name, "", keys...)
}

// to returns a publication to where s gets its messages from.
func to(s adapters.Source) adapters.Publication { return adapters.Publication{To: s.Endpoint} }

// text returns messages with these ids, and a payload made of each.
func text(ids ...string) []*message.Message {
	msgs := make([]*message.Message, len(ids))
	for i, id := range ids {
		msgs[i] = message.NewMessage(id, []byte("payload of "+id))
	}
	return msgs
}

// numbered returns ids prefix-1 to prefix-n.
func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i+1)
	}
	return ids
}

// declare declares s, which must work.
func (t *trial) declare(d adapters.Driver, s adapters.Source) {
	t.must(d.Declare(t.soon(), s), "declaring "+s.String())
}

// declared returns a client, and a queue of the case's own that it has declared.
func (t *trial) declared(prefetch int) (*history.Driver, adapters.Source) {
	d, s := t.connect(), queue(t.name("queue"), prefetch)
	t.declare(d, s)
	return d, s
}

// subscribed returns a client, and a queue of the case's own that it has subscribed to.
func (t *trial) subscribed(prefetch int) (*history.Driver, adapters.Source, adapters.Subscription) {
	d, s := t.connect(), queue(t.name("queue"), prefetch)
	return d, s, t.subscribe(d, s)
}

// publish publishes messages with these ids in one call, which must work.
func (t *trial) publish(d adapters.Driver, p adapters.Publication, ids ...string) {
	t.must(d.Publish(t.soon(), p, text(ids...)...), fmt.Sprintf("publishing %q to %v", ids, p.To))
}

// subscribe subscribes, which must work.
func (t *trial) subscribe(d adapters.Driver, s adapters.Source) adapters.Subscription {
	sub, err := d.Subscribe(t.soon(), s)
	t.must(err, "subscribing to "+s.String())
	return sub
}

// receive returns the next message, which must come.
func (t *trial) receive(sub adapters.Subscription) adapters.Delivery {
	d, err := sub.Receive(t.soon())
	if errors.Is(err, context.DeadlineExceeded) {
		t.fatalf("no message came within %v", patience)
	}
	t.must(err, "receiving")
	return d
}

// settle settles a delivery, which must work.
func (t *trial) settle(d adapters.Delivery, o adapters.Outcome) {
	t.must(d.Settle(t.soon(), o), fmt.Sprintf("settling %s by %v", d.Message.UUID, o))
}

// take receives and acknowledges the next n messages, and returns their ids.
func (t *trial) take(sub adapters.Subscription, n int) []string {
	ids := make([]string, 0, n)
	for range n {
		d := t.receive(sub)
		t.settle(d, adapters.Ack)
		ids = append(ids, d.Message.UUID)
	}
	return ids
}

// hold receives the next n messages, and leaves them unsettled.
func (t *trial) hold(sub adapters.Subscription, n int) []adapters.Delivery {
	held := make([]adapters.Delivery, 0, n)
	for range n {
		held = append(held, t.receive(sub))
	}
	return held
}

// get takes the next message of a queue without waiting, which must be there.
// Only for adapters with CanGet.
func (t *trial) get(d adapters.Getter, s adapters.Source) adapters.Delivery {
	got, err := d.Get(t.soon(), s)
	t.must(err, "taking a message of "+s.String())
	return got
}

// silent checks that nothing comes for a while.
func (t *trial) silent(sub adapters.Subscription, why string) {
	ctx, cancel := context.WithTimeout(t.ctx, silence)
	defer cancel()
	switch d, err := sub.Receive(ctx); {
	case err == nil:
		t.errorf("%q was delivered: %s", d.Message.UUID, why)
	case !errors.Is(err, context.DeadlineExceeded):
		t.errorf("receiving while nothing comes: %v", err)
	}
}

// same checks that two lists are equal.
func same[T comparable](t *trial, got, want []T, what string) {
	if slices.Equal(got, want) {
		return
	}
	if len(got) <= legible && len(want) <= legible {
		t.errorf("%s: got %v, want %v", what, got, want)
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	around := func(list []T) []T { return list[i:min(i+5, len(list))] }
	t.errorf("%s: got %d, want %d; from number %d on got %v, want %v", what, len(got), len(want), i+1, around(got), around(want))
}

// legible is how long a list may be to be shown as a whole.
const legible = 20

// sameSet checks that two lists of ids are equal in some order.
func (t *trial) sameSet(got, want []string, what string) {
	same(t, slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)), what)
}

// ids returns the ids of deliveries.
func ids(held []adapters.Delivery) []string {
	var list []string
	for _, d := range held {
		list = append(list, d.Message.UUID)
	}
	return list
}

// received is a delivery, and where it came from.
type received struct {
	adapters.Delivery
	from adapters.Subscription
}

// either returns the next message of any of some subscriptions, which must be
// the only one that comes.
func (t *trial) either(subs ...adapters.Subscription) received {
	ctx, cancel := context.WithCancel(t.soon())
	defer cancel()
	var waiting sync.WaitGroup
	got := make(chan received, len(subs))
	for _, sub := range subs {
		waiting.Go(func() {
			if d, err := sub.Receive(ctx); err == nil {
				got <- received{d, sub}
				cancel()
			}
		})
	}
	waiting.Wait() // or a late one would take a message that is meant for somebody else
	close(got)
	first, ok := <-got
	if !ok {
		t.fatalf("no message came within %v", patience)
	}
	if second, ok := <-got; ok {
		t.fatalf("%q came, and %q", first.Message.UUID, second.Message.UUID)
	}
	return first
}

// sameMessage checks that a message is as it was published.
func (t *trial) sameMessage(got, want *message.Message, what string) {
	if what != "" {
		what += ": "
	}
	switch {
	case got.UUID != want.UUID:
		t.errorf("%sthe id is %.300q, not %.300q", what, got.UUID, want.UUID)
	case string(got.Payload) != string(want.Payload):
		t.errorf("%sthe payload of %q is of %d bytes, beginning with %.100q; not of %d, beginning with %.100q", what, want.UUID, len(got.Payload), got.Payload, len(want.Payload), want.Payload)
	case !maps.Equal(got.Metadata, want.Metadata):
		t.errorf("%sthe metadata of %q is %.300q, not %.300q", what, want.UUID, fmt.Sprint(got.Metadata), fmt.Sprint(want.Metadata))
	}
}

// blames checks that err is a *PublishError for some of the messages, all
// for the same reason.
func (t *trial) blames(err, want error, msgs []*message.Message, indexes ...int) {
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok {
		t.errorf("publishing %.300q: the error is %v, not a *PublishError with %v", uuids(msgs), err, want)
		return
	}
	var got []int
	for _, f := range failed.Failed {
		got = append(got, f.Index)
		t.is(f.Err, want, fmt.Sprintf("message %d", f.Index))
		if f.Index < 0 || f.Index >= len(msgs) || f.UUID != msgs[f.Index].UUID {
			t.errorf("publishing %.300q: the error names %.300q as message %d", uuids(msgs), f.UUID, f.Index)
		}
	}
	if !slices.Equal(got, indexes) {
		t.errorf("publishing %.300q: the error is about messages %v, not %v", uuids(msgs), got, indexes)
	}
}

func uuids(msgs []*message.Message) []string {
	list := make([]string, len(msgs))
	for i, m := range msgs {
		list[i] = m.UUID
	}
	return list
}
