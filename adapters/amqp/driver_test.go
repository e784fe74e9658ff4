package amqp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// What most tests need, in few words.

var ctx = context.Background()

// brokerURL is the address of a broker, the same all through a test.
func brokerURL(t testing.TB) string {
	t.Helper()
	if url, ok := brokerURLs.Load(t); ok {
		return url.(string)
	}
	url := amqptest.URL(t)
	brokerURLs.Store(t, url)
	t.Cleanup(func() { brokerURLs.Delete(t) })
	return url
}

var brokerURLs sync.Map

func configFor(t testing.TB, url string) Config {
	t.Helper()
	cfg, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.BackoffMin, cfg.BackoffMax = 10*time.Millisecond, 200*time.Millisecond
	return cfg
}

// connect returns a driver for the test's broker, closed with the test.
func connect(t testing.TB, change ...func(*Config)) *Driver {
	t.Helper()
	return connectTo(t, brokerURL(t), change...)
}

func connectTo(t testing.TB, url string, change ...func(*Config)) *Driver {
	t.Helper()
	cfg := configFor(t, url)
	for _, f := range change {
		f(&cfg)
	}
	d, err := Connect(soon(t), cfg)
	if err != nil {
		t.Fatalf("Connect: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// unique returns a name that no other test uses.
func unique(t testing.TB) string { return t.Name() + "." + rand.Text()[:8] }

func queueAt(name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: name}
}

func toQueue(name string) adapters.Publication {
	return adapters.Publication{To: queueAt(name)}
}

func mandatory(name string) adapters.Publication {
	p := toQueue(name)
	p.Mandatory = true
	return p
}

func fromQueue(name string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: queueAt(name), Prefetch: prefetch}
}

func msg(id string) *message.Message { return message.NewMessage(id, []byte("payload of "+id)) }

func subscribe(t testing.TB, d *Driver, s adapters.Source) adapters.Subscription {
	t.Helper()
	sub, err := d.Subscribe(soon(t), s)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	return sub
}

func declare(t testing.TB, d *Driver, s adapters.Source) {
	t.Helper()
	if err := d.Declare(soon(t), s); err != nil {
		t.Fatalf("Declare: %v", err)
	}
}

func publish(t testing.TB, d *Driver, p adapters.Publication, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := d.Publish(soon(t), p, msg(id)); err != nil {
			t.Fatalf("Publish %s: %v", id, err)
		}
	}
}

// receive returns the next message, which must have the id.
func receive(t testing.TB, sub adapters.Subscription, id string) adapters.Delivery {
	t.Helper()
	d, err := sub.Receive(soon(t))
	if err != nil {
		t.Fatalf("Receive: %v, want %s", err, id)
	}
	if d.Message.UUID != id {
		t.Fatalf("Receive: got %q, want %q", d.Message.UUID, id)
	}
	return d
}

// receiveAll acknowledges the messages that come, which must have the ids.
func receiveAll(t testing.TB, sub adapters.Subscription, ids ...string) {
	t.Helper()
	for _, id := range ids {
		settle(t, receive(t, sub, id), adapters.Ack)
	}
}

// nothing checks that no message comes for a while.
func nothing(t testing.TB, sub adapters.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if d, err := sub.Receive(ctx); err == nil {
		t.Fatalf("received %q, want nothing", d.Message.UUID)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Receive: %v, want nothing to come", err)
	}
}

func settle(t testing.TB, d adapters.Delivery, o adapters.Outcome) {
	t.Helper()
	if err := d.Settle(ctx, o); err != nil {
		t.Fatalf("Settle %s of %s: %v", o, d.Message.UUID, err)
	}
}

// soon bounds a wait for what must come.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func ids(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return ids
}

func TestSmoke(t *testing.T) {
	d := connect(t)
	name := unique(t)
	sub := subscribe(t, d, fromQueue(name, 2))
	publish(t, d, mandatory(name), "a", "b")
	a := receive(t, sub, "a")
	settle(t, receive(t, sub, "b"), adapters.Ack)
	settle(t, a, adapters.Requeue)
	if a = receive(t, sub, "a"); !a.Redelivered {
		t.Error("not marked redelivered")
	}
	settle(t, a, adapters.Ack)
	settle(t, a, adapters.Ack)
	nothing(t, sub)
	wantErr(t, "Publish to nowhere", d.Publish(ctx, mandatory(name+".not"), msg("c")), adapters.ErrUnroutable)
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	_, err := sub.Receive(ctx)
	wantErr(t, "Receive after Stop", err, adapters.ErrStopped)
}

func TestSmokeReconnect(t *testing.T) {
	d := connect(t)
	name := unique(t)
	sub := subscribe(t, d, fromQueue(name, 2))
	publish(t, d, mandatory(name), "a", "b", "c")
	a := receive(t, sub, "a")
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	<-a.Message.Context().Done()
	wantErr(t, "cause", context.Cause(a.Message.Context()), adapters.ErrSessionLost)
	wantErr(t, "late ack", a.Settle(ctx, adapters.Ack), adapters.ErrStaleDelivery)
	receiveAll(t, sub, "a", "b", "c")
	d.publisher.current().netConn.Abort(errors.New("cut"))
	publish(t, d, mandatory(name), "d")
	receiveAll(t, sub, "d")
}
