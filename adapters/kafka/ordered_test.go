package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/motifmq/motif/adapters"
)

// newLine returns a source of a queue with a single active consumer, and its n messages m0, m1, ...
func newLine(ctx context.Context, t *testing.T, d *Driver, prefetch, n int) adapters.Source {
	t.Helper()
	s := newQueue(prefetch)
	s.Queue.SingleActive = true
	must(t, d.Declare(ctx, s))
	var all []*message.Message
	for i := range n {
		all = append(all, message.NewMessage(fmt.Sprint("m", i), []byte(fmt.Sprint("m", i))))
	}
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, all...))
	return s
}

func subscribe(ctx context.Context, t *testing.T, d *Driver, s adapters.Source) *subscription {
	t.Helper()
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	return sub.(*subscription)
}

func receiveAll(ctx context.Context, t *testing.T, sub adapters.Subscription, n int) (all []adapters.Delivery) {
	t.Helper()
	for range n {
		all = append(all, receive(ctx, t, sub))
	}
	return all
}

// are checks which messages came, and what they say of how often they had come back.
func are(t *testing.T, got []adapters.Delivery, want ...string) {
	t.Helper()
	var is []string
	for _, d := range got {
		is = append(is, fmt.Sprint(d.Message.UUID, " ", d.Returned))
		if string(d.Message.Payload) != d.Message.UUID || d.Redelivered != (d.Returned > 0) {
			t.Errorf("%s came with %q, redelivered %v", d.Message.UUID, d.Message.Payload, d.Redelivered)
		}
	}
	if !slices.Equal(is, want) {
		t.Errorf("came %q, not %q", is, want)
	}
}

// areIn checks which messages came.
func areIn(t *testing.T, got []adapters.Delivery, want ...string) {
	t.Helper()
	var is []string
	for _, d := range got {
		is = append(is, d.Message.UUID)
	}
	if !slices.Equal(is, want) {
		t.Errorf("came %q, not %q", is, want)
	}
}

// TestOrderedRequeue: what is requeued comes next, at its place, as it was published.
func TestOrderedRequeue(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 4, 6)
	sub := subscribe(ctx, t, d, s)
	held := receiveAll(ctx, t, sub, 3)
	are(t, held, "m0 0", "m1 0", "m2 0")
	held[0].Message.Payload[0], held[0].Message.Metadata["another"] = 'x', "one"
	for _, i := range []int{2, 0} {
		must(t, held[i].Settle(ctx, adapters.Requeue))
		must(t, held[i].Settle(ctx, adapters.Ack)) // which changes nothing
	}
	again := receiveAll(ctx, t, sub, 3)
	are(t, again, "m0 1", "m2 1", "m3 0")
	if len(again[0].Message.Metadata) != 0 {
		t.Errorf("it has %v", again[0].Message.Metadata)
	}
}

// TestOrderedTakeover: who is active next gets what the one before had not settled, in order and
// counted, and nothing that it had.
func TestOrderedTakeover(t *testing.T) {
	t.Parallel()
	one, ctx := newDriver(t)
	other, _ := newDriver(t)
	s := newLine(ctx, t, one, 6, 8)
	first, second := subscribe(ctx, t, one, s), subscribe(ctx, t, other, s)
	if n := second.Consumers(); n != 2 {
		t.Errorf("%d consumers", n)
	}
	held := receiveAll(ctx, t, first, 5)
	must(t, held[1].Settle(ctx, adapters.Ack))
	must(t, held[3].Settle(ctx, adapters.Ack))
	must(t, held[4].Settle(ctx, adapters.Requeue))
	are(t, receiveAll(ctx, t, first, 1), "m4 1")
	must(t, one.Close(ctx)) // with m0, m2 and m4 in hand, and m5 and so on ready
	if err := held[0].Settle(ctx, adapters.Ack); !errors.Is(err, adapters.ErrClosed) {
		t.Errorf("settling with a driver that is closed: %v", err)
	}
	all := receiveAll(ctx, t, second, 6)
	are(t, all, "m0 1", "m2 1", "m4 2", "m5 0", "m6 0", "m7 0")
	for _, d := range all[:5] {
		must(t, d.Settle(ctx, adapters.Ack))
	}

	// A queue as it stands has one active consumer, too.
	passive := s
	passive.Queue, passive.Passive = adapters.QueueSpec{}, true
	third := subscribe(ctx, t, other, passive)
	if third.at.line == nil || third.at.line.isActive() || !second.at.line.isActive() {
		t.Error("not the second consumer is active")
	}
	must(t, second.StopAndReturn())
	if err := all[5].Settle(ctx, adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) {
		t.Errorf("settling what was given back: %v", err)
	}
	last := receive(ctx, t, third)
	are(t, []adapters.Delivery{last}, "m7 1")
	must(t, last.Settle(ctx, adapters.Ack))
	must(t, third.Stop())
	<-third.gone
	starts, err := other.admin.ListStartOffsets(ctx, queueTopic(s.Name))
	must(t, err)
	if start, _ := starts.Lookup(queueTopic(s.Name), 0); start.Offset != 8 {
		t.Errorf("the topic begins at %d, though 8 are settled", start.Offset)
	}
}

