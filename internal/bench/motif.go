package main

import (
	"context"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// openBus opens a driver and a bus on it.
func openBus(ctx context.Context, url string, kind amqp.QueueType, codec patterns.Codec, opts ...patterns.BusOption) (*amqp.Driver, *patterns.Bus, error) {
	cfg, err := amqp.ParseURL(url)
	if err != nil {
		return nil, nil, err
	}
	const most = 4096
	cfg.QueueType, cfg.MaxInFlight = kind, most
	driver, err := amqp.Connect(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	opts = append([]patterns.BusOption{patterns.WithCodec(codec), patterns.MaxInFlight(most)}, opts...)
	return driver, patterns.New(driver, opts...), nil
}

// deleteQueues cleans up.
func deleteQueues(ctx context.Context, d *amqp.Driver, names ...string) error {
	return d.Do(ctx, func(ch *amqp091.Channel) error {
		for _, name := range names {
			if _, err := ch.QueueDelete(name, false, false, false); err != nil {
				return err
			}
		}
		return nil
	})
}
