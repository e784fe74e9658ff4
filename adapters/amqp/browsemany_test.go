package amqp

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// declareRaw declares a queue as somebody else would.
func declareRaw(t testing.TB, d *Driver, queue string, args amqp091.Table) {
	t.Helper()
	err := d.Do(soon(t), func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(queue, true, false, false, false, args)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrowseKeepsTheOrderOfMany, which are given back one way to a classic queue and another way to
// a quorum queue. MOTIF_DEAD_LETTERS says of how many.
func TestBrowseKeepsTheOrderOfMany(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("MOTIF_DEAD_LETTERS"), "2000"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, args := range map[string]amqp091.Table{
		"classic":                 {"x-queue-type": "classic"},
		"classic with priorities": {"x-queue-type": "classic", "x-max-priority": 5},
		"quorum":                  {"x-queue-type": "quorum"},
	} {
		t.Run(kind, func(t *testing.T) {
			d := connect(t)
			q, want := unique(t), ids("m", n)
			declareRaw(t, d, q, args)
			for some := range slices.Chunk(want, 500) {
				publishMany(t, d, q, 100, some...)
			}
			for range 3 {
				consumerTags.Store(97) // those of the consumers are in another order, as text
				began := time.Now()
				if got := uuids(browse(t, d, q, n)); !slices.Equal(got, want) {
					t.Fatalf("found %d, in another order: the first are %q", len(got), got[:min(3, len(got))])
				}
				t.Logf("%d in %v", n, time.Since(began))
			}
			eventually(t, "all are back", func() bool {
				info, err := d.Inspect(soon(t), q)
				return err == nil && info.Ready == n
			})
		})
	}
}

// TestIsClassic: what is not known for certain is not a classic queue, and asking makes none.
func TestIsClassic(t *testing.T) {
	d := connect(t)
	_ = subscribe(t, d, fromQueue(unique(t), 1)) // which makes the connection
	conn := d.consumers[0].current()
	for name, test := range map[string]struct {
		args amqp091.Table
		want bool
	}{
		"classic":              {amqp091.Table{"x-queue-type": "classic"}, true},
		"classic with options": {amqp091.Table{"x-queue-type": "classic", "x-max-length": 5, "x-max-priority": 5, "x-message-ttl": 1000, "x-dead-letter-exchange": ""}, true},
		"no type":              {nil, !conn.version.atLeast(defaultTypes) || conn.version.atLeast(version{4, 0, 0})},
		"quorum":               {amqp091.Table{"x-queue-type": "quorum"}, false},
		"quorum with options":  {amqp091.Table{"x-queue-type": "quorum", "x-max-length": 5, "x-delivery-limit": 3, "x-queue-leader-locator": "balanced"}, false},
		"stream":               {amqp091.Table{"x-queue-type": "stream"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := unique(t)
			declareRaw(t, d, q, test.args)
			if got := conn.isClassic(q); got != test.want {
				t.Errorf("isClassic is %v", got)
			}
		})
	}
	for range 2 {
		if conn.isClassic("missing") {
			t.Error("a queue that is missing is classic")
		}
	}
}
