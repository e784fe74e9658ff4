package middleware

import (
	"context"
	"errors"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// errorTypes is in the order in which they are looked for: what an error is more exactly first.
var errorTypes = []struct {
	err  error
	name string
}{
	{patterns.ErrCodec, "codec"},
	{patterns.ErrRejected, "rejected"},
	{patterns.ErrRequeued, "requeued"},
	{patterns.ErrSkipped, "skipped"},
	{patterns.ErrTooOld, "too_old"},
	{patterns.ErrWorkerLost, "worker_lost"},
	{patterns.ErrNoServer, "no_server"},
	{patterns.ErrShutdown, "shutdown"},
	{patterns.ErrAbandoned, "abandoned"},
	{ErrCircuitOpen, "circuit_open"},
	{adapters.ErrUnconfirmed, "unconfirmed"},
	{adapters.ErrConsumerTimeout, "consumer_timeout"},
	{adapters.ErrStaleDelivery, "stale"},
	{adapters.ErrNacked, "nacked"},
	{adapters.ErrUnroutable, "unroutable"},
	{adapters.ErrTooLarge, "too_large"},
	{adapters.ErrAccess, "access"},
	{adapters.ErrSessionLost, "session_lost"},
	{adapters.ErrUnavailable, "unavailable"},
	{adapters.ErrClosed, "closed"},
	{adapters.ErrUnsupported, "unsupported"},
	{adapters.ErrInvalid, "invalid"},
	{context.DeadlineExceeded, "deadline"},
	{context.Canceled, "canceled"},
}

// ErrorType names the kind of an error, for a metric's label or a span's error.type: one of some
// two dozen words, whatever the error says, so that a label has no more values than that. It is ""
// for nil, "remote" for what an RPC's server returned, "panic" for a [*patterns.PanicError], and
// "_OTHER" for an error that is none of Motif's.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	if _, ok := errors.AsType[*patterns.PanicError](err); ok {
		return "panic"
	}
	if _, ok := errors.AsType[*patterns.RemoteError](err); ok {
		return "remote"
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.err) {
			return t.name
		}
	}
	return "_OTHER"
}
