package peers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
)

// NATS is a server of NATS with JetStream in this process, on loopback and with a login.
type NATS struct {
	options *server.Options
	server  *server.Server
}

const natsUser, natsPassword = "motif", "s3cr3t-passw0rd"

// StartNATS starts a server with nothing in it.
func StartNATS() (*NATS, error) {
	dir, err := os.MkdirTemp("", "motif-nats")
	if err != nil {
		return nil, err
	}
	n := &NATS{options: &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: natsUser, Password: natsPassword,
		StoreDir: dir, JetStream: true, NoSigs: true, NoLog: true,
	}}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return n, nil
}

func (n *NATS) start() (err error) {
	if n.server, err = server.NewServer(n.options.Clone()); err != nil {
		return err
	}
	n.server.Start()
	if !n.server.ReadyForConnections(time.Minute) {
		return errors.New("the NATS server does not start")
	}
	if u, err := url.Parse(n.server.ClientURL()); err == nil {
		_, err = fmt.Sscan(u.Port(), &n.options.Port) // the same after a restart
		return err
	}
	return nil
}

func (n *NATS) restart(context.Context) error {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	return n.start()
}

// Close ends the server and removes its data.
func (n *NATS) Close() error {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	return os.RemoveAll(n.options.StoreDir)
}

// WatermillNATS is watermill-nats on JetStream, which is its default, with streams that it makes
// itself and durable consumers, as its documentation has them: publishing waits for the server's
// acknowledgement, streams and durable consumers survive a restart, and a queue group with a
// durable name of its own is a consumer group.
func WatermillNATS(n *NATS) conformancetest.Adapter {
	const claims = adapters.CanConfirm | adapters.CanPersist
	return conformancetest.Adapter{
		Name: "watermill-nats",
		About: fmt.Sprintf("watermill-nats %s on NATS %s: JetStream with AutoProvision, a durable consumer for each queue and each group, through adapters/watermill, with the claims of its documentation.",
			version("github.com/ThreeDotsLabs/watermill-nats/v2"), server.VERSION),
		Features:  adapters.Features{Adapter: "watermill-nats", Ability: claims | adapters.CanFanout | adapters.CanGroup},
		Notes:     watermillNATSNotes,
		Sometimes: watermillNATSSometimes,
		Open: func(context.Context) (*conformance.Harness, error) {
			w := &wires{}
			return &conformance.Harness{
				Connect: func(context.Context) (adapters.Driver, error) {
					return connectWatermillNATS(n.server.ClientURL(), w, claims)
				},
				Cut:     w.cut,
				Restart: n.restart,
				Secret:  natsPassword,
			}, nil
		},
	}
}

func connectWatermillNATS(url string, w *wires, claims adapters.Ability) (_ adapters.Driver, err error) {
	options := []nats.Option{nats.UserInfo(natsUser, natsPassword), nats.SetCustomDialer(w)}
	var clients opened
	defer func() { clients.closeIf(&err) }()
	publisher, err := wmnats.NewPublisher(wmnats.PublisherConfig{
		URL: url, NatsOptions: options, JetStream: wmnats.JetStreamConfig{AutoProvision: true},
	}, wm.NopLogger{})
	if err != nil {
		return nil, err
	}
	clients = append(clients, publisher)
	// Members of a group have a durable consumer together, and all others one of their own that
	// begins with what is published from then on.
	subscriber := func(group string, from nats.SubOpt) (message.Subscriber, error) {
		return wmnats.NewSubscriber(wmnats.SubscriberConfig{
			URL: url, NatsOptions: options, QueueGroupPrefix: group, CloseTimeout: time.Second,
			JetStream: wmnats.JetStreamConfig{
				AutoProvision: true, DurablePrefix: group, SubscribeOptions: []nats.SubOpt{from, nats.AckExplicit()},
				DurableCalculator: func(prefix, topic string) string {
					if prefix == "" {
						return ""
					}
					return strings.NewReplacer(".", "_", " ", "_").Replace(prefix + "_" + topic)
				},
			},
		}, wm.NopLogger{})
	}
	queues, err := subscriber("workers", nats.DeliverAll())
	if err != nil {
		return nil, err
	}
	clients = append(clients, queues)
	fanout, err := subscriber("", nats.DeliverNew())
	if err != nil {
		return nil, err
	}
	clients = append(clients, fanout)
	d, err := watermill.NewDriver(watermill.Config{
		Adapter: "watermill-nats", Publisher: publisher, Subscriber: queues, Competing: true, Fanout: fanout, Claim: claims,
		Groups: func(group string) (message.Subscriber, error) { return subscriber(group, nats.DeliverNew()) },
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
