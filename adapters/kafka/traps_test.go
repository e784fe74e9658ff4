package kafka

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kafka/internal/node"
	"github.com/motifmq/motif/adapters/kit"
	"github.com/motifmq/motif/patterns"
)

// patience is for what must happen, also on a busy machine.
const patience = 2 * time.Minute

// newDriver returns a driver, and a ctx for what it does.
func newDriver(t *testing.T) (*Driver, context.Context) {
	t.Helper()
	needBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	d, err := newWires().driver(ctx)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return d, ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newQueue returns a source with a name of its own.
func newQueue(prefetch int) adapters.Source {
	name := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(newID()))
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "trap-" + name}, Prefetch: prefetch}
}

func receive(ctx context.Context, t *testing.T, sub adapters.Subscription) adapters.Delivery {
	t.Helper()
	got, err := sub.Receive(ctx)
	must(t, err)
	return got
}

// TestNothingIsDropped: a message comes again however often it goes back, though the broker drops
// what was delivered four times, and is what it was; whoever wrote it.
func TestNothingIsDropped(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	if limit := d.deliveryLimit(ctx); limit != node.DeliveryLimit {
		t.Errorf("a limit of %d deliveries, not %d", limit, node.DeliveryLimit)
	}
	s := newQueue(1)
	must(t, d.Declare(ctx, s))
	m := message.NewMessage("id", []byte("payload"))
	m.Metadata["name"] = "value"
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint, Key: "key", Properties: adapters.Properties{Type: "kind", Lost: 2}}, m))
	must(t, d.produce(ctx, &kgo.Record{Topic: queueTopic(s.Name), Key: []byte("key"), Value: []byte("foreign"), Headers: []kgo.RecordHeader{{Key: "name", Value: []byte("value")}}}))
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	const times = 12
	first, came := map[string]adapters.Delivery{}, map[string]int{}
	for came["payload"] <= times || came["foreign"] <= times {
		got := receive(ctx, t, sub)
		what := string(got.Message.Payload)
		if _, seen := first[what]; !seen {
			first[what] = got
		}
		is := first[what]
		if got.Message.UUID != is.Message.UUID || got.Key != "key" || got.Type != is.Type || got.Lost != is.Lost || !got.Timestamp.Equal(is.Timestamp) ||
			!maps.Equal(got.Message.Metadata, message.Metadata{"name": "value"}) {
			t.Errorf("%s came for the %d. time as %+v, not %+v", what, came[what]+1, got, is)
		}
		if got.Returned != came[what] || got.Redelivered != (came[what] > 0) {
			t.Errorf("%s came for the %d. time and says that it has come back %d times", what, came[what]+1, got.Returned)
		}
		came[what]++
		o := adapters.Requeue
		if came[what] > times {
			o = adapters.Ack
		}
		must(t, got.Settle(ctx, o))
	}
}

// TestHeldForLong: what is in hand for longer than the broker's lock is given to nobody else.
func TestHeldForLong(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(2)
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, message.NewMessage("long", nil)))
	held := receive(ctx, t, sub)
	other, err := d.Subscribe(ctx, s)
	must(t, err)
	long, cancel := context.WithTimeout(ctx, node.Lock*3/2) // this is what is tested
	defer cancel()
	if got, err := other.Receive(long); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another subscription got %q, %v", got.Message.UUID, err)
	}
	if err := context.Cause(held.Message.Context()); err != nil {
		t.Errorf("it is lost: %v", err)
	}
	must(t, held.Settle(ctx, adapters.Ack))
}

// TestSettledIsDropped: a topic does not keep what was settled, nor drops what was not.
func TestSettledIsDropped(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(10)
	must(t, d.Declare(ctx, s))
	for i := range 4 {
		must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, message.NewMessage(fmt.Sprint(i), nil)))
	}
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	for _, o := range []adapters.Outcome{adapters.Ack, adapters.Reject, adapters.Requeue, adapters.Ack} {
		must(t, receive(ctx, t, sub).Settle(ctx, o))
	}
	must(t, sub.Stop())
	for {
		all, err := d.admin.ListStartOffsets(ctx, queueTopic(s.Name))
		must(t, err)
		o, _ := all.Lookup(queueTopic(s.Name), 0)
		sub, err = d.Subscribe(ctx, s)
		must(t, err)
		got := receive(ctx, t, sub)
		if got.Message.UUID != "2" {
			t.Fatalf("%s came, and not what was requeued", got.Message.UUID)
		}
		must(t, got.Settle(ctx, adapters.Requeue))
		must(t, sub.Stop())
		if o.Offset >= 2 { // the broker may write down later what it was told
			break
		}
	}
}

