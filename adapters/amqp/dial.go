package amqp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// dial connects to one node: socket, TLS, login, vhost. The first time it finds out more about a
// server that is no broker.
func (c *Config) dial(ctx context.Context, address, name string, first bool) (*amqp091.Connection, *frame.Mux, error) {
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout)
	defer cancel()
	auth, user, err := c.authentication(ctx)
	if err != nil {
		return nil, nil, err
	}
	sock, err := c.dialSocket(ctx, address)
	if err != nil {
		return nil, nil, c.explain(err, address, user, "")
	}
	unhook := context.AfterFunc(ctx, func() { sock.Abort(context.Cause(ctx)) })
	mux := frame.NewMux(sock)
	conn, err := amqp091.Open(mux, amqp091.Config{
		SASL:       []amqp091.Authentication{auth},
		Vhost:      c.VHost,
		FrameSize:  131072,
		Heartbeat:  c.Heartbeat,
		Locale:     "en_US",
		Properties: amqp091.Table{"product": "motif", "version": moduleVersion(), "platform": "go", "connection_name": name},
	})
	if !unhook() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		// The deadline at the start is that of the handshake. amqp091 moves it whenever it reads,
		// unless it is busy, and behind the mux it may read little more.
		err = mux.SetReadDeadline(time.Now().Add(conn.Config.Heartbeat * 3 / 2))
	}
	if err == nil {
		return conn, mux, nil
	}
	sock.Abort(net.ErrClosed)
	<-sock.Done()
	if ctx.Err() != nil {
		err = context.Cause(ctx) // whatever amqp091 says, the reason is that ctx cut the connection short
	}
	heard := sock.Greeting()
	if heard == "" && first {
		heard = c.probeHTTP(context.WithoutCancel(ctx), address)
	}
	return nil, nil, c.explain(err, address, user, heard)
}

// authentication returns how to log in, and as which user.
func (c *Config) authentication(ctx context.Context) (auth amqp091.Authentication, user string, err error) {
	switch {
	case c.Credentials != nil:
		cred, err := c.Credentials(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("amqp: %w: credentials: %w", adapters.ErrUnavailable, err)
		}
		return (*saslPlain)(&cred), cred.Username, nil
	case c.hasCertificate():
		return saslExternal{}, "", nil
	}
	return &saslPlain{Username: "guest", Password: NewSecret("guest")}, "guest", nil
}

func (c *Config) dialSocket(ctx context.Context, address string) (*netio.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if c.TLS != nil {
		cfg := c.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(raw, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		conn = secure
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline.Add(time.Second)); err != nil { // after ctx's own deadline, whose error says more
		_ = raw.Close()
		return nil, err
	}
	return netio.NewConn(conn, raw, c.WriteTimeout), nil
}

// moduleVersion is the version of this module in the running program.
var moduleVersion = sync.OnceValue(func() string {
	const module = "github.com/motifmq/motif"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Path == module {
			return info.Main.Version
		}
		for _, dep := range info.Deps {
			if dep.Path == module {
				return dep.Version
			}
		}
	}
	return "unknown"
})
