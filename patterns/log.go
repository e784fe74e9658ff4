package patterns

import (
	"context"
	"errors"
	"log/slog"

	"github.com/motifmq/motif/adapters"
)

// defaultHandler is that of [slog.Default] at the time of each line: a program may set its default
// logger after it has made its bus.
type defaultHandler struct{}

func (defaultHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return slog.Default().Enabled(ctx, level)
}

func (defaultHandler) Handle(ctx context.Context, r slog.Record) error {
	return slog.Default().Handler().Handle(ctx, r)
}

func (defaultHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return slog.Default().Handler().WithAttrs(attrs)
}

func (defaultHandler) WithGroup(name string) slog.Handler {
	return slog.Default().Handler().WithGroup(name)
}

// warn logs what happened to a message.
func (w *worker) warn(d *adapters.Delivery, what string, err error, more ...any) {
	w.s.log(slog.LevelWarn, d, what, err, more...)
}

// log logs with the ctx that the message has, which its handler's middleware may have made, so that
// a slog.Handler finds there what identifies a trace. It never logs a payload, of which a decoder's
// error may quote a piece.
func (s *Subscription) log(level slog.Level, d *adapters.Delivery, what string, err error, more ...any) {
	ctx, log := d.Message.Context(), s.bus.log
	if !log.Enabled(ctx, level) {
		return
	}
	text := err.Error()
	if unknown, ok := errors.AsType[*UnknownTypeError](err); ok {
		text = unknown.Error()
	} else if errors.Is(err, ErrCodec) {
		text = ErrCodec.Error()
	}
	args := append([]any{"queue", s.queue, "id", d.Message.UUID, "attempt", d.Attempt, "error", text}, more...)
	if panicked, ok := errors.AsType[*PanicError](err); ok && len(panicked.Stack) > 0 {
		args = append(args, "stack", string(panicked.Stack))
	}
	log.Log(ctx, level, "motif: "+what, args...)
}