// TestBindingsAtOnce: no binding is lost where two drivers make many at the same time, and the log
// of them is trimmed; a driver that has read nothing yet sees them all.
func TestBindingsAtOnce(t *testing.T) {
	t.Parallel()
	one, ctx := newDriver(t)
	other, _ := newDriver(t)
	e := adapters.Endpoint{Kind: adapters.Direct, Name: newQueue(1).Name}
	const each = trimAfter/2 + 5
	var all sync.WaitGroup
	for i, d := range []*Driver{one, other} {
		all.Go(func() {
			for n := range each {
				if err := d.routes.Bind(ctx, e, kit.Bound{Queue: fmt.Sprintf("q-%d-%d", i, n)}, "key"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	third, _ := newDriver(t)
	for _, d := range []*Driver{one, other, third} {
		if bound, err := d.routes.Route(ctx, e, "key"); err != nil || len(bound) != 2*each {
			t.Errorf("%d queues are bound, not %d (%v)", len(bound), 2*each, err)
		}
	}
	if l := third.ledgers[e.Name]; l.from == 0 {
		t.Error("the log was not trimmed")
	}
	must(t, third.routes.Unbind(ctx, e, "q-0-0", "key"))
	if bound, err := one.routes.Route(ctx, e, "key"); err != nil || len(bound) != 2*each-1 {
		t.Errorf("%d queues are bound after one was unbound (%v)", len(bound), err)
	}
}

// TestOrphansAreSwept: a private queue whose client has died goes with the next one that comes, and
// one that is in use stays.
func TestOrphansAreSwept(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: newQueue(1).Name}, Prefetch: 1}
	used, err := d.Subscribe(ctx, s)
	must(t, err)
	orphan, err := d.makeQueue(ctx, queueTopic(privatePrefix+s.Name))
	must(t, err)
	must(t, d.routes.Bind(ctx, s.Endpoint, kit.Bound{Queue: privatePrefix + s.Name, ID: boundID(orphan.id)}))
	_, err = d.Subscribe(ctx, s)
	must(t, err)
	if bound, err := d.routes.Queues(ctx, s.Name); err != nil || len(bound) != 2 {
		t.Errorf("bound are %v, %v", bound, err)
	}
	for { // brokers are told later
		if _, err = d.look(ctx, orphan.name); err != nil {
			break
		}
	}
	if !errors.Is(err, adapters.ErrNotFound) {
		t.Error(err)
	}
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, message.NewMessage("id", nil)))
	must(t, receive(ctx, t, used).Settle(ctx, adapters.Ack))
}

// TestPrivateQueuesAreForgotten: a publisher does not go on remembering the private queues that it
// has published to.
func TestPrivateQueuesAreForgotten(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	other, _ := newDriver(t)
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: newQueue(1).Name}, Prefetch: 1}
	const many = 5
	for range many {
		sub, err := other.Subscribe(ctx, s)
		must(t, err)
		must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint}, message.NewMessage("id", nil)))
		must(t, receive(ctx, t, sub).Settle(ctx, adapters.Ack))
		must(t, sub.Stop())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for name := range d.topics {
		if strings.HasPrefix(name, privateTopics) {
			n++
		}
	}
	if n >= many-1 {
		t.Errorf("it remembers %d private queues", n)
	}
}

// TestStopWithNoBroker: Stop does not wait for a broker that does not come back.
func TestStopWithNoBroker(t *testing.T) {
	t.Parallel()
	needBroker(t)
	w := newWires()
	d, err := w.driver(t.Context())
	must(t, err)
	sub, err := d.Subscribe(t.Context(), newQueue(1))
	must(t, err)
	thaw, err := w.freeze(t.Context())
	must(t, err)
	must(t, w.cut(t.Context()))
	begun := time.Now()
	must(t, sub.Stop())
	if took := time.Since(begun); took > 2*stopTimeout {
		t.Errorf("it took %v", took)
	}
	must(t, thaw())
	must(t, d.Close(t.Context()))
}

