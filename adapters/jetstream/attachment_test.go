package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// What a subscription holds when its consumer loses its leader is delivered again: the first
// receivers are told, as when the connection is lost.
func TestLostConsumerEndsContexts(t *testing.T) {
	d, s := embedded(t), source("q", 2)
	sub := subscribe(t, d, s)
	publish(t, d, s.Endpoint, "1", "2")
	held := []adapters.Delivery{receive(t, sub), receive(t, sub)}
	at := held[0].Settler.(*delivery).at
	lost := nats.NewMsg(at.inbox.Subject)
	lost.Header.Set("Status", "409")
	lost.Header.Set("Description", "Leadership Change")
	if err := at.session.nc.PublishMsg(lost); err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		ctx := h.Message.Context()
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
			t.Fatal("its receiver hears nothing")
		}
		if !errors.Is(context.Cause(ctx), adapters.ErrSessionLost) {
			t.Errorf("message %s ended with %v", h.Message.UUID, context.Cause(ctx))
		}
		again := receive(t, sub)
		if err := again.Message.Context().Err(); again.Message.UUID != h.Message.UUID || err != nil {
			t.Errorf("message %s came again as %s, %v", h.Message.UUID, again.Message.UUID, err)
		}
	}
}

// A session keeps nothing of subscriptions that are over, and the context of what they still hold
// ends with the driver.
func TestOverSubscriptionsAreForgotten(t *testing.T) {
	d, s := embedded(t), source("q", 1)
	ses := d.session
	attached := func() int {
		ses.mu.Lock()
		defer ses.mu.Unlock()
		return len(ses.attached)
	}
	over, holds := subscribe(t, d, s), subscribe(t, d, source("other", 1))
	publish(t, d, s.Endpoint, "1")
	publish(t, d, source("other", 1).Endpoint, "2")
	done, held := receive(t, over), receive(t, holds)
	for _, sub := range []adapters.Subscription{over, holds} {
		if err := sub.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if n := attached(); n != 2 {
		t.Errorf("%d of 2 that hold a message are known", n)
	}
	if err := done.Settle(t.Context(), adapters.Ack); err != nil {
		t.Fatal(err)
	}
	if n := attached(); n != 1 || done.Message.Context().Err() != nil {
		t.Errorf("%d are known, where 1 holds a message; its context: %v", n, done.Message.Context().Err())
	}
	closeDriver(t, d)
	if cause := context.Cause(held.Message.Context()); !errors.Is(cause, adapters.ErrClosed) {
		t.Errorf("what was in hand ended with %v", cause)
	}
}
