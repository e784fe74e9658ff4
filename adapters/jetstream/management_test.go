package jetstream

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
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

// forgetful is a connection to a server that says nothing to the first of each kind of management
// request.
type forgetful struct {
	net.Conn
	forgotten map[string]bool
}

var managing = regexp.MustCompile(`PUB (\$JS\.API(?:\.[A-Z]+)+)\S* \S+ \d+\r\n[^\r]*\r\n`)

func (c *forgetful) Write(p []byte) (int, error) {
	_, err := c.Conn.Write(managing.ReplaceAllFunc(p, func(request []byte) []byte {
		kind := string(managing.FindSubmatch(request)[1])
		if strings.Contains(kind, ".MSG.") || c.forgotten[kind] { // what is no management, or was forgotten once
			return request
		}
		c.forgotten[kind] = true
		return nil
	}))
	return len(p), err
}

// TestForgottenRequests has all that is asked of the management be asked again soon, though ctx
// would allow one request to wait for minutes.
func TestForgottenRequests(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	conn := &forgetful{forgotten: map[string]bool{}}
	d := openOver(ctx, t, func(c net.Conn) net.Conn {
		conn.Conn = c
		return conn
	})
	s := source("q", 1)
	sub := subscribe(t, d, s)
	publish(t, d, s.Endpoint, "1")
	if _, err := sub.Receive(ctx); err != nil {
		t.Error(err)
	}
	if _, err := d.Inspect(ctx, "q"); err != nil {
		t.Error(err)
	}
	queues := 0
	for _, err := range d.Queues(ctx) {
		must(t, err)
		queues++
	}
	if queues != 1 {
		t.Errorf("%d queues", queues)
	}
	must(t, d.Delete(ctx, "q", 0))
	if len(conn.forgotten) < 7 {
		t.Errorf("only %v were forgotten", conn.forgotten)
	}
}

// openOver opens a driver of a server of its own, over what wrap makes of its connection.
func openOver(ctx context.Context, t *testing.T, wrap func(net.Conn) net.Conn) *Driver {
	t.Helper()
	b, err := newBroker(t.TempDir(), inProcess)
	must(t, err)
	t.Cleanup(func() { must(t, b.stop(context.Background())) })
	c, err := parseURL(b.url())
	must(t, err)
	c.options = append(c.options, nats.InProcessServer(inProcessConn(func() (net.Conn, error) {
		conn, err := b.InProcessConn()
		return wrap(conn), err
	})))
	d, err := connect(ctx, c)
	must(t, err)
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

type inProcessConn func() (net.Conn, error)

func (f inProcessConn) InProcessConn() (net.Conn, error) { return f() }