// TestPatterns: a work queue and a group retry, and have dead letters, as they do by default.
func TestPatterns(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	bus := patterns.New(d)
	attempts := make(chan string, 10)
	handler := func(ctx context.Context, v string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		attempts <- fmt.Sprint(v, " ", d.Attempt)
		if d.Attempt == 1 {
			return errors.New("not yet")
		}
		return patterns.Reject(errors.New("never"))
	}
	queue := patterns.NewWorkQueue[string](bus, newQueue(1).Name)
	_, err := queue.Work(ctx, handler)
	must(t, err)
	must(t, queue.Send(ctx, "order"))
	news := patterns.NewTopic[string](bus, newQueue(1).Name)
	_, err = news.Subscribe(ctx, []string{"*.rain"}, handler, patterns.Group("group"))
	must(t, err)
	must(t, news.Publish(ctx, "madrid.rain", "news"))
	came := map[string]int{}
	for range 4 {
		select {
		case a := <-attempts:
			came[a]++
		case <-ctx.Done():
			t.Fatalf("only these attempts: %v", came)
		}
	}
	if want := map[string]int{"order 1": 1, "order 2": 1, "news 1": 1, "news 2": 1}; !maps.Equal(came, want) {
		t.Errorf("the attempts are %v, want %v", came, want)
	}
	letters := make(chan string, 1)
	_, err = queue.Dead().Work(ctx, func(ctx context.Context, v string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		letters <- fmt.Sprint(v, " ", d.Headers[patterns.HeaderReason])
		return nil
	})
	must(t, err)
	select {
	case got := <-letters:
		if got != "order never" {
			t.Errorf("the dead letter is %q", got)
		}
	case <-ctx.Done():
		t.Fatal("there is no dead letter")
	}
}

// TestForeign: a plain program with the same client writes to a queue and reads from it.
func TestForeign(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(1)
	must(t, d.Declare(ctx, s))
	c, err := parseURL(parsed(t, broker.URL()))
	must(t, err)
	plain, err := kgo.NewClient(append(c.options, kgo.SeedBrokers(c.brokers...), kgo.ConsumeTopics(queueTopic(s.Name)))...)
	must(t, err)
	defer plain.Close()
	written := &kgo.Record{Topic: queueTopic(s.Name), Key: []byte{0, 0xff}, Value: []byte{1, 0xfe}, Headers: []kgo.RecordHeader{{Key: " a ", Value: []byte{2, 0xfd}}, {Key: "motif", Value: []byte("not ours")}}}
	must(t, plain.ProduceSync(ctx, written).FirstErr())
	sub, err := d.Subscribe(ctx, s)
	must(t, err)
	got := receive(ctx, t, sub)
	if got.Key != "\x00\xff" || string(got.Message.Payload) != "\x01\xfe" || got.Message.UUID == "" || got.Attempt != 1 ||
		!maps.Equal(got.Message.Metadata, message.Metadata{" a ": "\x02\xfd", "motif": "not ours"}) {
		t.Errorf("it came as %+v, %+v", got, got.Message)
	}
	must(t, got.Settle(ctx, adapters.Ack))

	m := message.NewMessage("id", []byte("payload"))
	m.Metadata["motif"] = "mine"
	must(t, d.Publish(ctx, adapters.Publication{To: s.Endpoint, Key: "key"}, m))
	for {
		fetched := plain.PollFetches(ctx)
		must(t, fetched.Err())
		i := slices.IndexFunc(fetched.Records(), func(r *kgo.Record) bool { return r.Offset == 1 })
		if i < 0 {
			continue
		}
		r := fetched.Records()[i]
		if string(r.Key) != "key" || string(r.Value) != "payload" || len(r.Headers) != 2 || r.Headers[0].Key != "motif" || string(r.Headers[0].Value) != "mine" {
			t.Errorf("the plain program read %+v", r)
		}
		break
	}
}

// TestBadInput: what cannot work fails with an error that says of which kind it is.
func TestBadInput(t *testing.T) {
	t.Parallel()
	d, ctx := newDriver(t)
	s := newQueue(1)
	_, err := d.admin.CreateTopic(ctx, 3, 1, nil, queueTopic(s.Name))
	must(t, err)
	_, err = d.Subscribe(ctx, s)
	if !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("a topic with three partitions: %v", err)
	}
	for what, c := range map[string]struct {
		url  func(u *url.URL)
		want error
	}{
		"a wrong password":  {func(u *url.URL) { u.User = url.UserPassword(node.User, "wr0ng") }, adapters.ErrAccess},
		"no broker":         {func(u *url.URL) { u.Host = "127.0.0.1:1" }, adapters.ErrUnavailable},
		"too many replicas": {func(u *url.URL) { u.RawQuery = "replicas=3" }, nil},
	} {
		u := parsed(t, broker.URL())
		c.url(u)
		d, err := adapters.Open(ctx, u.String())
		if !errors.Is(err, c.want) || err != nil && strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if err != nil {
			continue
		}
		if err := d.Declare(ctx, newQueue(1)); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
		must(t, d.Close(ctx))
	}
}

