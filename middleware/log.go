package middleware

import (
	"context"
	"errors"
	"log/slog"

	"github.com/motifmq/motif/patterns"
)

// Log logs one line for each attempt of each message, once it is settled: to l, or to
// [slog.Default] if l is nil. It has the message's ctx, as middleware left it. The level is Info
// for what was handled, skipped or given back, Warn for what is tried again or stale, and Error for
// what was given up, or got an error for a reply. Payloads and header values are not logged, unless
// a handler's error quotes them.
//
// The bus's own logger ([patterns.WithLogger]) has lines of its own for what goes wrong.
func Log(l *slog.Logger) patterns.SettleOption {
	return patterns.OnSettle(func(ctx context.Context, s patterns.Settlement) {
		log := l
		if log == nil {
			log = slog.Default()
		}
		level := levelOf(s)
		if !log.Enabled(ctx, level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("result", string(s.Result)), slog.String("source", s.Source.Name), slog.String("id", s.ID),
			slog.Int("attempt", s.Attempt), slog.Duration("duration", s.Duration),
		}
		if s.Group != "" {
			attrs = append(attrs, slog.String("group", s.Group))
		}
		if s.Key != "" {
			attrs = append(attrs, slog.String("key", s.Key))
		}
		if s.TimeInQueue > 0 {
			attrs = append(attrs, slog.Duration("in_queue", s.TimeInQueue))
		}
		if s.RetryIn > 0 {
			attrs = append(attrs, slog.Duration("retry_in", s.RetryIn))
		}
		if s.Err != nil {
			attrs = append(attrs, slog.String("error", textOf(s.Err)))
		}
		log.LogAttrs(ctx, level, "message "+string(s.Result), attrs...)
	})
}

func levelOf(s patterns.Settlement) slog.Level {
	switch s.Result {
	case patterns.ResultDeadLettered, patterns.ResultDropped:
		return slog.LevelError
	case patterns.ResultRetried, patterns.ResultStale:
		return slog.LevelWarn
	case patterns.ResultAcknowledged:
		if s.Err != nil {
			return slog.LevelError
		}
	}
	return slog.LevelInfo
}

// textOf is what may be logged of err: a decoder's may quote the payload.
func textOf(err error) string {
	if errors.Is(err, patterns.ErrCodec) {
		return patterns.ErrCodec.Error()
	}
	return err.Error()
}
