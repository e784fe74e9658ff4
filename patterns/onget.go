package patterns

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"
)

// Got is a message that the program took from a queue itself, as [OnGet] tells of it.
type Got struct {
	Delivery // as it was received; the headers must not be changed

	Began time.Time // when it was asked for
	Err   error     // why the program gets no value of it: it does not decode
}

// OnGet calls functions with each message that the program takes with [WorkQueue.Get], TryGet or
// Waiting, as [OnSettle] is for what a worker takes: for traces and metrics. They are called before
// the verb returns, by its goroutine and with its ctx, and must not block. One that panics is
// logged.
func OnGet(functions ...func(context.Context, Got)) BusOption {
	return busOption(func(c *busConfig) error {
		for i, f := range functions {
			if f == nil {
				return invalid("OnGet: function %d is nil", i)
			}
		}
		c.onGet = append(c.onGet, functions...)
		return nil
	})
}

// got tells of a message that the program took.
func (b *Bus) got(ctx context.Context, g Got) {
	for _, f := range b.onGet {
		func() {
			defer func() {
				if p := recover(); p != nil {
					b.log.LogAttrs(ctx, slog.LevelError, "motif: a function of OnGet panicked",
						slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				}
			}()
			f(ctx, g)
		}()
	}
}
