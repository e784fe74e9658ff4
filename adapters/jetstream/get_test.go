package jetstream

import (
	"bytes"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// unaware is a connection to a server that does not know of a message yet when it is asked for one:
// the question is changed to one whose time is up when it arrives.
type unaware struct {
	net.Conn
	times int
}

func (c *unaware) Write(p []byte) (int, error) {
	asked, changed := []byte(`{"batch":1,"no_wait":true}`), []byte(`{"batch":1,"expires":1   }`)
	sent := p
	if c.times > 0 && bytes.Contains(p, asked) {
		c.times--
		sent = bytes.Replace(p, asked, changed, 1)
	}
	_, err := c.Conn.Write(sent)
	return len(p), err
}

// A server that says that nothing waits is asked again if its stream holds something.
func TestGetWhatIsNotKnownYet(t *testing.T) {
	conn := &unaware{}
	d := openOver(t.Context(), t, func(c net.Conn) net.Conn {
		conn.Conn = c
		return conn
	})
	s := source("q", 1)
	if _, err := d.Get(t.Context(), s); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("an empty queue: %v", err)
	}
	publish(t, d, s.Endpoint, "1")
	conn.times = 3
	got, err := d.Get(t.Context(), s)
	if err != nil || got.Message.UUID != "1" || conn.times != 0 {
		t.Fatalf("%v, asked as many times as %d before the end", err, conn.times)
	}
	if _, err := d.Get(t.Context(), s); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("all in hand: %v", err)
	}
	must(t, got.Settle(t.Context(), adapters.Ack))
}

// What one driver requeued and others have settled does not count as waiting, and is forgotten.
func TestRemainingWithoutWhatOthersSettled(t *testing.T) {
	d, s := embedded(t), source("q", 1)
	other := openURL(t, "jetstream://"+d.config.folder)
	get := func(d *Driver, id string, remaining int) adapters.Delivery {
		t.Helper()
		got, err := d.Get(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if got.Message.UUID != id || got.Remaining != remaining {
			t.Errorf("got %s with %d behind it, want %s with %d", got.Message.UUID, got.Remaining, id, remaining)
		}
		return got
	}
	settle := func(got adapters.Delivery, o adapters.Outcome) {
		t.Helper()
		must(t, got.Settle(t.Context(), o))
		must(t, got.Settler.(*delivery).at.session.flush(t.Context()))
	}
	must(t, d.Declare(t.Context(), s))
	publish(t, d, s.Endpoint, "1", "2", "3", "4")
	settle(get(d, "1", 3), adapters.Requeue)
	settle(get(other, "1", 3), adapters.Ack)
	for { // until the server has it
		q, err := d.declare(t.Context(), d.session, s)
		must(t, err)
		if q.settled == 1 {
			break
		}
	}
	second := get(d, "2", 2) // after which nothing is settled as a whole
	settle(get(d, "3", 1), adapters.Requeue)
	settle(get(other, "3", 1), adapters.Ack)
	settle(get(other, "4", 0), adapters.Ack)
	if _, err := d.Get(t.Context(), s); !errors.Is(err, adapters.ErrEmpty) {
		t.Errorf("an empty queue: %v", err)
	}
	publish(t, d, s.Endpoint, "5")
	settle(get(d, "5", 0), adapters.Requeue)
	settle(second, adapters.Requeue)
	settle(get(d, "5", 1), adapters.Ack)
	settle(get(d, "2", 0), adapters.Ack)
	if len(d.requeued) > 0 {
		t.Errorf("%v is kept", d.requeued)
	}
}

// A driver does not keep without end what it requeued.
func TestRequeuedIsBounded(t *testing.T) {
	d := &Driver{requeued: map[string]*requeued{}}
	for i := range uint64(3 * mostRequeued) {
		q := &queue{id: strconv.FormatUint(i%7, 10)}
		d.noteRequeued(&delivery{at: &attachment{queue: q}, seq: i})
	}
	all := 0
	for _, r := range d.requeued {
		all += len(r.seqs)
	}
	if all > mostRequeued || d.requeued["0"] == nil {
		t.Errorf("%d are known, of queues %v", all, slices.Collect(maps.Keys(d.requeued)))
	}
}
