package jetstream

import (
	"bytes"
	"errors"
	"net"
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
