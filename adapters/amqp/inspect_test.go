package amqp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func publishMany(t testing.TB, d *Driver, queue string, size int, ids ...string) {
	t.Helper()
	msgs := make([]*message.Message, len(ids))
	for i, id := range ids {
		msgs[i] = message.NewMessage(id, make([]byte, size))
	}
	if err := d.Publish(soon(t), toQueue(queue), msgs...); err != nil {
		t.Fatal(err)
	}
}

func browse(t testing.TB, d *Driver, queue string, limit int) []adapters.Delivery {
	t.Helper()
	found, err := d.Browse(soon(t), queue, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func uuids(found []adapters.Delivery) (ids []string) {
	for _, d := range found {
		ids = append(ids, d.Message.UUID)
	}
	return ids
}

// TestBrowseIsAReturn: the order of a queue is untouched, and what was looked at counts as returned
// once more, as the package documentation says.
func TestBrowseIsAReturn(t *testing.T) {
	for kind, returned := range map[QueueType][]int{Classic: {0, -1, -1}, Quorum: {0, 1, 2}} {
		t.Run(string(kind), func(t *testing.T) {
			d := connect(t, func(c *Config) { c.QueueType = kind })
			q, want := unique(t), ids("m", 500)
			declare(t, d, fromQueue(q, 1))
			publishMany(t, d, q, 10, want...)
			for _, limit := range []int{300, 500} {
				if got := uuids(browse(t, d, q, limit)); !slices.Equal(got, want[:limit]) {
					t.Fatalf("found %d, of which the first are %q", len(got), got[:min(3, len(got))])
				}
			}
			sub := subscribe(t, d, fromQueue(q, 100))
			for i, id := range want {
				m := receive(t, sub, id)
				looks := 1
				if i < 300 {
					looks = 2
				}
				if m.Returned != returned[looks] || !m.Redelivered || m.Attempt != 1 {
					t.Fatalf("%s has returned %d times, want %d (redelivered %v, attempt %d)", id, m.Returned, returned[looks], m.Redelivered, m.Attempt)
				}
				settle(t, m, adapters.Ack)
			}
		})
	}
}

// TestBrowseAndDeliveryLimit: from RabbitMQ 4.3 on to be looked at does not count against the
// delivery limit of a queue that somebody else declared.
func TestBrowseAndDeliveryLimit(t *testing.T) {
	d := connect(t)
	q := unique(t)
	err := d.Do(soon(t), func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(q, true, false, false, false, amqp091.Table{"x-queue-type": "quorum", "x-delivery-limit": int64(1)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, d, toQueue(q), "a")
	for range 2 {
		browse(t, d, q, 10)
	}
	want := []string{"a"}
	if !d.publisher.current().version.atLeast(version{4, 3, 0}) {
		want = nil
	}
	if got := uuids(browse(t, d, q, 10)); !slices.Equal(got, want) {
		t.Errorf("after two looks there is %q, want %q", got, want)
	}
}

// TestBrowseIsTriedAgain when its connection is lost, and finds all messages again.
func TestBrowseIsTriedAgain(t *testing.T) {
	v := amqptest.Shared(t)
	d := connectTo(t, v.URL)
	q, want := unique(t), ids("m", 1000)
	declare(t, d, fromQueue(q, 1))
	publishMany(t, d, q, 1000, want...)
	browse(t, d, q, 1) // which makes the connection
	type result struct {
		found []adapters.Delivery
		err   error
	}
	done := make(chan result, 1)
	go func() {
		found, err := d.Browse(soon(t), q, 1000)
		done <- result{found, err}
	}()
	eventually(t, "messages are in hand", func() bool {
		info, err := v.Queue(ctx, q)
		return err == nil && info.Unacked > 10
	})
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	r := <-done
	got := uuids(r.found)
	slices.Sort(got) // a quorum queue gets them back in any order
	slices.Sort(want)
	if r.err != nil || !slices.Equal(got, want) {
		t.Fatalf("found %d messages, %v", len(got), r.err)
	}
	eventually(t, "all are back", func() bool {
		info, err := v.Queue(ctx, q)
		return err == nil && info.Ready == len(want) && info.Unacked == 0
	})
}

// TestBrowseGivesBackAtTheEndOfItsCtx: what it had taken by then is in the queue again.
func TestBrowseGivesBackAtTheEndOfItsCtx(t *testing.T) {
	v := amqptest.Shared(t)
	proxy := amqptest.ProxyTo(t, v.URL)
	d := connectTo(t, proxy.URL(v.URL))
	q, want := unique(t), ids("m", 100)
	declare(t, d, fromQueue(q, 1))
	publishMany(t, d, q, 10, want...)
	browse(t, d, q, 1)
	proxy.Latency(10 * time.Millisecond)
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := d.Browse(short, q, 100)
		done <- err
	}()
	eventually(t, "messages are in hand", func() bool {
		info, err := v.Queue(ctx, q)
		return err == nil && info.Unacked > 3
	})
	cancel()
	wantErr(t, "Browse", <-done, context.Canceled)
	eventually(t, "all are back", func() bool {
		info, err := v.Queue(ctx, q)
		return err == nil && info.Ready == len(want) && info.Unacked == 0
	})
	proxy.Latency(0)
	if got := uuids(browse(t, d, q, 100)); !slices.Equal(got, want) {
		t.Errorf("found %q", got)
	}
}

func TestBrowseIsBoundedInBytes(t *testing.T) {
	d := connect(t)
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	for _, id := range ids("m", 6) {
		publishMany(t, d, q, 15<<20, id)
	}
	found := browse(t, d, q, 10)
	if got := uuids(found); !slices.Equal(got, ids("m", 4)) || found[3].Remaining != 2 {
		t.Errorf("found %q, and %d more", got, found[len(found)-1].Remaining)
	}
}

// TestInspectDisturbsNobody: what is refused costs no connection, not even of a stream, which
// RabbitMQ closes the connection for.
func TestInspectDisturbsNobody(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, "looker", password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, "looker")
	if err := v.SetPermissions(ctx, "looker", "^own", ".*", "^own"); err != nil {
		t.Fatal(err)
	}
	admin, d := connectTo(t, v.URL), connectTo(t, v.URLFor("looker", password))
	declare(t, admin, fromQueue("others", 1))
	publish(t, admin, toQueue("others"), "a")
	err := d.Do(soon(t), func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare("own-stream", true, false, false, false, amqp091.Table{"x-queue-type": "stream"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, d, fromQueue("own", 1))
	publish(t, d, toQueue("own"), "a", "b")
	held := receive(t, sub, "a")

	refused := []struct {
		queue string
		want  error
	}{{"others", adapters.ErrAccess}, {"own-stream", adapters.ErrUnsupported}, {"missing", adapters.ErrNotFound}}
	for _, x := range refused {
		_, err := d.Browse(soon(t), x.queue, 1)
		if x.queue != "missing" || !errors.Is(err, adapters.ErrAccess) { // there is no right to read it, which is looked at first
			wantErr(t, "Browse "+x.queue, err, x.want)
		}
		_, err = d.Purge(soon(t), x.queue)
		if x.queue != "missing" || !errors.Is(err, adapters.ErrAccess) {
			wantErr(t, "Purge "+x.queue, err, x.want)
		}
	}
	wantErr(t, "Delete", d.Delete(soon(t), "others", 0), adapters.ErrAccess)
	wantErr(t, "Bindings", second(d.Bindings(soon(t), "others")), adapters.ErrUnsupported)
	for _, err := range d.Queues(soon(t)) {
		wantErr(t, "Queues", err, adapters.ErrUnsupported)
	}
	info, err := d.Inspect(soon(t), "others")
	if err != nil || info.Ready != 1 || info.Unacked != -1 {
		t.Errorf("%+v, %v", info, err)
	}
	settle(t, held, adapters.Ack)
	receiveAll(t, sub, "b")
	for _, c := range d.Health().Connections {
		if c.Generation != 1 {
			t.Errorf("a connection was lost: %+v", c)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestDeletedQueueStaysDeleted: what was deleted is not declared again with the next connection.
func TestDeletedQueueStaysDeleted(t *testing.T) {
	d := connect(t)
	q, kept := unique(t), unique(t)
	declare(t, d, fromQueue(q, 1))
	declare(t, d, fromQueue(kept, 1))
	if err := d.Delete(soon(t), q, adapters.IfEmpty|adapters.IfUnused); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(soon(t), kept, 0); err != nil {
		t.Fatal(err)
	}
	declare(t, d, fromQueue(kept, 1))
	d.publisher.current().netConn.Abort(errors.New("cut"))
	eventually(t, "it is connected again", func() bool { return d.Health().Connections[0].Generation == 2 && d.Health().OK() })
	wantErr(t, "Inspect", second(d.Inspect(soon(t), q)), adapters.ErrNotFound)
	if _, err := d.Inspect(soon(t), kept); err != nil {
		t.Error(err)
	}
}

// TestInspectWithManagement: what AMQP does not tell comes from the management API, some seconds
// later.
func TestInspectWithManagement(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	node := amqptest.Private(t, amqptest.Options{Management: true})
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, kind := range []QueueType{Classic, Quorum} {
		d := connectTo(t, node.URL, func(c *Config) { c.QueueType, c.Management = kind, node.ManagementURL() })
		q := fmt.Sprint("q/", kind) // which is escaped
		sub := subscribe(t, d, fromQueue(q, 1))
		p := toQueue(q)
		p.Timestamp = at
		publish(t, d, p, "a", "b")
		held := receive(t, sub, "a")
		want := adapters.QueueInfo{Name: q, Ready: 1, Unacked: 1, Consumers: 1}
		if kind == Classic { // quorum queues do not tell
			want.Oldest = at
		}
		var got adapters.QueueInfo
		eventually(t, "the API tells of the queue", func() bool {
			var err error
			got, err = d.Inspect(soon(t), q)
			return err == nil && got == want
		})
		eventually(t, "the list has it", func() bool {
			for info, err := range d.Queues(soon(t)) {
				if err != nil {
					t.Fatal(err)
				}
				if info == want {
					return true
				}
			}
			return false
		})
		settle(t, held, adapters.Ack)
	}
}

// TestBusyQueueIsNotEmpty: of a quorum queue that does not answer RabbitMQ says that it is empty.
// It is not deleted for that, by those who delete what is empty.
func TestBusyQueueIsNotEmpty(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	d := connectTo(t, n.URL)
	src := fromQueue("busy", 1)
	declare(t, d, src)
	publish(t, d, mandatory("busy"), ids("m", 5)...)
	process := func(verb string) {
		t.Helper()
		if err := n.Eval(soon(t), new(string), `begin {ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"busy">>)),
			{Name, _} = amqqueue:get_pid(Q), ok = sys:%s(Name), <<"ok">> end`, verb); err != nil {
			t.Fatal(err)
		}
	}
	depth := func() int {
		t.Helper()
		q, err := d.Inspect(soon(t), "busy")
		if err != nil {
			t.Fatal(err)
		}
		return q.Ready
	}
	for what, remove := range map[string]func() error{
		"Delete": func() error { return d.Delete(soon(t), "busy", adapters.IfEmpty) },
		"a move": func() error {
			return d.migrate(soon(t), "test", src, nil, func(ctx context.Context, m *migration) error { return m.remove(ctx, m.queue) })
		},
	} {
		process("suspend")
		if depth() != 0 {
			t.Log("RabbitMQ knows how many messages a queue has that does not answer")
		}
		removed := make(chan error, 1)
		go func() { removed <- remove() }()
		select {
		case err := <-removed:
			t.Errorf("%s did not wait for an answer: %v", what, err)
			removed <- err
		case <-time.After(time.Second): // in which a deletion begins
		}
		process("resume")
		wantErr(t, what, <-removed, adapters.ErrPrecondition)
		eventually(t, "all messages are there after "+what, func() bool { return depth() == 5 })
	}
}
