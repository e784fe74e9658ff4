package amqptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMain(m *testing.M) { Main(m) }

// dial connects until the test's end.
func dial(t *testing.T, url string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.DialConfig(url, amqp.Config{Properties: amqp.Table{"connection_name": t.Name()}, Heartbeat: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	return conn
}

func channel(t *testing.T, conn *amqp.Connection) *amqp.Channel {
	t.Helper()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// eventually waits for what the broker does in its own time.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := poll(ctx, &process{}, so); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestCloseConnections(t *testing.T) {
	mine, other := Shared(t), Shared(t)
	closed := dial(t, mine.URL).NotifyClose(make(chan *amqp.Error, 1))
	neighbour := dial(t, other.URL)

	list, err := mine.Connections(t.Context())
	if err != nil || len(list) != 1 || list[0].ClientName != t.Name() || list[0].User != "guest" {
		t.Fatalf("connections %+v, %v", list, err)
	}
	if n, err := mine.CloseConnectionsOf(t.Context(), "somebody"); n != 0 || err != nil {
		t.Fatalf("closed %d of somebody else, %v", n, err)
	}
	if n, err := mine.CloseConnections(t.Context()); n != 1 || err != nil {
		t.Fatalf("closed %d, %v", n, err)
	}
	if reason := <-closed; reason == nil || reason.Code != amqp.ConnectionForced {
		t.Errorf("closed with %v", reason)
	}
	if neighbour.IsClosed() {
		t.Error("the neighbour's connection was closed, too")
	}
	if n, err := other.CloseConnectionsOf(t.Context(), t.Name()); n != 1 || err != nil {
		t.Fatalf("closed %d by name, %v", n, err)
	}
}

func TestChannels(t *testing.T) {
	mine, other := Shared(t), Shared(t)
	count := func(v *VHost) int {
		n, err := v.Channels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	conn := dial(t, mine.URL)
	channel(t, dial(t, other.URL))
	if n := count(mine); n != 0 {
		t.Errorf("%d channels before one is opened", n)
	}
	channel(t, conn)
	channel(t, conn)
	if n := count(mine); n != 2 {
		t.Errorf("%d channels, want 2", n)
	}
	_ = conn.Close()
	eventually(t, "the channels are gone", func() bool { return count(mine) == 0 })
}

func TestDeleteQueue(t *testing.T) {
	for _, kind := range []string{"classic", "quorum"} {
		t.Run(kind, func(t *testing.T) {
			v := Shared(t)
			ch := channel(t, dial(t, v.URL))
			name := "q." + kind
			if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
				t.Fatal(err)
			}
			cancelled := ch.NotifyCancel(make(chan string, 1))
			deliveries, err := ch.Consume(name, "me", false, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := ch.PublishWithContext(t.Context(), "", name, false, false, amqp.Publishing{}); err != nil {
				t.Fatal(err)
			}
			<-deliveries
			eventually(t, "one message unacked", func() bool {
				q, err := v.Queue(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				return q == Queue{Name: name, Unacked: 1, Consumers: 1, Durable: true, Node: v.node.Name}
			})
			if list, err := v.Queues(t.Context()); err != nil || !slices.ContainsFunc(list, func(q Queue) bool { return q.Name == name }) {
				t.Errorf("queues %+v, %v", list, err)
			}
			if err := v.DeleteQueue(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if tag := <-cancelled; tag != "me" {
				t.Errorf("cancelled %q", tag)
			}
			if _, err := v.Queue(t.Context(), name); !errors.Is(err, ErrNoQueue) {
				t.Errorf("after deletion: %v", err)
			}
			if err := v.DeleteQueue(t.Context(), name); !errors.Is(err, ErrNoQueue) {
				t.Errorf("deleted twice: %v", err)
			}
		})
	}
}

// A queue that goes while queues are listed is no error, and none of them.
func TestQueuesThatGo(t *testing.T) {
	v := Shared(t)
	ch := channel(t, dial(t, v.URL))
	const count = 20
	for i := range count {
		kind := []string{"classic", "quorum"}[i%2]
		if _, err := ch.QueueDeclare(fmt.Sprint("q", i), true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := v.Queues(t.Context()); err != nil || len(list) != count {
		t.Fatalf("%d queues, %v", len(list), err)
	}
	deleted := make(chan error, count)
	for i := range count {
		go func() { deleted <- v.DeleteQueue(t.Context(), fmt.Sprint("q", i)) }()
	}
	for gone := 0; gone < count; {
		select {
		case err := <-deleted:
			if err != nil {
				t.Error(err)
			}
			gone++
		default:
			if _, err := v.Queues(t.Context()); err != nil {
				t.Errorf("after %d of %d: %v", gone, count, err)
			}
		}
	}
	if list, err := v.Queues(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%d queues are left, %v", len(list), err)
	}
}
