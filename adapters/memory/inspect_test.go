package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// What Browse shows is what is delivered next, in that order and with the same counts, whatever
// happened to the queue before.
func TestBrowseForetells(t *testing.T) {
	for _, v := range append([]Version{""}, versions...) {
		for _, most := range []uint8{0, 5, 40} {
			t.Run(fmt.Sprintf("version %s, priorities to %d", v, most), func(t *testing.T) {
				for seed := range uint64(30) {
					_, c := imitating(t, v)
					s := fromQueue("q", 1)
					s.Queue.MaxPriority = most
					disturb(t, c, s, rand.New(rand.NewPCG(seed, 0)))
					browse(t, c, s.Name, 3)
					shown := browse(t, c, s.Name, 100)
					for i, want := range shown {
						got, err := c.Get(ctx, s)
						if err != nil {
							t.Fatal(err)
						}
						if got.Settler == nil || want.Settler != nil {
							t.Fatalf("settlers: %v of what is delivered, %v of what was shown", got.Settler, want.Settler)
						}
						got.Settler, got.Message, want.Message = nil, bare(got.Message), bare(want.Message)
						if !reflect.DeepEqual(got, want) {
							t.Fatalf("seed %d: number %d is\n%+v\nand was shown as\n%+v", seed, i, got, want)
						}
					}
					_, err := c.Get(ctx, s)
					wantErr(t, "Get after all that was shown", err, adapters.ErrEmpty)
				}
			})
		}
	}
}

// TestBrowseTakesNoTurn: of two levels every third message is an old one of the lower, and what was
// only looked at does not count.
func TestBrowseTakesNoTurn(t *testing.T) {
	_, c := imitating(t, RabbitMQ40)
	s := from(adapters.Fanout, "g")
	declare(t, c, s)
	publishEach(t, c, to(adapters.Fanout, ""), "0a", "0b", "0c", "9a", "9b", "9c", "9d", "9e", "9f")
	want := []string{"9a", "9b", "0a", "9c", "9d", "0b", "9e", "9f", "0c"}
	for len(want) > 0 {
		for _, limit := range []int{1, 2, 100} { // after which the turn would be another
			var shown []string
			for _, d := range browse(t, c, s.QueueName(), limit) {
				shown = append(shown, d.Message.UUID)
			}
			if limit = min(limit, len(want)); !slices.Equal(shown, want[:limit]) {
				t.Fatalf("shown %q, want %q", shown, want[:limit])
			}
		}
		got, err := c.Get(ctx, s)
		if err != nil || got.Message.UUID != want[0] {
			t.Fatalf("got %+v, %v, want %s", got.Message, err, want[0])
		}
		settle(t, got, adapters.Ack)
		want = want[1:]
	}
}

func bare(m *message.Message) *message.Message {
	return &message.Message{UUID: m.UUID, Metadata: m.Metadata, Payload: m.Payload}
}

// disturb publishes, takes and gives back messages at random.
func disturb(t *testing.T, c *Client, s adapters.Source, r *rand.Rand) {
	t.Helper()
	declare(t, c, s)
	var held []adapters.Delivery
	for i := range 60 {
		p := toQueue(s.Name)
		p.Priority = uint8(r.IntN(10))
		switch n := r.IntN(len(held) + 3); {
		case n < len(held):
			settle(t, held[n], adapters.Requeue)
			held = slices.Delete(held, n, n+1)
		case n == len(held):
			if d, err := c.Get(ctx, s); err == nil {
				held = append(held, d)
			}
		default:
			publish(t, c, p, fmt.Sprint("m", i))
		}
	}
	for _, d := range held {
		settle(t, d, adapters.Requeue)
	}
}

