package jetstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
)

func openURL(t *testing.T, rawURL string) *Driver {
	t.Helper()
	d, err := adapters.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDriver(t, d) })
	return d.(*Driver)
}

func closeDriver(t *testing.T, d adapters.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
}

// embedded opens a server of its own in this process.
func embedded(t *testing.T) *Driver {
	t.Helper()
	return openURL(t, "jetstream://"+t.TempDir())
}

func source(name string, prefetch int) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name}, Prefetch: prefetch}
}

func subscribe(t *testing.T, d *Driver, s adapters.Source) adapters.Subscription {
	t.Helper()
	sub, err := d.Subscribe(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t *testing.T, d *Driver, e adapters.Endpoint, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := d.Publish(t.Context(), adapters.Publication{To: e}, message.NewMessage(id, []byte(id))); err != nil {
			t.Fatal(err)
		}
	}
}

func receive(t *testing.T, sub adapters.Subscription) adapters.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := sub.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A message that is sent again on purpose comes again, also with the id by which NATS would drop
// it.
func TestRepeatsAreKept(t *testing.T) {
	d, s := embedded(t), source("q", 10)
	sub := subscribe(t, d, s)
	m := message.NewMessage("same", nil)
	m.Metadata.Set(nats.MsgIdHdr, "same")
	for range 2 {
		if err := d.Publish(t.Context(), adapters.Publication{To: s.Endpoint}, m); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if got := receive(t, sub); got.Message.UUID != "same" || got.Redelivered {
			t.Errorf("got %q, redelivered %t", got.Message.UUID, got.Redelivered)
		}
	}
}

// What was delivered from a queue that was deleted since, and made anew, is not settled in the new
// one.
func TestLateAckHitsNobody(t *testing.T) {
	d, s := embedded(t), source("q", 2)
	sub := subscribe(t, d, s)
	publish(t, d, s.Endpoint, "old")
	old := receive(t, sub)
	h := old.Settler.(*delivery)
	ses := h.at.session
	if err := ses.js.DeleteStream(t.Context(), h.at.queue.stream()); err != nil {
		t.Fatal(err)
	}
	for { // until the subscription has made the queue again
		if q, err := ses.look(t.Context(), nameQueue(s.Name)); err == nil && q.id != h.at.queue.id {
			break
		}
	}
	publish(t, d, s.Endpoint, "new")
	again := receive(t, sub)
	if err := old.Settle(t.Context(), adapters.Ack); !errors.Is(err, adapters.ErrStaleDelivery) {
		t.Errorf("settling what is no more: %v", err)
	}
	if _, err := ses.ask(t.Context(), h.reply, ackDone); err != nil && !errors.Is(err, adapters.ErrUnavailable) { // as one that was on its way
		t.Error(err)
	}
	if err := again.Settle(t.Context(), adapters.Requeue); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, sub); got.Message.UUID != "new" {
		t.Errorf("got %q", got.Message.UUID)
	}
}

