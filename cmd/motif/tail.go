package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

var tailCommand = command{
	name: "tail", args: "TOPIC", short: "show what is published to a topic from now on",
	long: `
Subscribes with a queue of its own, so that nobody else gets less. Each message is shown with the time
at which it came, its key and its id. An exchange that does not exist is declared.`,
	setup: func(flags *flag.FlagSet) action {
		var patterns repeated
		flags.Var(&patterns, "pattern", "only messages whose key matches `PATTERN`: * is one word, # any number; may be repeated (# without it)")
		kind := flags.String("kind", "topic", "what TOPIC is: topic, fanout or direct, for which -pattern is a key")
		most := flags.Int("n", 0, "end after `N` messages")
		return func(ctx context.Context, i *invocation) error {
			of, err := kindOf(*kind)
			if err != nil {
				return err
			}
			if len(patterns) == 0 && of == adapters.Topic {
				patterns = repeated{"#"}
			}
			src := adapters.Source{Endpoint: adapters.Endpoint{Kind: of, Name: i.args[0]}, Keys: patterns, Prefetch: 100}
			if !src.Private() {
				return usagef("-kind is topic, fanout or direct: to look into a queue there is motif dead show")
			}
			return i.tail(ctx, src, *most)
		}
	},
}

func (i *invocation) tail(ctx context.Context, src adapters.Source, most int) (err error) {
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	sub, err := d.Subscribe(ctx, src)
	if err != nil {
		return explainError(err)
	}
	for n := 0; most == 0 || n < most; n++ {
		got, err := sub.Receive(ctx)
		if err != nil && ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		if err != nil {
			return err
		}
		l := deadletters.Letter{Delivery: got}
		if err := i.tailed(&l); err != nil {
			return err
		}
		if err := got.Settle(ctx, adapters.Ack); err != nil && ctx.Err() == nil && !errors.Is(err, adapters.ErrStaleDelivery) {
			return err
		}
	}
	return nil
}

// tailed shows one message.
func (i *invocation) tailed(l *deadletters.Letter) error {
	if i.json {
		return i.object(deadletters.NewRecord(l))
	}
	text, err := l.Text()
	if err != nil {
		text = l.Message.Payload
	}
	_, err = fmt.Fprintf(i.stdout, "%s  %s  %s  %s\n", i.colour(colourDim, time.Now().Format("15:04:05.000")),
		i.colour(colourHead, safe(l.Key, 80)), i.colour(colourDim, safe(l.Message.UUID, 40)), safe(string(text), 2000))
	return err
}
