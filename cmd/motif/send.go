package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/patterns"
)

func messageCommands() []command {
	return []command{queuesCommand, webCommand, tailCommand, sendCommand, callCommand, pingCommand}
}

// kinds are the kinds of endpoints by the names that -kind takes.
var kinds = map[string]adapters.Kind{
	"queue": adapters.Queue, "fanout": adapters.Fanout, "direct": adapters.Direct, "topic": adapters.Topic, "exchange": adapters.Exchange,
}

func kindOf(name string) (adapters.Kind, error) {
	kind, ok := kinds[name]
	if !ok {
		return 0, usagef("-kind is queue, fanout, direct, topic or exchange, not %q", name)
	}
	return kind, nil
}

// payload returns the payload that a command was given as an argument, or standard input.
func (i *invocation) payload(ctx context.Context) ([]byte, error) {
	if len(i.args) > 1 && i.args[1] != "-" {
		return []byte(i.args[1]), nil
	}
	return io.ReadAll(i.input(ctx))
}

var sendCommand = command{
	name: "send", args: "NAME [PAYLOAD]", short: "send a message to a queue or an exchange, and wait for the confirm",
	long: `
Sends PAYLOAD, or standard input. A queue has to exist; -kind sends to an exchange instead.`,
	setup: func(flags *flag.FlagSet) action {
		var headers repeated
		flags.Var(&headers, "header", "add the header `NAME=VALUE`; may be repeated")
		kind := flags.String("kind", "queue", "what NAME is: queue, fanout, direct, topic or exchange (one of any type)")
		key := flags.String("key", "", "routing `KEY`, for exchanges")
		id := flags.String("id", "", "the message's `ID`; else a new one")
		contentType := flags.String("type", "application/json", "its content `TYPE`")
		return func(ctx context.Context, i *invocation) error {
			to, err := kindOf(*kind)
			if err != nil {
				return err
			}
			if *id == "" {
				*id = rand.Text()
			}
			p := adapters.Publication{To: adapters.Endpoint{Kind: to, Name: i.args[0]}, Key: *key}
			p.ContentType = *contentType
			return i.send(ctx, p, *id, headers)
		}
	},
}

func (i *invocation) send(ctx context.Context, p adapters.Publication, id string, headers []string) (err error) {
	payload, err := i.payload(ctx)
	if err != nil {
		return err
	}
	m := message.NewMessage(id, payload)
	for _, h := range headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return usagef("-header takes NAME=VALUE, not %q", h)
		}
		m.Metadata[name] = value
	}
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	p.Mandatory = p.To.Kind == adapters.Queue && d.Features().Ability.Has(adapters.CanReturn)
	if err := d.Publish(ctx, p, m); err != nil {
		return explainError(err)
	}
	if i.json {
		return i.object(map[string]string{"id": id})
	}
	_, err = fmt.Fprintf(i.stdout, "Sent, with the id %s.\n", safe(id, 0))
	return err
}

var callCommand = command{
	name: "call", args: "NAME [PAYLOAD]", short: "call a function of an RPC server, and write its reply",
	long: `
Calls NAME with PAYLOAD, or standard input, as JSON. The reply goes to standard output byte by byte if
that is no terminal; an error of the server is the command's.`,
	setup: func(flags *flag.FlagSet) action {
		timeout := flags.Duration("timeout", 30*time.Second, "wait so long for the reply, as 500ms or 1m")
		return func(ctx context.Context, i *invocation) (err error) {
			payload, err := i.payload(ctx)
			if err != nil {
				return err
			}
			if !json.Valid(payload) {
				return usagef("PAYLOAD is not JSON")
			}
			d, err := i.open(ctx)
			if err != nil {
				return err
			}
			bus := patterns.New(d)
			defer func() { err = errors.Join(err, closeBus(ctx, bus)) }()
			ctx, cancel := context.WithTimeout(ctx, *timeout)
			defer cancel()
			reply, err := patterns.NewRPC[json.RawMessage, patterns.Raw](bus, i.args[0]).Call(ctx, payload)
			if err != nil {
				return explainError(err)
			}
			if isTerminal(i.stdout) {
				reply = []byte(deadletters.PrintableLines(string(reply), 0) + "\n")
			}
			_, err = i.stdout.Write(reply)
			return err
		}
	},
}

func closeBus(ctx context.Context, b *patterns.Bus) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return b.Close(ctx)
}
