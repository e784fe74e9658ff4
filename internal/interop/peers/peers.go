// Package peers has the adapters of others that we compare with, for the conformance suite.
package peers

import (
	"context"
	"fmt"
	"runtime/debug"

	wm "github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
)

// GoChannel is watermill's in-process pair as it comes, with what its
// documentation says of it: every subscriber gets every message.
func GoChannel() conformancetest.Adapter {
	return conformancetest.Adapter{
		Name:     "gochannel",
		About:    fmt.Sprintf("watermill %s: gochannel.Config{}, through adapters/watermill, with the claim that each subscriber gets a copy.", version("github.com/ThreeDotsLabs/watermill")),
		Features: adapters.Features{Adapter: "gochannel", Ability: adapters.CanFanout},
		Notes:    goChannelNotes, Sometimes: goChannelSometimes, Disorder: goChannelOrder,
		Open: func(context.Context) (*conformance.Harness, error) {
			shared := gochannel.NewGoChannel(gochannel.Config{}, wm.NopLogger{})
			return &conformance.Harness{
				Connect: func(context.Context) (adapters.Driver, error) {
					client := leftOpen{shared}
					d, err := watermill.NewDriver(watermill.Config{
						Adapter: "gochannel", Publisher: client, Subscriber: client, Fanout: client,
					})
					if err != nil {
						return nil, err
					}
					return d, nil
				},
				Close: func(context.Context) error { return shared.Close() },
			}, nil
		},
	}
}

// leftOpen is one of several clients of a gochannel, which is the broker, too.
type leftOpen struct{ *gochannel.GoChannel }

func (leftOpen) Close() error { return nil }

// WatermillAMQP is watermill-amqp in its durable configuration, confirms
// turned on, with what its documentation says of it: Publish blocks until the
// broker has saved the message, messages survive a restart, a prefetch of 1 gives the
// next message to the worker that is not busy, and queues with names of their
// own are consumer groups.
//
// Each topic is a fanout exchange there. A queue is one that is bound to the exchange of its
// name.
func WatermillAMQP(node *amqptest.Node) conformancetest.Adapter {
	const claims = adapters.CanConfirm | adapters.CanPersist | adapters.CanBalance
	return conformancetest.Adapter{
		Name: "watermill-amqp",
		About: fmt.Sprintf("watermill-amqp %s on RabbitMQ %s: NewDurablePubSubConfig with ConfirmDelivery, through adapters/watermill, with the claims of its documentation.",
			version("github.com/ThreeDotsLabs/watermill-amqp/v3"), node.Version),
		Features: adapters.Features{Adapter: "watermill-amqp", Ability: claims | adapters.CanFanout | adapters.CanGroup},
		Notes:    watermillAMQPNotes, Sometimes: watermillAMQPSometimes,
		Open: func(ctx context.Context) (*conformance.Harness, error) {
			return conformancetest.OnRabbitMQ(ctx, node, func(_ context.Context, url string) (adapters.Driver, error) {
				return connectWatermillAMQP(url, claims)
			})
		},
	}
}

func connectWatermillAMQP(url string, claims adapters.Ability) (_ adapters.Driver, err error) {
	var clients opened
	defer func() { clients.closeIf(&err) }()
	subscriber := func(name func(topic string) string, private bool) (message.Subscriber, error) {
		cfg := wmamqp.NewDurablePubSubConfig(url, name)
		if private {
			cfg.Queue.Durable, cfg.Queue.Exclusive, cfg.Queue.AutoDelete = false, true, true
		}
		return wmamqp.NewSubscriber(cfg, wm.NopLogger{})
	}
	cfg := wmamqp.NewDurablePubSubConfig(url, nil)
	cfg.Publish.ConfirmDelivery = true
	publisher, err := wmamqp.NewPublisher(cfg, wm.NopLogger{})
	if err != nil {
		return nil, err
	}
	clients = append(clients, publisher)
	queues, err := subscriber(wmamqp.GenerateQueueNameTopicName, false)
	if err != nil {
		return nil, err
	}
	clients = append(clients, queues)
	fanout, err := subscriber(func(topic string) string { return topic + "_" + wm.NewShortUUID() }, true)
	if err != nil {
		return nil, err
	}
	clients = append(clients, fanout)
	d, err := watermill.NewDriver(watermill.Config{
		Adapter: "watermill-amqp", Publisher: publisher, Subscriber: queues, Competing: true, Fanout: fanout, Claim: claims,
		Groups: func(group string) (message.Subscriber, error) {
			return subscriber(func(topic string) string { return topic + ":" + group }, false)
		},
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// version is that of a module in this program.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return "of unknown version"
}