// A copy that was routed by bindings of a queue that was deleted does not reach one that was made
// since, and the bindings are taken away.
func TestStaleBindings(t *testing.T) {
	d := embedded(t)
	s := source("news", 1)
	s.Kind, s.Group = adapters.Fanout, "g"
	if err := d.Declare(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	ses, err := d.live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.js.DeleteStream(t.Context(), nameQueue(s.QueueName()).stream()); err != nil {
		t.Fatal(err)
	}
	plain := source(s.QueueName(), 1)
	if err := d.Declare(t.Context(), plain); err != nil { // the queue alone
		t.Fatal(err)
	}
	p := adapters.Publication{To: s.Endpoint, Mandatory: true}
	if err := d.Publish(t.Context(), p, message.NewMessage("m", nil)); !errors.Is(err, adapters.ErrUnroutable) {
		t.Errorf("published to a binding of a queue that was deleted: %v", err)
	}
	if bound, err := d.routes.Queues(t.Context(), "news"); err != nil || len(bound) != 0 {
		t.Errorf("still bound: %v, %v", bound, err)
	}
}

// Other programs publish and see what they know: subjects, headers, payloads.
func TestForeignMessages(t *testing.T) {
	d, s := embedded(t), source("Orders.eu", 1)
	sub := subscribe(t, d, s)
	ses, err := d.live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("motif.q.=4frders=2eeu.m.q")
	m.Data = []byte("payload")
	m.Header.Set("Name", "value")
	if _, err := ses.js.once.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	first := receive(t, sub)
	if string(first.Message.Payload) != "payload" || first.Message.Metadata["Name"] != "value" || first.Message.UUID == "" || first.Attempt != 1 {
		t.Errorf("got %+v", first.Message)
	}
	if err := first.Settle(t.Context(), adapters.Requeue); err != nil {
		t.Fatal(err)
	}
	if again := receive(t, sub); again.Message.UUID != first.Message.UUID || again.Returned != 1 {
		t.Errorf("it came again as %q, returned %d", again.Message.UUID, again.Returned)
	}
}

// Streams that somebody else made are left alone, and said to be so.
func TestForeignStream(t *testing.T) {
	d := embedded(t)
	ses, err := d.live(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ses.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MOTIF_Q_q", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Declare(t.Context(), source("q", 1)); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("declared on a stream of somebody else: %v", err)
	}
}

func TestToken(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{
		"q", "Q", "q.q", "q q", "q=20q", "=h", "é", "news:group", "a/b", "a*b", "a>b", "..", "con",
		strings.Repeat("a", 255), strings.Repeat("b", 255), strings.Repeat("Ä", 127), "=h" + strings.Repeat("0", 64),
	} {
		got := token(name)
		if other, taken := seen[got]; taken {
			t.Errorf("%q and %q are both %q", name, other, got)
		}
		seen[got] = name
		if len(queuePrefix+got) > 255 || strings.ContainsAny(got, " .*>/\\\t") || strings.ToLower(got) != got {
			t.Errorf("%q is %q, which NATS or a file system does not take", name, got)
		}
	}
	if got := token("order-placed:rider"); got != "order-placed=3arider" {
		t.Errorf("readable names are encoded as %q", got)
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want error
	}{
		{"jetstream:", adapters.ErrInvalid},
		{"jetstream:///", adapters.ErrInvalid},
		{"jetstream://host/folder", adapters.ErrInvalid},
		{"jetstream:///tmp/x?sync=sometimes", adapters.ErrInvalid},
		{"jetstream:///tmp/x?listen=nowhere", adapters.ErrInvalid},
		{"jetstream:///tmp/x?replicas=3", adapters.ErrInvalid},
		{"nats://", adapters.ErrInvalid},
		{"nats://host/path", adapters.ErrInvalid},
		{"nats://host?replicas=6", adapters.ErrInvalid},
		{"nats://host?server=other/path", adapters.ErrInvalid},
		{"nats://host?unknown=1", adapters.ErrInvalid},
		{"nats://host?nkey=/no/such/file", adapters.ErrInvalid},
		{"nats://127.0.0.1:1", adapters.ErrUnavailable},
	} {
		if strings.Contains(c.url, "listen=nowhere") {
			c.url = strings.Replace(c.url, "/tmp/x", t.TempDir(), 1)
		}
		if _, err := adapters.Open(t.Context(), c.url); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.url, err, c.want)
		}
	}
	u, err := url.Parse("tls://user:secret@one:4222?server=two&server=three&replicas=3")
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseURL(u)
	if want := []string{"tls://one:4222", "tls://two", "tls://three"}; err != nil || !slices.Equal(c.servers, want) || c.replicas != 3 {
		t.Errorf("parsed as %v with %d replicas, %v", c.servers, c.replicas, err)
	}
}

// A server that refuses is said to, as what it is.
func TestServersThatRefuse(t *testing.T) {
	for what, c := range map[string]struct {
		options server.Options
		want    error
	}{
		"wrong login":       {server.Options{Username: "u", Password: "p", JetStream: true}, adapters.ErrAccess},
		"without JetStream": {server.Options{}, adapters.ErrUnavailable},
	} {
		o := c.options
		o.Host, o.Port, o.NoSigs, o.NoLog, o.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir()
		s, err := server.NewServer(&o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("the server does not start")
		}
		_, err = adapters.Open(t.Context(), "nats://u:wrong@"+s.Addr().String())
		if !errors.Is(err, c.want) || strings.Contains(fmt.Sprint(err), "wrong") {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		s.Shutdown()
		s.WaitForShutdown()
	}
	for version, older := range map[string]bool{"2.11.9": true, "1.4": true, "2.12.0": false, "3.0.0": false, "main-abc": false} {
		if isOlder(version) != older {
			t.Errorf("%s is taken for too old: %t", version, !older)
		}
	}
}

// A process that is killed while it publishes and consumes leaves to the next one all that was
// confirmed and not acknowledged.
func TestKilledProcess(t *testing.T) {
	const victim = "MOTIF_TEST_VICTIM"
	s := source("q", 2)
	if folder := os.Getenv(victim); folder != "" { // this is the one to be killed
		d := openURL(t, "jetstream://"+folder)
		sub := subscribe(t, d, s)
		for i := range 1_000_000 { // the test's timeout, at the latest
			id := fmt.Sprint("m-", i)
			publish(t, d, s.Endpoint, id)
			fmt.Println("confirmed", id)
			if i < s.Prefetch { // in hand, and never settled
				receive(t, sub)
			}
		}
	}
	folder := t.TempDir()
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$", "-test.timeout=1m")
	other.Env = append(os.Environ(), victim+"="+folder)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	var confirmed []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "confirmed "); ok {
			confirmed = append(confirmed, id)
		}
		if len(confirmed) == 100 { // further ones may come until it is dead
			if _, err := adapters.Open(t.Context(), "jetstream://"+folder); !errors.Is(err, adapters.ErrUnavailable) {
				t.Errorf("opening what another process has open: %v", err)
			}
			if err := other.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = other.Wait() // it was killed
	if len(confirmed) < 100 {
		t.Fatalf("the other process confirmed %d messages only", len(confirmed))
	}
	all := s
	all.Prefetch = 1000
	sub := subscribe(t, openURL(t, "jetstream://"+folder), all)
	missing := map[string]bool{}
	for _, id := range confirmed {
		missing[id] = true
	}
	for len(missing) > 0 { // those in hand last, once the server knows that nobody has them
		got := receive(t, sub)
		delete(missing, got.Message.UUID)
		if err := got.Settle(t.Context(), adapters.Ack); err != nil {
			t.Fatal(err)
		}
	}
}

// Two drivers of a folder share its server; the last one ends it, and the next begins where it was.
func TestSharedFolder(t *testing.T) {
	folder := t.TempDir()
	one, two := openURL(t, "jetstream://"+folder), openURL(t, "jetstream://"+folder)
	if one.local != two.local {
		t.Error("two servers in one folder")
	}
	if _, err := adapters.Open(t.Context(), "jetstream://"+folder+"?sync=always"); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("opened with other parameters: %v", err)
	}
	if err := one.Declare(t.Context(), source("q", 1)); err != nil {
		t.Fatal(err)
	}
	publish(t, two, source("q", 1).Endpoint, "m")
	closeDriver(t, one)
	closeDriver(t, two)
	again := openURL(t, "jetstream://"+folder+"?sync=always")
	if got := receive(t, subscribe(t, again, source("q", 1))); got.Message.UUID != "m" {
		t.Errorf("got %q", got.Message.UUID)
	}
}

