// Middleware puts something around every handler, every publish and every outcome.
//
//	go run ./examples/middleware
//
// Around a publish is OnPublish: here it gives each message the trace of the context that it was
// sent in. Around a handler is WithMiddleware, with watermill's signature: here it takes the trace
// from the message and puts it into the handler's context. After a message is settled OnSettle is
// called: here it counts results. Retries and dead letters are published for the program, with the
// context of their handler, so they keep the trace, too.
//
// Package middleware has what many programs need: a line in the log for each attempt, a limit that
// holds messages back at the broker, and Once, which skips a message that was handled before. Once
// comes last, so that it is next to the handler.
package main

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

const header = "trace"

type traceKey struct{}

// sendTrace is a [patterns.PublishHook].
func sendTrace(ctx context.Context, p *patterns.Publishing) func(error) {
	if trace, ok := ctx.Value(traceKey{}).(string); ok {
		for i := range p.Len() { // several, of a batch
			p.SetHeader(i, header, trace)
		}
	}
	return nil // nothing to do once it is published
}

// receiveTrace is a middleware.
func receiveTrace(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		m.SetContext(context.WithValue(m.Context(), traceKey{}, m.Metadata.Get(header)))
		return next(m)
	}
}

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanGet} // to take the dead letter
	if err := demo.Flags("middleware", &opts).Parse(args); err != nil {
		return err
	}
	var results expvar.Map // any metric
	settled := make(chan patterns.Result, 10)
	count := func(_ context.Context, s patterns.Settlement) {
		results.Add(string(s.Result), 1)
		settled <- s.Result
	}
	bus, closeBus, err := opts.Open(ctx,
		patterns.OnPublish(sendTrace),
		patterns.WithMiddleware(receiveTrace),
		middleware.Log(logger(out)),
		patterns.OnSettle(count))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	orders := patterns.NewWorkQueue[string](bus, "middleware")
	if err := errors.Join(demo.Clear(ctx, orders), demo.Clear(ctx, orders.Dead())); err != nil {
		return err
	}
	// Whoever sent ramen saw no publish confirm, and sent it again.
	sent := []struct{ id, dish string }{{"1", "ramen"}, {"1", "ramen"}, {"2", "fugu"}, {"3", "pho"}}
	for _, o := range sent {
		ctx := context.WithValue(ctx, traceKey{}, "t"+o.id)
		if err := orders.Send(ctx, o.dish, patterns.MessageID(o.id)); err != nil {
			return err
		}
	}

	cook := func(ctx context.Context, dish string) error {
		fmt.Fprintf(out, "cooking %s, in trace %v\n", dish, ctx.Value(traceKey{}))
		if dish == "fugu" {
			return patterns.Reject(errors.New("poisonous"))
		}
		return nil
	}
	began := time.Now()
	sub, err := orders.Work(ctx, cook,
		middleware.RateLimit(20, time.Second, 1),
		middleware.Once(middleware.NewMemoryStore(1000)))
	if err != nil {
		return err
	}
	if _, err := demo.Collect(ctx, settled, len(sent)); err != nil {
		return err
	}
	if err := sub.Stop(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "one every 50 ms:", time.Since(began) >= time.Duration(len(sent)-1)*50*time.Millisecond)
	fmt.Fprintln(out, "results:", &results)
	letter, err := orders.Dead().TryGet(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "dead letter: %s, in trace %s\n", letter.Value, letter.Headers[header])
	return letter.Ack(ctx)
}

// logger leaves out what is different each time.
func logger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" || a.Key == "in_queue" {
			return slog.Attr{}
		}
		return a
	}}))
}
