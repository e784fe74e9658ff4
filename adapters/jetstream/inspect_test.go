package jetstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

func inspect(t *testing.T, d *Driver, queue string) (ready, unacked, consumers int) {
	t.Helper()
	info, err := d.Inspect(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	return info.Ready, info.Unacked, info.Consumers
}

// What was given back waits, though the server counts it with what is in hand, whoever holds that.
func TestGivenBackIsReady(t *testing.T) {
	url := "jetstream://" + t.TempDir()
	d, other, s := openURL(t, url), openURL(t, url), source("q", 3)
	sub := subscribe(t, d, s)
	publish(t, d, s.Endpoint, "a", "b", "c", "d", "e")
	held := map[string]adapters.Delivery{}
	for range 3 {
		got := receive(t, sub)
		held[got.Message.UUID] = got
	}
	got, err := other.Get(t.Context(), s)
	if err != nil || got.Message.UUID != "d" {
		t.Fatalf("got %v, %v", got.Message, err)
	}
	if r, u, c := inspect(t, other, s.Name); r != 1 || u != 4 || c != 1 {
		t.Errorf("%d ready, %d in hand, %d consumers; want 1, 4, 1", r, u, c)
	}
	if err := sub.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "c"} {
		if err := held[id].Settle(t.Context(), adapters.Requeue); err != nil {
			t.Fatal(err)
		}
	}
	for begun := time.Now(); ; { // the driver holds them until the server says that it has them
		r, u, c := inspect(t, other, s.Name)
		if r == 3 && u == 2 && c == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d ready, %d in hand, %d consumers; want 3, 2, 0", r, u, c)
		}
	}
	found, err := other.Browse(t.Context(), s.Name, 10)
	var seen []string
	for _, m := range found {
		seen = append(seen, fmt.Sprint(m.Message.UUID, " ", m.Redelivered, " ", m.Returned))
	}
	if want := []string{"a true -1", "c true -1", "e false 0"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("browsed %q, %v; want %q", seen, err, want)
	}
}

// A purge takes more than it asks for at once, and stops at what comes later.
func TestPurgeManyAndFew(t *testing.T) {
	d, s := embedded(t), source("q", 2)
	if err := d.Declare(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	many := make([]*message.Message, 2*purgeBatch+10)
	for i := range many {
		many[i] = message.NewMessage(fmt.Sprint(i), nil)
	}
	if err := d.Publish(t.Context(), adapters.Publication{To: s.Endpoint}, many...); err != nil {
		t.Fatal(err)
	}
	held, err := d.Get(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Purge(t.Context(), s.Name); n != len(many)-1 || err != nil {
		t.Errorf("%d of %d purged, %v", n, len(many)-1, err)
	}
	if r, u, _ := inspect(t, d, s.Name); r != 0 || u != 1 {
		t.Errorf("%d ready, %d in hand; want 0, 1", r, u)
	}
	if err := held.Settle(t.Context(), adapters.Requeue); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Purge(t.Context(), s.Name); n != 1 || err != nil {
		t.Errorf("%d purged of one that was given back, %v", n, err)
	}
}

// A queue that is deleted takes its bindings along, those too to an exchange whose name is too long
// for a subject.
func TestDeletedWithItsBindings(t *testing.T) {
	d, long := embedded(t), strings.Repeat("é", 120)
	group := func(exchange string) adapters.Source {
		return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: exchange}, Group: "billing"}
	}
	for _, exchange := range []string{"short", long} {
		s := group(exchange)
		if err := d.Declare(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		bound, err := d.Bindings(t.Context(), s.QueueName())
		if want := []adapters.Binding{{Exchange: exchange}}; err != nil || !slices.Equal(bound, want) {
			t.Errorf("bound to %v, %v; want %v", bound, err, want)
		}
		if err := d.Delete(t.Context(), s.QueueName(), adapters.IfUnused|adapters.IfEmpty); err != nil {
			t.Fatal(err)
		}
		if left, err := d.routes.Queues(t.Context(), exchange); len(left) > 0 || err != nil {
			t.Errorf("still bound: %v, %v", left, err)
		}
	}
}
