package kafka

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/motifmq/motif/adapters"
)

func TestRungs(t *testing.T) {
	for left, want := range map[time.Duration]int{0: 0, 399 * time.Millisecond: 0, 400 * time.Millisecond: 1, time.Minute: 4, 1000 * time.Hour: rungs - 1} {
		if got := rungFor(left); got != want {
			t.Errorf("%v begins in rung %d, want %d", left, got, want)
		}
	}
}

// TestDelayedOutlivesItsMover: what a driver has in hand to move, and stands still, is moved by
// another one; nothing comes early.
func TestDelayedOutlivesItsMover(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(100)
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	w := newWires()
	dying, err := w.driver(ctx)
	must(t, err)
	const many = 20
	due := map[string]time.Time{}
	for i := range many {
		p := adapters.Publication{To: s.Endpoint, Delay: time.Duration(500+50*i) * time.Millisecond}
		id := fmt.Sprint("m-", i)
		due[id] = time.Now().Add(p.Delay)
		from := dying
		if i%2 == 0 {
			from = d // so that there is another mover
		}
		must(t, from.Publish(ctx, p, message.NewMessage(id, nil)))
	}
	thaw, err := w.freeze(ctx)
	must(t, err)
	for len(due) > 0 { // what the frozen one had moved and not noted comes twice
		got := receive(ctx, t, sub)
		if early := time.Until(due[got.Message.UUID]); early > 0 {
			t.Errorf("%s came %v early", got.Message.UUID, early)
		}
		delete(due, got.Message.UUID)
		must(t, got.Settle(ctx, adapters.Ack))
	}
	must(t, thaw())
	must(t, dying.Close(ctx))
}

// TestDelayedToARefusal: what its queue refuses when it is due gets there later, and what is due
// behind it does not wait for it.
func TestDelayedToARefusal(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(10)
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	limit := func(bytes string) {
		_, err := d.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &bytes}}, queueTopic(s.Name))
		must(t, err)
	}
	limit("1000")
	p := adapters.Publication{To: s.Endpoint, Delay: 200 * time.Millisecond}
	large := make([]byte, 2000) // that cannot be compressed
	_, _ = rand.Read(large)
	must(t, d.Publish(ctx, p, message.NewMessage("large", large)))
	must(t, d.Publish(ctx, p, message.NewMessage("small", nil)))
	for _, want := range []string{"small", "large"} {
		got := receive(ctx, t, sub)
		if got.Message.UUID != want {
			t.Errorf("%s came, not %s", got.Message.UUID, want)
		}
		must(t, got.Settle(ctx, adapters.Ack))
		limit("100000")
	}
}

// TestDelayedIsRefusedForGood: what its destination refuses again and again becomes a dead letter
// of that, and else one of the driver's.
func TestDelayedIsRefusedForGood(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	with, without := newQueue(1), newQueue(1)
	with.Queue.DeadLetter = with.Name + "-dead"
	must(t, d.useRung(ctx, 0))
	large := make([]byte, 2000)
	_, _ = rand.Read(large)
	for from, letters := range map[*adapters.Source]string{&with: with.Queue.DeadLetter, &without: Undelivered} {
		must(t, d.Declare(ctx, *from))
		limit := "1000"
		_, err := d.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &limit}}, queueTopic(from.Name))
		must(t, err)
		for err == nil { // the broker hears of it later
			err = d.Publish(ctx, adapters.Publication{To: from.Endpoint}, message.NewMessage("now", large))
		}
		if !errors.Is(err, adapters.ErrTooLarge) {
			t.Fatal(err)
		}
		p := adapters.Publication{To: from.Endpoint, Key: "key", Delay: time.Millisecond}
		r, err := encode(&p, message.NewMessage(from.Name, large))
		must(t, err)
		e, _ := decode(r)
		e.Refused = mostRefusals - 1
		r = again(r, e, 0)
		r.Topic = rungTopic(0)
		must(t, d.produce(ctx, r))
		_, err = d.declareQueue(ctx, letters, adapters.QueueSpec{})
		must(t, err)
		sub, err := d.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: letters}, Prefetch: 1})
		must(t, err)
		got := receive(ctx, t, sub)
		m := got.Message
		if m.UUID != from.Name || m.Metadata[MetadataFirstDeathQueue] != from.Name || m.Metadata[MetadataFirstDeathReason] != "refused" ||
			!bytes.Equal(m.Payload, large) || !got.Died || got.Key != "key" {
			t.Errorf("the dead letter of %s is %s of %v, key %q, died %t", from.Name, m.UUID, m.Metadata, got.Key, got.Died)
		}
		must(t, got.Settle(ctx, adapters.Ack))
	}
}

// TestDelayedIsFound: a driver that has delayed nothing moves what others did who are gone. (Other
// tests have drivers that may be faster.)
func TestDelayedIsFound(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(10)
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	other, err := newWires().driver(ctx)
	must(t, err)
	const delay = 800 * time.Millisecond
	must(t, other.Publish(ctx, adapters.Publication{To: s.Endpoint, Delay: delay}, message.NewMessage("id", nil)))
	must(t, other.Close(ctx))
	must(t, receive(ctx, t, sub).Settle(ctx, adapters.Ack))
}

// TestLostRung: a rung that somebody deleted is made anew, and no message is confirmed that is not
// in it.
func TestLostRung(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(1)
	p := adapters.Publication{To: s.Endpoint, Delay: 2 * rungLength(rungs-1)} // which no other test uses
	last := rungTopic(rungs - 1)
	must(t, d.Publish(ctx, p, message.NewMessage("id", nil)))
	before, err := d.look(ctx, last)
	must(t, err)
	_, err = d.admin.DeleteTopic(ctx, last)
	must(t, err)
	other, _ := newDriver(t)
	for { // the broker is told later
		if _, err := other.look(ctx, last); errors.Is(err, adapters.ErrNotFound) {
			break
		}
		must(t, ctx.Err())
	}
	for { // and what it takes may be refused while it is
		err := d.Publish(ctx, p, message.NewMessage("id", nil))
		if err == nil {
			break
		}
		if !errors.Is(err, adapters.ErrUnconfirmed) && !errors.Is(err, adapters.ErrUnavailable) {
			t.Error(err)
		}
		must(t, ctx.Err())
	}
	after, err := d.look(ctx, last)
	must(t, err)
	ends, err := d.admin.ListEndOffsets(ctx, last)
	must(t, err)
	if o, _ := ends.Lookup(last, 0); o.Offset == 0 || after.id == before.id {
		t.Errorf("the rung ends at %d, and is the one that was deleted: %t", o.Offset, after.id == before.id)
	}
}
