package patternstest

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Message is a message for [Run].
type Message[T any] struct {
	Value   T
	Options []patterns.PublishOption // as patterns.Header and patterns.MessageID
}

// Run sends one message to a handler through a queue of its own on the bus's broker, and returns
// what became of it: with all the middleware, options and hooks of bus and opts, as a worker of the
// program handles it. It is the first attempt that counts: a message that is retried has the result
// [patterns.ResultRetried], with RetryIn as its wait, and is not waited for.
//
// The queue and its dead-letter queue are deleted afterwards, where the adapter can. Until the
// test's end and within 30 seconds the handler has to return, or the test ends.
func Run[T any](t testing.TB, bus *patterns.Bus, m Message[T], handler patterns.Handler[T], opts ...patterns.WorkOption) patterns.Settlement {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	q := patterns.NewWorkQueue[T](bus, "patternstest-"+rand.Text())
	defer deleteQueues(t, bus, q.Name())
	if err := q.Send(ctx, m.Value, m.Options...); err != nil {
		t.Fatalf("sending the message: %v", err)
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	settled := make(chan patterns.Settlement, 1)
	first := patterns.OnSettle(func(_ context.Context, s patterns.Settlement) {
		select {
		case settled <- s:
			stop() // before the worker takes another one
		default:
		}
	})
	sub, err := q.Work(working, handler, append(opts[:len(opts):len(opts)], first)...)
	if err != nil {
		t.Fatalf("starting the handler: %v", err)
	}
	select {
	case <-sub.Done(): // which the settlement ends
	case <-ctx.Done():
		t.Fatalf("the message was not settled: %v", ctx.Err())
	}
	err = sub.Wait()
	select {
	case s := <-settled:
		if err != nil {
			t.Errorf("stopping the handler: %v", err)
		}
		return s
	default:
		t.Fatalf("the subscription ended before the message was settled: %v", err)
	}
	return patterns.Settlement{}
}

// runTimeout bounds a Run.
const runTimeout = 30 * time.Second

func deleteQueues(t testing.TB, bus *patterns.Bus, queue string) {
	ops, ok := bus.Driver().(adapters.Inspector)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), runTimeout)
	defer cancel()
	for _, name := range []string{queue, queue + ".dead"} {
		err := ops.Delete(ctx, name, 0)
		if err != nil && !errors.Is(err, adapters.ErrNotFound) && !errors.Is(err, adapters.ErrUnsupported) {
			t.Errorf("deleting queue %q: %v", name, err)
		}
	}
}
