package amqp

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestCredentialsAreRenewed: before a password expires each connection is told the next one, and
// goes on.
func TestCredentialsAreRenewed(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	var asked atomic.Int32
	var log strings.Builder
	d := connectTo(t, n.URL, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Credentials = func(context.Context) (Credentials, error) {
			if asked.Add(1) == 3 { // the first to renew, which then tries again
				return Credentials{}, errors.New("the vault is shut")
			}
			return Credentials{Username: "guest", Password: NewSecret("guest"), Expires: time.Now().Add(1500 * time.Millisecond)}, nil
		}
	})
	sub := subscribe(t, d, fromQueue("q", 1))
	const told = "updated secret, reason: the last one expires"
	for deadline := time.Now().Add(time.Minute); strings.Count(n.Log(1000), told) < 4; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("RabbitMQ was told %d times, and the function asked %d", strings.Count(n.Log(1000), told), asked.Load())
		}
	}
	publish(t, d, toQueue("q"), "a")
	receiveAll(t, sub, "a")
	for _, sup := range append([]*supervisor{d.publisher}, d.consumers...) {
		if g := sup.generation(); g != 1 {
			t.Errorf("the connection to %s is the %d.", sup.role, g)
		}
	}
	if err := d.Close(ctx); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "the vault is shut") {
		t.Errorf("logged: %s", log.String())
	}
}

// TestResolvedAddresses: the addresses are asked for at each connect, and hold to the same rules.
func TestResolvedAddresses(t *testing.T) {
	u, err := url.Parse(brokerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	resolve := func(c *Config) {
		c.Addresses = nil
		c.Resolve = func(context.Context) ([]string, error) {
			if asked.Add(1) == 1 {
				return []string{closedPort(t), u.Host}, nil
			}
			return []string{u.Host}, nil
		}
	}
	d := connect(t, resolve)
	sub := subscribe(t, d, fromQueue(unique(t), 1))
	before := asked.Load()
	d.publisher.current().netConn.Abort(errors.New("cut"))
	publish(t, d, toQueue(sub.Address()), "a")
	receiveAll(t, sub, "a")
	if asked.Load() <= before {
		t.Error("not asked again")
	}
	for _, c := range []struct {
		addresses []string
		err, want error
	}{
		{nil, errors.New("no DNS"), adapters.ErrUnavailable},
		{nil, nil, adapters.ErrUnavailable},
		{[]string{"broker.example.com"}, nil, adapters.ErrInvalid},
	} {
		_, err := Connect(soon(t), Config{Resolve: func(context.Context) ([]string, error) { return c.addresses, c.err }})
		wantErr(t, "Connect", err, c.want)
	}
}
