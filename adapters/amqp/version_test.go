package amqp

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

func TestReleases(t *testing.T) {
	for text, want := range map[string]version{
		"3.10.8": {3, 10, 8}, "4.3": {4, 3, 0}, "4.1.0-rc.1": {4, 1, 0}, "3.13.7+12.gabc": {3, 13, 7}, "4.3.6.1": {}, "": {}, "x": {}, "4.-1.0": {}, "4..1": {},
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	for _, c := range []struct {
		a, b version
		want bool
	}{
		{version{4, 3, 6}, version{4, 3, 0}, true},
		{version{4, 3, 0}, version{4, 3, 0}, true},
		{version{4, 2, 9}, version{4, 3, 0}, false},
		{version{3, 13, 7}, version{4, 0, 0}, false},
		{version{5, 0, 0}, version{4, 3, 1}, true},
		{version{4, 3, 0}, version{4, 3, 1}, false},
		{version{}, oldest, false},
	} {
		if got := c.a.atLeast(c.b); got != c.want {
			t.Errorf("%v since %v: %v", c.a, c.b, got)
		}
	}
}

// TestUnknownBroker: an old one, and what is no RabbitMQ, is said once, by name; a known one
// is not.
func TestUnknownBroker(t *testing.T) {
	var log bytes.Buffer
	var events []Event
	d := &Driver{unknownBrokers: make(map[string]struct{}), cfg: Config{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		OnEvent: func(e Event) { events = append(events, e) },
	}}
	for i, properties := range []amqp091.Table{
		{"product": "RabbitMQ", "version": "4.3.6"},
		{"product": "RabbitMQ", "version": "3.9.29"},
		{"product": "RabbitMQ", "version": "3.9.29"},
		{"product": "RabbitMQ"},
		{"product": "LavinMQ", "version": "4.3.0"},
		{},
	} {
		conn := &connection{supervisor: &supervisor{role: "publish"}, address: "host:5672", generation: uint64(i)}
		conn.brokerName, conn.version = brokerOf(properties)
		d.warnUnknownBroker(conn)
	}
	var names []string
	for _, e := range events {
		if e.Kind != Unknown || !errors.Is(e.Err, adapters.ErrUnsupported) {
			t.Errorf("event %+v", e)
		}
		names = append(names, e.Err.Error())
	}
	for i, name := range []string{"RabbitMQ 3.9.29", "RabbitMQ ", "LavinMQ 4.3.0", "a broker without a name"} {
		if len(names) != 4 || !strings.Contains(names[i], name) {
			t.Errorf("told %q, want %q", names, name)
		}
		if !strings.Contains(log.String(), strings.TrimSpace(name)) {
			t.Errorf("the log lacks %q: %s", name, &log)
		}
	}
}

// TestKnownBroker: the one of the tests is known, and shows in Health.
func TestKnownBroker(t *testing.T) {
	d := connect(t, func(c *Config) {
		c.OnEvent = func(e Event) {
			if e.Kind == Unknown {
				t.Error(e.Err)
			}
		}
	})
	if _, err := d.publisher.connection(soon(t)); err != nil {
		t.Fatal(err)
	}
	if h := d.Health().Connections[0]; !strings.HasPrefix(h.Broker, "RabbitMQ ") || h.Broker == "RabbitMQ" {
		t.Errorf("%+v", h)
	}
}

// TestReasons: what the broker says decides which error it is, and not its number alone.
func TestReasons(t *testing.T) {
	const (
		invalidArg   = "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type x"
		transient    = "PRECONDITION_FAILED - Feature `transient_nonexcl_queues` is deprecated. By default, not permitted"
		locked       = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection"
		userChannels = "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (1)"
		nodeChannels = "NOT_ALLOWED - number of channels opened on node 'n' has reached the maximum allowed limit of (1)"
	)
	for _, c := range []struct {
		code   int
		reason string
		want   error
	}{
		{406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q'", adapters.ErrMismatch},
		{406, "PRECONDITION_FAILED - inequivalent arg 'x' for queue 'limit is reached'", adapters.ErrMismatch},
		{406, invalidArg, adapters.ErrUnsupported},
		{406, transient, adapters.ErrUnsupported},
		{406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (10) is reached", ErrLimit},
		{530, "NOT_ALLOWED - access to vhost '/' refused for user 'u': connection limit (1) is reached", ErrLimit},
		{530, "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached", ErrLimit},
		{530, userChannels, ErrLimit},
		{530, nodeChannels, ErrLimit},
		{530, "NOT_ALLOWED - attempt to reuse consumer tag 'limit reached'", adapters.ErrInvalid},
		{504, "channel id space exhausted", adapters.ErrInvalid},
		{403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", ErrInUse},
		{403, "ACCESS_REFUSED - access to queue 'in exclusive use' in vhost '/' refused for user 'u'", adapters.ErrAccess},
		{405, locked, ErrInUse},
		{404, "NOT_FOUND - no queue 'q' in vhost '/'", adapters.ErrNotFound},
		{540, "NOT_IMPLEMENTED - basic.get not supported by stream queues queue 'q' in vhost '/'", adapters.ErrUnsupported},
		{541, "INTERNAL_ERROR", adapters.ErrUnavailable},
		{320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", adapters.ErrUnavailable},
		{501, "FRAME_ERROR", adapters.ErrInvalid},
	} {
		err := classify(&amqp091.Error{Code: c.code, Reason: c.reason, Server: true})
		wantErr(t, c.reason, err, c.want)
		if !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%v does not say %s", err, c.reason)
		}
		passes := errors.Is(c.want, adapters.ErrUnavailable)
		if errors.Is(err, adapters.ErrUnavailable) != passes || errors.Is(err, adapters.ErrInvalid) == passes && c.code == 403 {
			t.Errorf("it passes, or does not: %v", err)
		}
	}
	wantErr(t, "of amqp091", classify(amqp091.ErrChannelMax), ErrLimit)
	wantErr(t, "the end of a connection, as amqp091 has it", classify(&amqp091.Error{Code: 501, Reason: "EOF"}), adapters.ErrUnavailable)
	disabled := &amqp091.Error{Code: amqp091.InternalError, Reason: "INTERNAL_ERROR - Cannot declare a queue 'q' of type 'quorum' on node 'n': the corresponding feature flag is disabled"}
	wantErr(t, "a type of queue that is disabled", classify(disabled), adapters.ErrUnsupported)
}
