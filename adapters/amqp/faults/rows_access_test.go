package faults

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance/history"
)

// loginRefused: 17. A wrong password, one that is changed, and a user who is
// deleted while at work.
func loginRefused(x *trial) {
	site := x.shared()
	cfg := site.config("stranger")
	cfg.DialTimeout = 10 * time.Second // RabbitMQ lets who failed to log in wait for 3 s
	wrong := x.secret()
	cfg.Credentials = func(context.Context) (amqp.Credentials, error) {
		return amqp.Credentials{Username: site.user, Password: amqp.NewSecret(wrong)}, nil
	}
	err := x.within(x.patience, "Connect", func(ctx context.Context) error {
		_, err := amqp.Connect(ctx, cfg)
		return err
	})
	x.want(err, adapters.ErrAccess, "login with a wrong password")

	var password atomic.Pointer[string]
	var asked atomic.Int64
	password.Store(&site.password)
	w := x.watcher()
	client := site.connect("client", watch(w), func(c *amqp.Config) {
		c.DialTimeout = cfg.DialTimeout
		c.Credentials = func(context.Context) (amqp.Credentials, error) {
			asked.Add(1)
			return amqp.Credentials{Username: site.user, Password: amqp.NewSecret(*password.Load())}, nil
		}
	})
	x.consume(x.subscribe(client, from("jobs", 10)), 2, nil)
	x.publish(client, toQueue("jobs"), text("before", 10))
	x.awaitHandled()

	renewed := x.secret()
	x.must(site.ChangePassword(x.soon(), site.user, renewed), "changing the password")
	x.thrownOut(site, w, &asked, func() { password.Store(&renewed) })
	x.publish(client, toQueue("jobs"), text("with another password", 10))
	x.awaitHandled()

	x.must(site.DeleteUser(x.soon(), site.user), "deleting the user")
	x.thrownOut(site, w, &asked, func() {
		x.must(site.AddUser(x.soon(), site.user, renewed), "adding the user again")
		x.must(site.SetPermissions(x.soon(), site.user, ".*", ".*", ".*"), "giving it permissions")
	})
	x.publish(client, toQueue("jobs"), text("hired again", 10))
	x.awaitHandled()
}

// thrownOut closes the connections of a client that may not come back, looks
// that it does not storm the door, and lets it in again.
func (x *trial) thrownOut(site *site, w *watcher, asked *atomic.Int64, admit func()) {
	connected := w.count(amqp.Connected, "publish")
	begin, before := time.Now(), asked.Load()
	_, err := site.CloseConnections(x.soon())
	x.must(err, "closing the connections")
	w.await(amqp.Lost, "publish", connected)
	x.await("it tries to come back", func() bool { return asked.Load() >= before+4 })
	if took := time.Since(begin); took < time.Second {
		x.errorf("it asked for its password 4 times in %v", took)
	}
	admit()
	w.await(amqp.Connected, "publish", connected+1)
}

// vhostDeleted: 18. The virtual host is deleted under its clients, and made
// again.
func vhostDeleted(x *trial) {
	node, s := x.node(amqptest.Options{})
	v, err := node.AddVHost(x.soon(), "short-lived")
	x.must(err, "adding a virtual host")
	s.gone = true
	site := x.site(v)
	w := x.watcher()
	client := site.connect("client", watch(w))
	x.consume(x.subscribe(client, from("jobs", 10)), 2, nil)
	x.publish(client, toQueue("jobs"), text("before", 10))
	x.awaitHandled()
	x.must(site.Delete(x.soon()), "deleting the virtual host")
	w.await(amqp.Lost, "publish", 1)
	err = x.within(time.Second, "Publish", func(ctx context.Context) error {
		return client.Publish(ctx, toQueue("jobs"), text("nowhere", 10))
	})
	x.want(err, adapters.ErrUnavailable, "publish with no virtual host")
	err = x.within(x.patience, "Connect", func(ctx context.Context) error {
		_, err := amqp.Connect(ctx, site.config("late"))
		return err
	})
	x.want(err, adapters.ErrAccess, "connect to a virtual host that there is none of")
	_, err = node.AddVHost(x.soon(), "short-lived")
	x.must(err, "adding it again")
	x.must(site.SetPermissions(x.soon(), site.user, ".*", ".*", ".*"), "giving permissions again")
	w.await(amqp.Connected, "publish", 2)
	// RabbitMQ takes the queues and permissions away first and closes the
	// connections then: in between, the subscription may be told that it may not be healed.
	x.consume(x.subscribe(client, from("jobs", 10)), 2, nil)
	x.publish(client, toQueue("jobs"), text("after", 10))
	x.awaitHandled()
	if tries := x.log.count("cannot connect"); tries > 100 {
		x.errorf("it tried %d times", tries)
	}
}

