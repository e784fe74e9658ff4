package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
)

var pingCommand = command{
	name: "ping", args: "[QUEUE...]", short: "connect, send a message there and back, and say what the broker is",
	long: `
Connects, sends messages to a private queue and receives them, and says how long that takes, which
broker it is, what the user may not do, and whether the broker blocks publishers. Of each QUEUE it
says whether the user can see it.`,
	setup: func(flags *flag.FlagSet) action {
		n := flags.Int("n", 5, "send `N` messages")
		timeout := flags.Duration("timeout", 10*time.Second, "give up after so long")
		return func(ctx context.Context, i *invocation) error {
			ctx, cancel := context.WithTimeout(ctx, *timeout)
			defer cancel()
			return i.ping(ctx, max(1, *n))
		}
	},
}

// pong is what a ping found out.
type pong struct {
	Adapter   string   `json:"adapter"`
	Broker    []string `json:"broker,omitempty"` // at which address it is what
	Connect   float64  `json:"connect_ms"`
	RoundTrip float64  `json:"round_trip_ms,omitempty"` // the median
	Blocked   string   `json:"blocked,omitempty"`
	Problems  []string `json:"problems,omitempty"`
}

func (i *invocation) ping(ctx context.Context, n int) (err error) {
	began := time.Now()
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	p := pong{Adapter: d.Features().Adapter, Connect: milliseconds(time.Since(began))}
	var problems []error
	times, err := roundTrips(ctx, d, n)
	if err != nil {
		problems = append(problems, fmt.Errorf("no round trip: %w", err))
	} else {
		slices.Sort(times)
		p.RoundTrip = milliseconds(times[len(times)/2])
	}
	if ops, ok := d.(adapters.Inspector); ok {
		for _, queue := range i.args {
			if _, err := ops.Inspect(ctx, queue); err != nil {
				problems = append(problems, err)
			}
		}
	}
	p.ask(d)
	for _, problem := range problems {
		p.Problems = append(p.Problems, problem.Error())
	}
	if i.json {
		err = i.object(p)
	} else {
		err = i.writePong(&p)
	}
	if len(problems) > 0 {
		err = errors.Join(err, explainError(errors.Join(problems...)))
	}
	return err
}

// roundTrips sends messages to a private queue, one after another, and returns how long each took
// until it was received.
func roundTrips(ctx context.Context, d adapters.Driver, n int) (times []time.Duration, err error) {
	sub, err := d.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sub.Stop()) }()
	to := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Reply, Name: sub.Address()}}
	to.Transient = true
	for range n {
		began := time.Now()
		if err := d.Publish(ctx, to, message.NewMessage("motif-ping", nil)); err != nil {
			return nil, err
		}
		got, err := sub.Receive(ctx)
		if err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		if err := got.Settle(ctx, adapters.Ack); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// ask adds what only RabbitMQ's adapter knows.
func (p *pong) ask(d adapters.Driver) {
	rabbit, ok := d.(*amqp.Driver)
	if !ok {
		return
	}
	for _, c := range rabbit.Health().Connections {
		if c.Blocked {
			p.Blocked = c.BlockedReason
			if p.Blocked == "" {
				p.Blocked = "it does not say why"
			}
		}
		if name := c.Broker + " at " + c.Address; c.Up && !slices.Contains(p.Broker, name) {
			p.Broker = append(p.Broker, name)
		}
	}
}

func (i *invocation) writePong(p *pong) error {
	broker := p.Adapter
	if len(p.Broker) > 0 {
		broker = strings.Join(p.Broker, ", ")
	}
	lines := []string{"broker: " + broker, fmt.Sprintf("connected in %.1f ms", p.Connect)}
	if p.RoundTrip > 0 {
		lines = append(lines, fmt.Sprintf("there and back in %.2f ms", p.RoundTrip))
	}
	if p.Blocked != "" {
		lines = append(lines, "it takes no publishes at present: "+p.Blocked)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(i.stdout, safe(line, 0)); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
