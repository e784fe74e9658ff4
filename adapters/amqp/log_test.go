package amqp

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// TestTheBusLoggerHearsOfOutages: a logger that is given to Open is the driver's, too, unless the
// driver was made with one of its own.
func TestTheBusLoggerHearsOfOutages(t *testing.T) {
	url := amqptest.URL(t)
	var bus, own safeBuffer
	logger := func(b *safeBuffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

	opened, err := patterns.Open(soon(t), url, patterns.WithLogger(logger(&bus)))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close(soon(t))
	cut := func(d *Driver) {
		t.Helper()
		eventually(t, "it has a session", func() bool { return d.publisher.current() != nil })
		d.publisher.current().netConn.Abort(errors.New("cut"))
	}
	cut(opened.Driver().(*Driver))
	eventually(t, "the bus's logger hears of it", func() bool { return strings.Contains(bus.String(), "connection lost") })

	d := connectTo(t, url, func(c *Config) { c.Logger = logger(&own) })
	patterns.New(d, patterns.WithLogger(logger(&bus)))
	before := strings.Count(bus.String(), "connection lost")
	cut(d)
	eventually(t, "the driver's own logger hears of it", func() bool { return strings.Contains(own.String(), "connection lost") })
	if strings.Count(bus.String(), "connection lost") != before {
		t.Errorf("the bus's logger was told of another's: %s", bus.String())
	}
}