// TestOrderedStop: what was received when a subscription is stopped can be settled, and nobody gets
// what is behind it before. What was not received was not delivered.
func TestOrderedStop(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 4, 6)
	first := subscribe(ctx, t, d, s)
	held := receiveAll(ctx, t, first, 2)
	must(t, first.Stop())
	second := subscribe(ctx, t, d, s)
	if !first.at.line.isActive() || second.at.line.isActive() {
		t.Error("another consumer is active, while something is in hand")
	}
	must(t, held[0].Settle(ctx, adapters.Ack))
	must(t, held[1].Settle(ctx, adapters.Requeue))
	are(t, receiveAll(ctx, t, second, 3), "m1 1", "m2 0", "m3 0")
}

// TestOrderedFencing: a consumer that the broker has not heard of for longer than its session is
// none any more. It can settle nothing, nor change what the next one has settled.
func TestOrderedFencing(t *testing.T) {
	t.Parallel()
	needBroker(t)
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 3, 6)
	wires := newWires()
	frozen, err := wires.driver(ctx)
	must(t, err)
	defer frozen.Close(ctx)
	first := subscribe(ctx, t, frozen, s)
	held := receiveAll(ctx, t, first, 2)
	must(t, held[1].Settle(ctx, adapters.Ack))
	id, generation := first.at.line.asMember()
	second := subscribe(ctx, t, d, s)
	// By now it is told what was settled, or it soon is.
	for !isCommitted(ctx, t, d, first.at.line, "2") {
		time.Sleep(10 * time.Millisecond)
	}
	thaw, err := wires.freeze(ctx)
	must(t, err)
	next := receive(ctx, t, second)
	are(t, []adapters.Delivery{next}, "m0 1")
	if err := held[0].Settle(ctx, adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) {
		t.Errorf("settling what another one has: %v", err)
	}
	brief, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if got, err := first.Receive(brief); err == nil {
		t.Errorf("%s came to a consumer that is none any more", got.Message.UUID)
	}
	must(t, next.Settle(ctx, adapters.Ack))
	areIn(t, receiveAll(ctx, t, second, 2), "m2", "m3")
	line := second.at.line
	for _, m := range []*classic{
		{client: d.client, topic: line.topic, group: line.group, id: id, generation: generation},
		{client: d.client, topic: line.topic, group: line.group, id: id, generation: line.generation},
		{client: d.client, topic: line.topic, group: line.group, id: line.id, generation: generation},
	} {
		if err := m.commit(ctx, 0, ""); !isAny(err, kerr.UnknownMemberID, kerr.IllegalGeneration) {
			t.Errorf("a commit by %q in generation %d: %v", m.id, m.generation, err)
		}
	}
	must(t, thaw())
	<-held[0].Message.Context().Done()
	if err := context.Cause(held[0].Message.Context()); !errors.Is(err, adapters.ErrSessionLost) {
		t.Errorf("the session of what was in hand ended: %v", err)
	}
	must(t, second.StopAndReturn())
	areIn(t, receiveAll(ctx, t, first, 3), "m2", "m3", "m4") // it is back in line
}

// isCommitted reports whether a queue's group has stored so many stretches.
func isCommitted(ctx context.Context, t *testing.T, d *Driver, l *line, text string) bool {
	t.Helper()
	all, err := d.admin.FetchOffsets(ctx, l.group)
	must(t, err)
	o, _ := all.Lookup(l.topic.name, 0)
	return slices.ContainsFunc(parseTally(o.Metadata, o.At), func(s stretch) bool { return s.count == isSettled && fmt.Sprint(s.end) == text })
}

// TestOrderedAhead: behind what is in hand so many are delivered, and no more are remembered.
func TestOrderedAhead(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 50, maxAhead+100)
	sub := subscribe(ctx, t, d, s)
	held := receive(ctx, t, sub)
	for range maxAhead - 1 {
		must(t, receive(ctx, t, sub).Settle(ctx, adapters.Ack))
	}
	sub.mu.Lock()
	if n := len(sub.at.line.order); n != maxAhead || len(sub.ready) > 0 {
		t.Errorf("%d places, and %d are ready", n, len(sub.ready))
	}
	sub.mu.Unlock()
	must(t, held.Settle(ctx, adapters.Ack))
	for i := range 100 {
		got := receive(ctx, t, sub)
		if got.Message.UUID != fmt.Sprint("m", maxAhead+i) {
			t.Fatalf("came %s, not the %d. behind", got.Message.UUID, i)
		}
		must(t, got.Settle(ctx, adapters.Ack))
	}
}

// TestOrderedDeleted: when the queue is deleted or others drop what is in it, its consumers go on
// with what there is.
func TestOrderedDeleted(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newLine(ctx, t, d, 2, 6)
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: queueTopic(s.Name), At: 4, LeaderEpoch: -1})
	_, err := d.admin.DeleteRecords(ctx, before)
	must(t, err)
	sub, other := subscribe(ctx, t, d, s), subscribe(ctx, t, d, s)
	are(t, receiveAll(ctx, t, sub, 2), "m4 0", "m5 0")
	must(t, d.Delete(ctx, s.Name, 0)) // which waits until nothing is written to what is deleted
	p := adapters.Publication{To: s.Endpoint, Mandatory: true}
	for err = adapters.ErrUnroutable; errors.Is(err, adapters.ErrUnroutable); {
		err = d.Publish(ctx, p, message.NewMessage("m0", []byte("m0")))
	}
	must(t, err)
	either := make(chan adapters.Delivery, 2)
	for _, sub := range []adapters.Subscription{sub, other} {
		go func() {
			if got, err := sub.Receive(ctx); err == nil {
				either <- got
			}
		}()
	}
	select {
	case got := <-either:
		are(t, []adapters.Delivery{got}, "m0 0")
	case <-ctx.Done():
		t.Error("nobody gets what was published after the queue was deleted")
	}
}
