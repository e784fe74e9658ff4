package amqp

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// standIn is a server that is no broker: it hears what the client says first, and answers with say.
// With nothing to say it is silent.
func standIn(t *testing.T, say string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go func() {
				_, _ = io.ReadFull(conn, make([]byte, 8))
				if say != "" {
					_, _ = io.WriteString(conn, strings.TrimPrefix(say, "bye"))
					_ = conn.Close()
				}
			}()
		}
	}()
	return l.Addr().String()
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestFirstContact: what is wrong with an address, and what to do, is said in one line.
func TestFirstContact(t *testing.T) {
	t.Parallel() // it waits for the silent, and for RabbitMQ to refuse a login
	broker, err := url.Parse(amqptest.Shared(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	at := broker.Host
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	webTLS := httptest.NewTLSServer(http.NotFoundHandler())
	defer webTLS.Close()
	secure := tlsProxy(t, newAuthority(t).server(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}))
	host := func(server *httptest.Server) string { return server.Listener.Addr().String() }
	for name, c := range map[string]struct {
		url      string
		sentinel error
		says     string
	}{
		"a closed port":                {"amqp://" + closedPort(t), adapters.ErrUnavailable, "is RabbitMQ running, and is that its port?"},
		"an HTTP server":               {"amqp://" + host(web), adapters.ErrUnavailable, "an HTTP server answers there: RabbitMQ's port is 5672"},
		"an HTTP server, by TLS":       {"amqps://" + host(web), adapters.ErrUnavailable, "an HTTP server answers there: RabbitMQ's port is 5672"},
		"an HTTPS server":              {"amqp://" + host(webTLS), adapters.ErrUnavailable, "an HTTP server answers there"},
		"a TLS port":                   {"amqp://" + secure.Host, adapters.ErrUnavailable, "use amqps://"},
		"a TLS alert":                  {"amqp://" + standIn(t, "\x15\x03\x03\x00\x02\x02\x0a"), adapters.ErrUnavailable, "TLS is spoken there: use amqps://"},
		"a port without TLS":           {"amqps://" + at, adapters.ErrUnavailable, "no TLS is spoken there: use amqp://"},
		"a silent port":                {"amqp://" + standIn(t, ""), adapters.ErrUnavailable, "accepts connections there and says nothing: RabbitMQ's port is 5672"},
		"a port that hangs up":         {"amqp://" + standIn(t, "bye"), adapters.ErrUnavailable, "closed at once: is RabbitMQ there, and ready?"},
		"AMQP 1.0":                     {"amqp://" + standIn(t, "AMQP\x00\x01\x00\x00"), adapters.ErrUnavailable, "speaks AMQP, but not 0-9-1"},
		"SSH":                          {"amqp://" + standIn(t, "SSH-2.0-OpenSSH_9.2\r\n"), adapters.ErrUnavailable, `does not speak AMQP (it says "SSH-2.0-")`},
		"a name that is none":          {"amqp://nowhere.invalid?insecure_host=nowhere.invalid", adapters.ErrUnavailable, "is the name of the host right"},
		"a certificate of nobody":      {secure.String(), adapters.ErrUnavailable, "ca_file=..."},
		"a wrong vhost":                {"amqp://guest:guest@" + at + "/nowhere", adapters.ErrAccess, `is there a vhost "nowhere"`},
		"a wrong password":             {"amqp://guest:s3cret@" + at, adapters.ErrAccess, "check name and password"},
		"a wrong user":                 {"amqp://nobody:s3cret@" + at, adapters.ErrAccess, "percent-encoded"},
		"compose":                      {"amqp://guest:guest@rabbitmq:5672", adapters.ErrInvalid, "insecure_host=rabbitmq"},
		"an unknown parameter":         {"amqp://localhost?heart_beat=30s", adapters.ErrInvalid, `parameter "heart_beat" is not known (known: address, ca_file,`},
		"a password with a slash":      {"amqp://user:s3cr/et@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a slash, after a number": {"amqp://user:1/s3cret@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a hash":                  {"amqp://user:s3cr#et@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a hash, after a number":  {"amqp://user:1#s3cret@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a question mark":         {"amqps://user:1?s3cret=@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a per cent":              {"amqp://user:s3cr%et@localhost", adapters.ErrInvalid, "percent-encoded"},
		"with a space":                 {"amqp://user:s3cr et@localhost", adapters.ErrInvalid, "percent-encoded"},
		"two addresses":                {"amqp://" + closedPort(t) + "?address=" + standIn(t, "bye"), adapters.ErrUnavailable, "is that its port? RabbitMQ's port is 5672, or 5671 with TLS; amqp: connect to"},
	} {
		t.Run(name, func(t *testing.T) {
			// Long enough for RabbitMQ, which thinks for three seconds about a wrong password, and
			// for nobody else.
			patience := time.Minute
			if name == "a silent port" || name == "an HTTP server" { // which waits for more
				patience = time.Second
			}
			open := func() error {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				_, err := adapters.Open(ctx, c.url)
				if !errors.Is(err, c.sentinel) {
					t.Fatalf("got %v, want %v", err, c.sentinel)
				}
				return err
			}
			err := open()
			for tries := 1; name == "an HTTP server" && tries < 5 && !strings.Contains(err.Error(), c.says); tries++ {
				err = open() // a busy machine may not have it answer in the moment that it is given
			}
			t.Log(err)
			if text := err.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "\n") || strings.Contains(text, "s3cr") {
				t.Errorf("says %q, want one line that says %q", text, c.says)
			}
		})
	}
}

// TestConnectWaitsForTheBroker: with retry_connect, until ctx ends or the broker refuses the login.
func TestConnectWaitsForTheBroker(t *testing.T) {
	t.Parallel() // it has a node of its own, and waits for it
	n := amqptest.Private(t, amqptest.Options{})
	u, err := url.Parse(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "retry_connect=true"
	if err := n.Stop(soon(t)); err != nil {
		t.Fatal(err)
	}
	said := false
	for patience := 500 * time.Millisecond; !said; patience *= 2 { // nobody is asked on a machine that stands still for so long
		brief, cancel := context.WithTimeout(ctx, patience)
		_, err = adapters.Open(brief, u.String())
		cancel()
		wantErr(t, "Open with nobody there", err, adapters.ErrUnavailable)
		wantErr(t, "Open with nobody there", err, context.DeadlineExceeded)
		if said = strings.Contains(err.Error(), "is RabbitMQ running"); patience > 10*time.Second {
			t.Fatal(err)
		}
	}
	opened := make(chan error, 1)
	go func() {
		d, err := adapters.Open(soon(t), u.String())
		if err == nil {
			err = d.Close(ctx)
		}
		opened <- err
	}()
	if err := n.Restart(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
	u.User = url.UserPassword("guest", "wrong")
	_, err = adapters.Open(soon(t), u.String())
	wantErr(t, "Open with a wrong password", err, adapters.ErrAccess)
}

// TestConnectSaysWhatWasWrongBefore: an attempt that is cut short by the end of its ctx has nothing
// to say, and the one before has.
func TestConnectSaysWhatWasWrongBefore(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted, closes atomic.Int64 // how many connections; and are closed at once
	closes.Store(math.MaxInt64)
	silent, end := make(chan struct{}), make(chan struct{})
	var server sync.WaitGroup
	server.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if accepted.Add(1) > closes.Load() {
				close(silent)
				<-end
				conn.Close()
				return
			}
			conn.Close()
		}
	})
	defer func() { close(end); l.Close(); server.Wait() }()
	url := "amqp://guest:guest@" + l.Addr().String()
	_, before := adapters.Open(soon(t), url)
	wantErr(t, "Open of what closes", before, adapters.ErrUnavailable)
	closes.Store(2 * accepted.Load()) // those of the next attempt, too
	brief, cancel := context.WithCancel(soon(t))
	go func() { <-silent; cancel() }()
	_, err = adapters.Open(brief, url+"?retry_connect=true")
	wantErr(t, "Open of what closes and then is silent", err, context.Canceled)
	if before != nil && !strings.HasPrefix(err.Error(), before.Error()) {
		t.Errorf("got %v, want %v", err, before)
	}
}

// lateCtx is a ctx whose time is up before it ends, by a moment, as sockets may find.
type lateCtx struct {
	context.Context
	end    context.CancelFunc
	timeUp atomic.Bool
}

func (c *lateCtx) Deadline() (time.Time, bool) {
	if c.timeUp.Load() {
		return time.Now().Add(-time.Second), true
	}
	return time.Now().Add(time.Hour), true
}

// TestConnectSaysWhatWasWrongAtTheLastMoment: an attempt that begins when time is up is one that is
// cut short, although ctx has not ended yet.
func TestConnectSaysWhatWasWrongAtTheLastMoment(t *testing.T) {
	late := new(lateCtx)
	late.Context, late.end = context.WithCancel(soon(t))
	defer late.end()
	address, asked := closedPort(t), 0
	_, err := Connect(late, Config{BackoffMin: time.Millisecond, RetryConnect: true, Resolve: func(context.Context) ([]string, error) {
		if asked++; asked == 2 {
			late.timeUp.Store(true)
			time.AfterFunc(20*time.Millisecond, late.end)
		}
		return []string{address}, nil
	}})
	wantErr(t, "Connect", err, context.Canceled)
	if !strings.Contains(err.Error(), "is RabbitMQ running") || asked != 2 {
		t.Errorf("after %d attempts: %v", asked, err)
	}
}
