package amqp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// TestAccess: what a user may not do fails, alone and at once, and says so.
func TestAccess(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, "limited", password); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, "limited")
	url := v.URLFor("limited", password)
	var log bytes.Buffer
	check := func(what string, err error) {
		t.Helper()
		wantErr(t, what, err, adapters.ErrAccess)
		if strings.Contains(fmt.Sprintf("%+v", err)+log.String(), "s3cr") {
			t.Errorf("%s shows the password: %v", what, err)
		}
	}
	_, err := Connect(ctx, configFor(t, url))
	check("Connect without a right to the vhost", err)
	_, err = Connect(ctx, configFor(t, v.URLFor("limited", "s3cret")))
	check("Connect with a wrong password", err)
	_, err = Connect(ctx, configFor(t, strings.Replace(url, "/"+v.Name, "/missing", 1)))
	check("Connect to a missing vhost", err)

	if err := v.SetPermissions(ctx, "limited", "^own", "^own|^amq.default$|^exists", "^own"); err != nil {
		t.Fatal(err)
	}
	admin := connectTo(t, v.URL)
	exists := adapters.Endpoint{Kind: adapters.Fanout, Name: "exists"}
	declare(t, admin, adapters.Source{Endpoint: exists})
	declare(t, admin, fromQueue("others", 1))
	d := connectTo(t, url, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	own := subscribe(t, d, fromQueue("own", 1))
	check("Declare", d.Declare(ctx, fromQueue("others", 1)))
	_, err = d.Subscribe(ctx, fromQueue("others", 1))
	check("Subscribe", err)
	publish(t, d, adapters.Publication{To: exists}, "a")
	missing := adapters.Endpoint{Kind: adapters.Fanout, Name: "exists.not"}
	for range 3 {
		check("Publish to an exchange that is not there, and cannot be declared", d.Publish(ctx, adapters.Publication{To: missing}, msg("a")))
	}
	publish(t, d, mandatory("own"), "b")
	receiveAll(t, own, "b")

	// A right that is taken away ends the subscription that it was for.
	if err := v.SetPermissions(ctx, "limited", "^$", "^$", "^$"); err != nil {
		t.Fatal(err)
	}
	d.consumers[0].current().netConn.Abort(errors.New("cut"))
	_, err = own.Receive(soon(t))
	check("Receive", err)
}

// TestCredentialsAreAskedAgain at every connect.
func TestCredentialsAreAskedAgain(t *testing.T) {
	v := amqptest.Shared(t)
	if err := v.AddUser(ctx, "rotating", "first"); err != nil {
		t.Fatal(err)
	}
	defer v.DeleteUser(ctx, "rotating")
	if err := v.SetPermissions(ctx, "rotating", ".*", ".*", ".*"); err != nil {
		t.Fatal(err)
	}
	var secret atomic.Value
	secret.Store("first")
	d := connectTo(t, v.URL, func(c *Config) {
		c.Credentials = func(context.Context) (Credentials, error) {
			return Credentials{Username: "rotating", Password: NewSecret(secret.Load().(string))}, nil
		}
	})
	q := unique(t)
	declare(t, d, fromQueue(q, 1))
	if err := v.ChangePassword(ctx, "rotating", "second"); err != nil {
		t.Fatal(err)
	}
	d.publisher.current().netConn.Abort(errors.New("cut"))
	eventually(t, "the refusal shows", func() bool {
		h := d.Health().Connections[0]
		return !h.Up && errors.Is(h.LastError, adapters.ErrAccess)
	})
	secret.Store("second")
	publish(t, d, mandatory(q), "a")
	if h := d.Health(); !h.OK() || h.Connections[0].Generation != 2 || h.Connections[0].Address == "" {
		t.Errorf("%+v", h)
	}
}
