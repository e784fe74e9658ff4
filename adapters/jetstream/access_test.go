package jetstream

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/motifmq/motif/adapters"
)

// limited opens a driver that may do all, and one that may not publish to some subjects, which logs
// to log.
func limited(t *testing.T, log *lines, subjects ...string) (all, some *Driver) {
	t.Helper()
	s := startServer(t, &server.Options{Users: []*server.User{
		{Username: "all", Password: "p"},
		{Username: "some", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: subjects}}},
	}})
	all = openURL(t, "nats://all:p@"+s.Addr().String())
	some = openURL(t, "nats://some:p@"+s.Addr().String())
	some.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	return all, some
}

// The server drops what a user may not publish, and says so of the subject only: what waits for an
// answer is told at once, and that it is no use to try again.
func TestAccessIsRefused(t *testing.T) {
	for name, try := range map[string]struct {
		subject string // that is refused
		try     func(*Driver, adapters.Source) error
	}{
		"publish": {"motif.q.q.m.q", func(d *Driver, s adapters.Source) error {
			return d.Publish(t.Context(), adapters.Publication{To: s.Endpoint}, message.NewMessage("m", nil))
		}},
		"declare": {"$JS.API.STREAM.CREATE.MOTIF_Q_new", func(d *Driver, s adapters.Source) error {
			s.Name = "new"
			return d.Declare(t.Context(), s)
		}},
		"declare what exists": {"$JS.API.CONSUMER.CREATE.MOTIF_Q_q.>", func(d *Driver, s adapters.Source) error {
			return d.Declare(t.Context(), s)
		}},
		"bind": {"motif.x.news", func(d *Driver, s adapters.Source) error {
			s.Kind, s.Name, s.Group = adapters.Fanout, "news", "g"
			return d.Declare(t.Context(), s)
		}},
		"get": {"$JS.API.CONSUMER.MSG.NEXT.MOTIF_Q_q.>", func(d *Driver, s adapters.Source) error {
			_, err := d.Get(t.Context(), s)
			return err
		}},
		"receive": {"$JS.API.CONSUMER.MSG.NEXT.MOTIF_Q_q.>", func(d *Driver, s adapters.Source) error {
			sub, err := d.Subscribe(t.Context(), s)
			if err == nil {
				_, err = sub.Receive(t.Context())
			}
			return err
		}},
		"inspect": {"$JS.API.CONSUMER.INFO.MOTIF_Q_q.>", func(d *Driver, s adapters.Source) error {
			_, err := d.Inspect(t.Context(), s.Name)
			return err
		}},
		"list": {"$JS.API.STREAM.LIST", func(d *Driver, _ adapters.Source) error {
			for _, err := range d.Queues(t.Context()) {
				return err
			}
			return nil
		}},
		"delete": {"$JS.API.STREAM.DELETE.MOTIF_Q_q", func(d *Driver, s adapters.Source) error {
			return d.Delete(t.Context(), s.Name, 0)
		}},
		"purge": {"$JS.API.CONSUMER.MSG.NEXT.MOTIF_Q_q.>", func(d *Driver, s adapters.Source) error {
			_, err := d.Purge(t.Context(), s.Name)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lines{}
			all, d := limited(t, log, try.subject)
			s := source("q", 1)
			must(t, all.Declare(t.Context(), s))
			publish(t, all, s.Endpoint, "waits")
			err := try.try(d, s)
			if !errors.Is(err, adapters.ErrAccess) || errors.Is(err, adapters.ErrUnconfirmed) || errors.Is(err, adapters.ErrUnavailable) {
				t.Errorf("refused as %v", err)
			}
			if log.count(strings.TrimSuffix(try.subject, ">")) == 0 {
				t.Error("it was not logged")
			}
			other := source("other", 1) // goes on
			must(t, d.Declare(t.Context(), other))
			publish(t, d, other.Endpoint, "m")
		})
	}
}

// Who may not look whether the server has JetStream is told why nothing works.
func TestLoginWithoutRights(t *testing.T) {
	s := startServer(t, &server.Options{Users: []*server.User{
		{Username: "u", Password: "p", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}},
	}})
	_, err := adapters.Open(t.Context(), "nats://u:p@"+s.Addr().String())
	if !errors.Is(err, adapters.ErrAccess) || errors.Is(err, adapters.ErrUnavailable) {
		t.Errorf("opened with %v", err)
	}
}

// What was delayed, and may not be routed by the driver that would, waits for one that may.
func TestDelayedIsNotDroppedForWantOfRights(t *testing.T) {
	_, d := limited(t, &lines{}, "motif.q.ghost=20of=20news.m.>")
	p, _ := bindGhost(t, d, "news")
	words := settlements(t, d.session.nc, delayed.Name)
	if err := d.Publish(t.Context(), p, message.NewMessage("m", nil)); err != nil {
		t.Fatal(err)
	}
	expect(t, words, `-NAK {"delay":100000000}`)
}