// denied: 19. One thing may not be done; all else goes on.
func denied(x *trial) {
	x.undisturbed()
	site := x.shared()
	w := x.watcher()
	client := site.connect("client", watch(w))
	secret := adapters.Endpoint{Kind: adapters.Fanout, Name: "secret"}
	x.must(client.Declare(x.soon(), adapters.Source{Endpoint: secret, Group: "g"}), "declaring")
	x.must(client.Declare(x.soon(), from("secret", 1)), "declaring")
	x.consume(x.subscribe(client, from("jobs", 50)), 4, nil)
	x.consume(x.subscribe(client, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}, Group: "g", Prefetch: 50}), 4, nil)
	others := x.stream(client, toQueue("jobs"), "job", 4, 1<<30, 10)
	news := x.stream(client, adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: "news"}}, "item", 4, 1<<30, 10)

	const notSecret = "^(?!secret).*"
	x.must(site.SetPermissions(x.soon(), site.user, notSecret, notSecret, notSecret), "taking permissions away")
	// Channels remember for a while what they may do: this is the first one to know.
	x.await("writing is refused", func() bool {
		err := client.Publish(x.soon(), adapters.Publication{To: secret}, text("w-"+x.number(), 10))
		if e, ok := errors.AsType[*amqp091.Error](err); ok && e.Code == amqp091.AccessRefused {
			return true
		}
		if err != nil {
			x.errorf("publish without permission: %v", err)
		}
		return false
	})
	for range 5 {
		err := x.within(x.patience, "Publish", func(ctx context.Context) error {
			return client.Publish(ctx, adapters.Publication{To: secret}, text("w-"+x.number(), 10))
		})
		if err == nil {
			x.errorf("publish without permission: no error")
		}
		x.want(client.Declare(x.soon(), from("secret-"+x.number(), 1)), adapters.ErrAccess, "declaring without permission")
		passive := from("secret", 1)
		passive.Passive = true
		_, err = client.Subscribe(x.soon(), passive)
		x.want(err, adapters.ErrAccess, "subscribing without permission")
	}
	x.finish(others)
	x.finish(news)
	x.must(site.SetPermissions(x.soon(), site.user, ".*", ".*", ".*"), "giving them back")
	x.awaitNotSecret()
	for _, e := range x.h.Events() {
		if e.Op == history.PublishUnknown && e.To != secret {
			x.errorf("%s to %s had to suffer: %v", e.ID, e.To, e.Err)
		}
	}
	if w.count(amqp.Lost, "") > 0 {
		x.errorf("a connection was lost")
	}
}

// awaitNotSecret waits for what can be handled: what went to the secret
// exchange while that was possible stays in its queue.
func (x *trial) awaitNotSecret() {
	x.await("all else is handled", func() bool {
		left := 0
		for _, e := range x.h.Events() {
			if e.Op == history.PublishOK && e.To.Name == "secret" {
				left++
			}
		}
		return x.h.Open() == left
	})
}