func parsed(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	must(t, err)
	return u
}

func TestURL(t *testing.T) {
	for raw, want := range map[string]string{
		"kafka://host:9092": "[host:9092]", "kafka://a:1/?broker=b:2&broker=c:3": "[a:1 b:2 c:3]",
		"kafkas://u:s3cret@host:9092?sasl=scram-sha-512&replicas=3": "[host:9092]",
		"kafka:host": "", "kafka:///path": "", "kafka://host/path": "", "kafka://host#s3cret": "", "kafka://host?s3cret=1": "",
		"kafka://host?sasl=plain": "", "kafka://u:s3cret@host?sasl=other": "", "kafka://host?replicas=0": "", "kafka://host?broker=a/b": "",
		"kafka://host?ca=/none": "", "kafkas://host?ca=/none": "",
	} {
		c, err := parseURL(parsed(t, raw))
		got := ""
		if err == nil {
			got = fmt.Sprint(c.brokers)
		} else if !errors.Is(err, adapters.ErrInvalid) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", raw, err)
		}
		if got != want {
			t.Errorf("%s: brokers %q, want %q (%v)", raw, got, want, err)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 201)
	for name, want := range map[string]string{
		"orders": "motif-q-orders", "orders.eu": "motif-q-orders_2eeu", "Orders:a_b": "motif-q-_4frders_3aa_5fb", "é": "motif-q-_c3_a9",
		long: fmt.Sprintf("motif-q-_h%x", sha256.Sum256([]byte(long))),
	} {
		if got := queueTopic(name); got != want {
			t.Errorf("%q is %s, want %s", name, got, want)
		}
	}
}

// TestWire: what is encoded is decoded as it was, also when it is written anew.
func TestWire(t *testing.T) {
	m := message.NewMessage("\xff id", []byte("payload"))
	m.Metadata["motif"], m.Metadata["\xfe"] = "mine", "\x00"
	p := adapters.Publication{Key: "k", Properties: adapters.Properties{ContentType: "text/plain", Timestamp: time.UnixMicro(1234567), Attempt: 3, Lost: 2}}
	r, err := encode(&p, m)
	must(t, err)
	for _, returned := range []int{0, 3, 5} {
		e, metadata := decode(r)
		got := e.delivery(r, metadata)
		if got.Message.UUID != m.UUID || !bytes.Equal(got.Message.Payload, m.Payload) || !maps.Equal(got.Message.Metadata, m.Metadata) || got.Key != "k" ||
			got.ContentType != "text/plain" || !got.Timestamp.Equal(p.Timestamp) || got.Attempt != 3 || got.Lost != 2 || e.Returned != returned {
			t.Errorf("decoded as %+v, %+v", got, e)
		}
		r = again(r, e, map[int]int{0: 3, 3: 5}[returned])
	}
	p.Type = "\xff"
	if _, err := encode(&p, m); !errors.Is(err, adapters.ErrInvalid) {
		t.Errorf("a type that is not UTF-8: %v", err)
	}
}

func TestRenewAt(t *testing.T) {
	for limit, want := range map[int]int{2: 2, 3: 2, 5: 3, 10: 6} {
		if got := renewAt(limit); got != want {
			t.Errorf("with a limit of %d from %d on, want %d", limit, got, want)
		}
	}
}

func TestRuns(t *testing.T) {
	got := runs([]settled{{5, ackAccept}, {3, ackAccept}, {4, ackAccept}, {6, ackRelease}, {8, ackRelease}})
	want := []run{{FirstOffset: 3, LastOffset: 5, AcknowledgeTypes: []int8{ackAccept}}, {FirstOffset: 6, LastOffset: 6, AcknowledgeTypes: []int8{ackRelease}}, {FirstOffset: 8, LastOffset: 8, AcknowledgeTypes: []int8{ackRelease}}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
