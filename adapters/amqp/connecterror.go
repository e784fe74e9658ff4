package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// connectError says in one line why a connection could not be made: what was found, and what to do.
// It wraps what it was made of.
type connectError struct {
	address  string
	sentinel error
	text     string
	err      error
}

func (e *connectError) Error() string {
	return fmt.Sprintf("amqp: connect to %s: %v: %s", e.address, e.sentinel, e.text)
}

func (e *connectError) Unwrap() []error { return []error{e.sentinel, e.err} }

// joinedErrors are the failures of several addresses, in one line.
type joinedErrors []error

func (s joinedErrors) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (s joinedErrors) Unwrap() []error { return s }

const usualPorts = "RabbitMQ's port is 5672, or 5671 with TLS"

// explain makes a connectError of err. heard is what the server sent first.
func (c *Config) explain(err error, address, user, heard string) error {
	text := c.diagnose(err, heard)
	e := &connectError{address, adapters.ErrUnavailable, strings.ReplaceAll(text, "\n", " "), err}
	switch {
	case refusedLogin(err) || errors.Is(err, amqp091.ErrSASL):
		e.sentinel, e.text = adapters.ErrAccess, c.loginHint(err, address, user)
	case errors.Is(sentinel(err), ErrLimit):
		e.sentinel = ErrLimit
	}
	return e
}

// probeHTTP returns the first bytes of a server that answers to a line, as HTTP servers do. It does
// RabbitMQ no harm.
func (c *Config) probeHTTP(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	conn, err := c.dialSocket(ctx, address)
	if err != nil {
		return ""
	}
	defer func() { <-conn.Done() }()
	defer conn.Abort(net.ErrClosed)
	defer context.AfterFunc(ctx, func() { conn.Abort(context.Cause(ctx)) })()
	_, _ = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_, _ = conn.Read(make([]byte, 64))
	return conn.Greeting()
}

// diagnose says what was found in place of a broker.
func (c *Config) diagnose(err error, heard string) string {
	if header, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if string(header.RecordHeader[:]) == "HTTP/" {
			return "an HTTP server answers there: " + usualPorts
		}
		return "no TLS is spoken there: use amqp://, or the port with TLS, 5671 by default"
	}
	said := err.Error()
	switch {
	case strings.HasPrefix(heard, "HTTP/"):
		return "an HTTP server answers there: " + usualPorts + "; 15672 is the one of its web pages"
	case len(heard) > 1 && (heard[0] == 0x15 || heard[0] == 0x16) && heard[1] == 3: // a TLS alert or handshake
		return "TLS is spoken there: use amqps://"
	case strings.HasPrefix(heard, frame.ProtocolHeader):
		return fmt.Sprintf("the server speaks AMQP, but not 0-9-1 (it says %q): RabbitMQ does", heard)
	case heard != "" && heard[0] != frame.TypeMethod:
		return fmt.Sprintf("what answers there does not speak AMQP (it says %q): %s", heard, usualPorts)
	case isA[*x509.UnknownAuthorityError](err) || isA[x509.UnknownAuthorityError](err):
		return said + ": name the authorities to trust, with ca_file=... in the URL"
	case isA[x509.HostnameError](err):
		return said + ": if it is the right broker, name it with server_name=... in the URL"
	case strings.Contains(said, "remote error: tls: ") && strings.Contains(said, "certificate"):
		return said + ": does the broker want a client certificate (cert_file=... and key_file=... in the URL)?"
	case isA[*net.DNSError](err):
		return said + ": is the name of the host right, and known here?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return said + ": is RabbitMQ running, and is that its port? " + usualPorts
	case isA[*net.OpError](err) && strings.Contains(said, "dial") && isTimeout(err):
		return said + ": is the host up, and does a firewall let the port through?"
	case heard == "" && isTimeout(err):
		return said + ": something accepts connections there and says nothing: " + usualPorts
	case heard == "" && (errors.Is(err, io.EOF) || errors.Is(err, amqp091.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || isA[*amqp091.Error](err)):
		return "the connection was closed at once: is RabbitMQ there, and ready? If TLS is spoken there, use amqps://; " + usualPorts
	}
	return said
}

// loginHint says why a broker refused the login.
func (c *Config) loginHint(err error, address, user string) string {
	said := strings.ReplaceAll(err.Error(), "\n", " ")
	e, _ := errors.AsType[*amqp091.Error](err)
	host, _, _ := net.SplitHostPort(address)
	switch {
	case e == nil || e == amqp091.ErrSASL:
		return said + ": the broker takes no such login: a client certificate, or a user's name and password"
	case e.Code == amqp091.AccessRefused && user == "guest" && !isLoopback(host):
		return said + ": guest may log in from the broker's own machine only: make another user"
	case e == amqp091.ErrVhost || e.Code == amqp091.NotAllowed && strings.Contains(e.Reason, "vhost"):
		return fmt.Sprintf("%s: is there a vhost %q, and may this user use it? It is the path of the URL, %%2F for a slash in it", said, clip(c.VHost))
	case e.Code == amqp091.AccessRefused:
		return said + ": check name and password; in a URL characters such as / # ? % @ are percent-encoded"
	}
	return said
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || ok && t.Timeout()
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
