package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// inbox is a reply address made with ReceiveReplies.
type inbox struct {
	address string
	got     chan adapters.Delivery
	lost    chan error
}

func openInbox(t *testing.T, d *Driver) *inbox {
	t.Helper()
	in := &inbox{got: make(chan adapters.Delivery, 100), lost: make(chan error, 2)}
	var err error
	in.address, err = d.ReceiveReplies(soon(t), func(m adapters.Delivery) { in.got <- m }, func(err error) { in.lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *inbox) take(t *testing.T) adapters.Delivery {
	t.Helper()
	return next(t, in.got, "a reply")
}

func (in *inbox) why(t *testing.T) error {
	t.Helper()
	return next(t, in.lost, "why the address is lost")
}

// next returns what comes next, soon.
func next[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-soon(t).Done():
		t.Fatalf("in vain for %s", what)
	}
	return v
}

func replyTo(address string) adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: address}}
}

// TestReceiveReplies: each address gets what is sent to it, whole, in order and
// once, and nothing else.
func TestReceiveReplies(t *testing.T) {
	d, other, server := connect(t), connect(t), connect(t)
	boxes := []*inbox{openInbox(t, d), openInbox(t, d), openInbox(t, other)}
	sizes := []int{0, 10, 300_000}
	for round, size := range sizes {
		for i, in := range boxes {
			p := replyTo(in.address)
			p.CorrelationID, p.ContentType = fmt.Sprint("c", i, round), "text/plain"
			m := msg(fmt.Sprint("m", i, round))
			m.Payload, m.Metadata = []byte(strings.Repeat("x", size)), map[string]string{"for": p.CorrelationID}
			if err := server.Publish(soon(t), p, m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, in := range boxes {
		for round, size := range sizes {
			got, id := in.take(t), fmt.Sprint("c", i, round)
			if got.Message.UUID != fmt.Sprint("m", i, round) || got.CorrelationID != id || got.Message.Metadata["for"] != id ||
				len(got.Message.Payload) != size || got.ContentType != "text/plain" || got.Settler != nil || got.Message.Context().Err() != nil {
				t.Errorf("box %d got %+v", i, got)
			}
		}
		if len(in.got) > 0 {
			t.Errorf("box %d has more", i)
		}
	}
}

// TestRepliesAreLost: with the session, and with the driver, which is told once; and
// the next address works.
func TestRepliesAreLost(t *testing.T) {
	d, server := connect(t), connect(t)
	first := openInbox(t, d)
	d.publisher.current().netConn.Abort(errors.New("cut")) // there is one: first is on it
	if err := first.why(t); !errors.Is(err, adapters.ErrSessionLost) {
		t.Errorf("lost for %v", err)
	}
	second := openInbox(t, d)
	if first.address == second.address {
		t.Error("the same address again")
	}
	publish(t, server, replyTo(first.address), "to nobody") // which nobody is told
	publish(t, server, replyTo(second.address), "m")
	if got := second.take(t); got.Message.UUID != "m" {
		t.Errorf("got %q", got.Message.UUID)
	}
	if err := d.Close(soon(t)); err != nil {
		t.Error(err)
	}
	if err := second.why(t); !errors.Is(err, adapters.ErrClosed) {
		t.Errorf("lost for %v", err)
	}
	if len(first.lost)+len(second.lost)+len(first.got) > 0 {
		t.Error("told more than once, or of what came for another")
	}
	if _, err := d.ReceiveReplies(ctx, nil, nil); !errors.Is(err, adapters.ErrClosed) {
		t.Errorf("on a closed driver: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := server.ReceiveReplies(gone, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that has ended: %v", err)
	}
}

// TestRepliesTakeChannels: no more than are left over by what else a connection is
// for, and those that are closed are free again.
func TestRepliesTakeChannels(t *testing.T) {
	for channels, want := range map[int]int{1: -1, 2: 0, 3: 1, 4: 1, 8: 2, 2047: 2047 - 16 - 8} {
		if n := replyLimit(channels); n != want {
			t.Errorf("of %d channels %d for replies, not %d", channels, n, want)
		}
	}
	d := connect(t)
	conn, err := d.publisher.connection(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	conn.mu.Lock()
	conn.replyChannels = replyLimit(int(conn.amqp.Config.ChannelMax)) - 1
	conn.mu.Unlock()
	in := openInbox(t, d)
	if _, err := d.ReceiveReplies(soon(t), nil, nil); !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("one too many: %v", err)
	}
	if err := conn.amqp.Close(); err != nil {
		t.Fatal(err)
	}
	_ = in.why(t)
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if left := replyLimit(int(conn.amqp.Config.ChannelMax)) - 1; conn.replyChannels != left {
		t.Errorf("%d are taken, not %d", conn.replyChannels, left)
	}
}

// TestRepliesAreRefused: the broker's reason is the error.
func TestRepliesAreRefused(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, "mute", password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, "mute")
	if err := v.SetPermissions(ctx, "mute", ".*", "^own", ".*"); err != nil {
		t.Fatal(err)
	}
	d := connectTo(t, v.URLFor("mute", password))
	_, err := d.ReceiveReplies(soon(t), nil, nil)
	wantErr(t, "ReceiveReplies", err, adapters.ErrAccess)
}

// TestRepliesUnderAlarm: who gives up while the broker takes no publishes leaves
// nothing behind.
func TestRepliesUnderAlarm(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	d := connectTo(t, n.URL)
	if err := n.MemoryAlarm(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the broker blocks who publishes", func() bool {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_ = d.Publish(ctx, toQueue("q"), msg("m"))
		return d.Health().Connections[0].Blocked
	})
	conn := d.publisher.current()
	for range 20 {
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		_, err := d.ReceiveReplies(ctx, nil, nil)
		cancel()
		wantErr(t, "ReceiveReplies", err, context.DeadlineExceeded)
	}
	conn.mu.Lock()
	taken := conn.replyChannels
	conn.mu.Unlock()
	if taken > 0 {
		t.Errorf("%d channels are taken", taken)
	}
	if err := n.ClearAlarms(ctx); err != nil {
		t.Fatal(err)
	}
	openInbox(t, d)
}

// TestRepliesAreLostBeforeCloseReturns: nobody is called back after it.
func TestRepliesAreLostBeforeCloseReturns(t *testing.T) {
	for range 60 {
		d := connect(t)
		in := openInbox(t, d)
		if err := d.Close(soon(t)); err != nil {
			t.Fatal(err)
		}
		if len(in.lost) != 1 {
			t.Fatal("not told by the end of Close")
		}
	}
}
