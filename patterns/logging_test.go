package patterns_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type traceKey struct{}

// tracer is what a program has that logs trace ids: they are in the ctx.
type tracer struct{ slog.Handler }

func (h tracer) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(traceKey{}).(string); ok {
		r.AddAttrs(slog.String("trace", id))
	}
	if d, ok := patterns.DeliveryFrom(ctx); ok {
		r.AddAttrs(slog.String("delivery", d.ID))
	}
	return h.Handler.Handle(ctx, r)
}

func tracing(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		m.SetContext(context.WithValue(m.Context(), traceKey{}, "trace-of-"+m.UUID))
		return next(m)
	}
}

// Every line about a message has the ctx of its handler, as the middleware made it.
func TestLogLinesHaveTheHandlersContext(t *testing.T) {
	rows := map[string]struct {
		result error
		opts   []patterns.WorkOption
	}{
		"trying again":               {errKitchen, nil},
		"trying again in process":    {errKitchen, []patterns.WorkOption{patterns.Retry(patterns.RetryPolicy{InProcess: true})}},
		"given up":                   {patterns.Reject(errKitchen), nil},
		"dropped":                    {errKitchen, []patterns.WorkOption{patterns.AckOnReceive()}},
		"skipped":                    {patterns.Skip(errKitchen), nil},
		"back to its place":          {patterns.Requeue(errKitchen), nil},
		"in process, HandlerTimeout": {errKitchen, []patterns.WorkOption{patterns.HandlerTimeout(time.Second), patterns.Retry(patterns.RetryPolicy{InProcess: true})}},
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				broker := memory.New()
				defer broker.Close()
				bus := patterns.New(broker.Connect(), patterns.WithMiddleware(tracing), patterns.WithLogger(slog.New(tracer{slog.NewTextHandler(&log, nil)})))
				q := patterns.NewWorkQueue[order](bus, "orders")
				must(t, second(q.Work(t.Context(), func(context.Context, order) error { return r.result }, r.opts...)))
				must(t, q.Send(t.Context(), order{}, patterns.MessageID("seven")))
				time.Sleep(10 * time.Second)
				must(t, bus.Close(t.Context()))
			})
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			for _, line := range lines {
				if !strings.Contains(line, "trace=trace-of-seven") || !strings.Contains(line, "delivery=seven") {
					t.Errorf("without its trace: %s", line)
				}
			}
			if what, _, _ := strings.Cut(name, ","); what != "in process" && !strings.Contains(lines[0], what) {
				t.Errorf("%s: %v", what, lines)
			}
		})
	}
}

// A call's handler, too.
func TestLogLinesOfCallsHaveTheHandlersContext(t *testing.T) {
	var log bytes.Buffer
	bus, _ := newBus(t, patterns.WithMiddleware(tracing), patterns.WithLogger(slog.New(tracer{slog.NewTextHandler(&log, nil)})))
	f := patterns.NewRPC[string, string](bus, "f")
	must(t, second(f.Serve(bounded(t), func(context.Context, string) (string, error) { return "", errKitchen })))
	if err := second(f.Call(bounded(t), "")); err == nil {
		t.Fatal("no error")
	}
	must(t, bus.Close(bounded(t)))
	if !strings.Contains(log.String(), "trace=trace-of-") {
		t.Errorf("without its trace: %s", log.String())
	}
}

// What goes wrong out of sight is logged without a word to do so, to the logger that is the
// program's default when it happens; a logger that discards keeps a bus silent.
func TestDefaultLogger(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	for name, opts := range map[string][]patterns.BusOption{
		"default": nil, "silenced": {patterns.WithLogger(slog.New(slog.DiscardHandler))},
	} {
		var log bytes.Buffer
		bus, _ := newBus(t, opts...)
		slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
		q := patterns.NewWorkQueue[order](bus, "orders")
		must(t, second(q.Work(bounded(t), func(context.Context, order) error { return patterns.Reject(errKitchen) })))
		must(t, q.Send(bounded(t), order{}))
		must(t, second(q.Dead().Get(bounded(t))))
		must(t, bus.Close(bounded(t)))
		if said := strings.Contains(log.String(), "given up, to the dead letters"); said != (opts == nil) {
			t.Errorf("%s: %q", name, log.String())
		}
	}
}

// A throttle, or whatever middleware waits for, does not use up the handler's time.
func TestHandlerTimeoutIsTheHandlersAlone(t *testing.T) {
	throttle := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			time.Sleep(time.Minute)
			out, err := next(m)
			if m.Context().Err() != nil {
				t.Errorf("the middleware's ctx has ended, too")
			}
			return out, err
		}
	}
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		q := patterns.NewWorkQueue[order](bus, "orders")
		start, took := time.Now(), time.Duration(0)
		must(t, second(q.Work(t.Context(), func(ctx context.Context, _ order) error {
			if ctx.Err() != nil {
				t.Errorf("the handler begins with %v", ctx.Err())
			}
			<-ctx.Done()
			took = time.Since(start)
			return nil
		}, patterns.HandlerTimeout(time.Second))))
		must(t, q.Send(t.Context(), order{}))
		time.Sleep(time.Hour)
		synctest.Wait()
		if took != time.Minute+time.Second {
			t.Errorf("the handler's ctx ended after %v", took)
		}
	}, patterns.WithMiddleware(throttle))
}
