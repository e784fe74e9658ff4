package jetstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// TestPatient: what is not answered is asked again while ctx allows, and an answer is final. So a
// cluster that has been restarted, and drops requests until it has leaders, is waited for.
func TestPatient(t *testing.T) {
	refused := errors.New("refused")
	starting := &jetstream.APIError{ErrorCode: 10008}
	for name, test := range map[string]struct {
		silent int           // requests that are not answered
		says   error         // or answered so
		answer error         // to the one after them
		within time.Duration // 0: ctx has no deadline
		want   error
		asked  int
	}{
		"at once":                 {0, nil, nil, time.Minute, nil, 1},
		"after three":             {3, nil, nil, time.Minute, nil, 4},
		"with no deadline":        {3, nil, nil, 0, nil, 4},
		"never, with no deadline": {1000, nil, nil, 0, context.DeadlineExceeded, 5},
		"never":                   {1000, nil, nil, time.Second, context.DeadlineExceeded, 1},
		"while it starts":         {3, starting, nil, time.Minute, nil, 4},
		"as long as it starts":    {1000, starting, nil, time.Second, starting, 1},
		"refused":                 {1, nil, refused, time.Minute, refused, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.within > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.within)
					defer cancel()
				}
				asked := 0
				_, err := patient(ctx, func(ctx context.Context) (any, error) {
					if asked++; asked > test.silent {
						return nil, test.answer
					}
					if test.says != nil {
						return nil, test.says
					}
					<-ctx.Done()
					return nil, ctx.Err()
				})
				if !errors.Is(err, test.want) || asked != test.asked {
					t.Errorf("%v, and it was asked %d times", err, asked)
				}
			})
		})
	}
}
