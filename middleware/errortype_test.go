package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

func TestErrorType(t *testing.T) {
	own := errors.New("what users call it")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{own, "_OTHER"},
		{patterns.Reject(own), "rejected"},
		{patterns.Reject(fmt.Errorf("%w: no JSON", patterns.ErrCodec)), "codec"},
		{patterns.Skip(own), "skipped"},
		{patterns.RequeueAfter(0, middleware.ErrCircuitOpen), "requeued"},
		{&patterns.PanicError{Value: context.Canceled}, "panic"},
		{&patterns.RemoteError{Code: "made up"}, "remote"},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), "deadline"},
		{fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, context.Canceled), "unconfirmed"},
		{&adapters.PublishError{Failed: []adapters.FailedMessage{{Err: adapters.ErrNacked}}}, "nacked"},
		{patterns.ErrTooOld, "too_old"},
		{adapters.ErrAccess, "access"},
		{adapters.ErrInvalid, "invalid"},
	} {
		if got := middleware.ErrorType(c.err); got != c.want {
			t.Errorf("%v is %q, want %q", c.err, got, c.want)
		}
	}
}