// An auto-delete queue whose only consumer has died is taken away by the next that comes and goes.
func TestDeadMember(t *testing.T) {
	d := embedded(t)
	s := source("rpc", 1)
	s.Queue.AutoDelete = true
	subscribe(t, d, s).(*subscription).finish(adapters.ErrStopped) // it does not come back
	d.mu.Lock()
	for _, alive := range d.alive { // as if its client had died
		_ = alive.Unsubscribe()
	}
	ses := d.session
	d.mu.Unlock()
	if err := ses.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := openURL(t, "jetstream://"+d.config.folder)
	if err := subscribe(t, other, s).Stop(); err != nil {
		t.Fatal(err)
	}
	passive := source("rpc", 1)
	passive.Passive = true
	if err := other.Declare(t.Context(), passive); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("the queue is still there: %v", err)
	}
}

// Private queues whose clients died are taken away by those who come later.
func TestDeadPrivateSubscription(t *testing.T) {
	d := embedded(t)
	s := source("news", 1)
	s.Kind = adapters.Fanout
	dead := subscribe(t, d, s).(*subscription)
	ses := dead.at.session
	dead.finish(adapters.ErrStopped)                                                                                  // it does not come back
	if err := ses.js.once.DeleteConsumer(t.Context(), dead.at.queue.stream(), dead.at.queue.consumer()); err != nil { // as the server does after a while
		t.Fatal(err)
	}
	other := openURL(t, "jetstream://"+d.config.folder)
	for i := 0; ; i++ {
		subscribe(t, other, s)
		bound, err := other.routes.Queues(t.Context(), "news")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(bound, dead.at.queue.bound()) {
			break
		}
		if i == 100 {
			t.Fatal("it is bound forever")
		}
	}
	if _, err := ses.look(t.Context(), dead.name); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("its queue is there: %v", err)
	}
}

// A server elsewhere, with a login and more than one address.
func TestServerElsewhere(t *testing.T) {
	s := startServer(t, &server.Options{Username: "u", Password: "p"})
	d := openURL(t, "nats://u:p@127.0.0.1:1?server="+s.Addr().String()) // the first is not there
	q := source("q", 1)
	sub := subscribe(t, d, q)
	publish(t, d, q.Endpoint, "m")
	if got := receive(t, sub); got.Message.UUID != "m" {
		t.Errorf("got %q", got.Message.UUID)
	}
	if h := d.Health(); !h.OK() || h.Connections[0].Address == "" {
		t.Errorf("health is %+v", h)
	}
}

// A stream that is made while the server still deletes the one of that name may answer to nothing
// that is published to it: whose queue was deleted gives the server time.
func TestDeletedQueueIsLeftAlone(t *testing.T) {
	d := embedded(t)
	subscribe(t, d, source("q", 1))
	js, begun := d.session.js, time.Now()
	if err := js.once.DeleteStream(t.Context(), nameQueue("q").stream()); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := js.once.Stream(t.Context(), nameQueue("q").stream()); err == nil {
			break
		} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took < deletionTime {
		t.Errorf("made anew after %v", took)
	}
}
