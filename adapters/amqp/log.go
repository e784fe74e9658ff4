package amqp

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/motifmq/motif/adapters"
)

var _ adapters.LogSetter = (*Driver)(nil)

// SetLogger implements [adapters.LogSetter]. Config.Logger takes precedence over l.
func (d *Driver) SetLogger(l *slog.Logger) {
	if h, ok := d.cfg.Logger.Handler().(*swapHandler); ok && l != nil {
		h.to.Store(l)
	}
}

// swapHandler passes log records to a logger that can be replaced.
type swapHandler struct{ to atomic.Pointer[slog.Logger] }

func newSwapHandler() *swapHandler {
	h := new(swapHandler)
	h.to.Store(slog.New(slog.DiscardHandler))
	return h
}

func (h *swapHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.to.Load().Enabled(ctx, level)
}

func (h *swapHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.to.Load().Handler().Handle(ctx, r)
}

func (h *swapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.to.Load().Handler().WithAttrs(attrs)
}

func (h *swapHandler) WithGroup(name string) slog.Handler {
	return h.to.Load().Handler().WithGroup(name)
}