func browse(t *testing.T, c *Client, name string, limit int) []adapters.Delivery {
	t.Helper()
	found, err := c.Browse(ctx, name, limit)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestBrowseShowsNothingThatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		defer b.Close()
		declare(t, c, fromQueue("q", 1))
		publish(t, c, toQueue("q"), "a")
		p := toQueue("q")
		p.TTL = time.Second
		publish(t, c, p, "short")
		publish(t, c, toQueue("q"), "b")
		time.Sleep(2 * time.Second)
		found := browse(t, c, "q", 10)
		if len(found) != 2 || found[0].Message.UUID != "a" || found[1].Message.UUID != "b" || found[1].Remaining != 0 {
			t.Errorf("%+v", found)
		}
	})
}

// A copy is the caller's own, and stays what it was when its message is gone and others come.
func TestBrowseCopies(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, fromQueue("other", 1))
	s := fromQueue("q", 1)
	declare(t, c, s)
	publish(t, c, toQueue("q"), "a")
	found := browse(t, c, "q", 1)
	clear(browse(t, c, "q", 1)[0].Message.Payload)
	got, err := c.Get(ctx, s)
	if err != nil || string(got.Message.Payload) != "payload of a" {
		t.Fatalf("%q, %v", got.Message.Payload, err)
	}
	settle(t, got, adapters.Ack)
	for range 100 {
		publish(t, c, toQueue("other"), "b")
		receiveAll(t, sub, "b")
	}
	if got := string(found[0].Message.Payload); got != "payload of a" {
		t.Errorf("the copy has become %q", got)
	}
}

func TestBrowseIsBoundedInBytes(t *testing.T) {
	_, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	for _, size := range []int{adapters.MaxBrowseBytes - 1, 1, 1} {
		if err := c.Publish(ctx, toQueue("q"), message.NewMessage("m", make([]byte, size))); err != nil {
			t.Fatal(err)
		}
	}
	if got := browse(t, c, "q", 10); len(got) != 2 || got[1].Remaining != 1 {
		t.Errorf("%d messages, want 2 and 1 that remains", len(got))
	}
}

func TestInspectTellsTheOldest(t *testing.T) {
	_, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	now := time.Now()
	for _, at := range []time.Time{now.Add(-time.Hour), now} {
		p := toQueue("q")
		p.Timestamp = at
		publish(t, c, p, "m")
	}
	info, err := c.Inspect(ctx, "q")
	if want := (adapters.QueueInfo{Name: "q", Ready: 2, Oldest: now.Add(-time.Hour)}); err != nil || info != want {
		t.Errorf("%+v, %v, want %+v", info, err, want)
	}
}

// Loops over Queues hold no lock.
func TestQueuesLetsItsCallerWork(t *testing.T) {
	_, c := connect(t)
	for _, name := range []string{"a", "b"} {
		declare(t, c, fromQueue(name, 1))
	}
	for info, err := range c.Queues(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, info.Name, 0); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range c.Queues(ctx) {
		t.Errorf("%q is still there (%v)", info.Name, err)
	}
}

func TestInspectorSuffersFaults(t *testing.T) {
	b, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	calls := map[string]func(context.Context) error{
		"Inspect":  func(ctx context.Context) error { _, err := c.Inspect(ctx, "q"); return err },
		"Browse":   func(ctx context.Context) error { _, err := c.Browse(ctx, "q", 1); return err },
		"Bindings": func(ctx context.Context) error { _, err := c.Bindings(ctx, "q"); return err },
		"Purge":    func(ctx context.Context) error { _, err := c.Purge(ctx, "q"); return err },
		"Delete":   func(ctx context.Context) error { return c.Delete(ctx, "q", 0) },
		"Queues": func(ctx context.Context) error {
			for _, err := range c.Queues(ctx) {
				return err
			}
			return errors.New("no queues")
		},
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			defer b.Inject(Fault{On: OnSubscribe, Do: Refuse})()
			wantErr(t, "with a fault", call(ctx), adapters.ErrUnavailable)
			wantErr(t, "with an ended ctx", call(ended), context.Canceled)
		})
	}
	_ = c.Close(ctx)
	for name, call := range calls {
		wantErr(t, name+" of a closed client", call(ctx), adapters.ErrClosed)
	}
}
