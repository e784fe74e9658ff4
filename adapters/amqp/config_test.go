package amqp

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

const password = "s3cr%et/p?a#ss"

// TestSecret: a password shows in nothing that is printed, logged or marshalled,
// whatever the verb, nor in what holds it.
func TestSecret(t *testing.T) {
	s := NewSecret(password)
	type nest struct {
		hidden  Secret
		Visible Secret
		Ptr     *Secret
		Cred    Credentials
		auth    *saslPlain
	}
	n := nest{s, s, &s, Credentials{Username: "user", Password: s}, &saslPlain{Username: "user", Password: s}}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", s, "b", n, "c", &n)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "a", s, "b", n, "c", &n)
	all := log.String()
	for _, v := range []any{s, &s, n, &n, []Secret{s}, map[string]Secret{"a": s}, (*saslPlain)(&n.Cred)} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			all += fmt.Sprintf(format, v)
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all += string(j)
	}
	if strings.Contains(all, password) || strings.Contains(all, fmt.Sprintf("%x", password)) {
		t.Errorf("the secret is out: %s", all)
	}
	if s.Reveal() != password || (Secret{}).Reveal() != "" {
		t.Error("Reveal")
	}
	if got := n.auth.Response(); got != "\x00user\x00"+password {
		t.Errorf("response %q", got)
	}
}

func TestParseURL(t *testing.T) {
	cfg, err := ParseURL("amqp://user:" + url.QueryEscape(password) + "@localhost:1234/my%2Fhost?address=127.0.0.1&heartbeat=30s&name=me&queue_type=classic&watermill_uuid=true&insecure_host=a&insecure_host=b&retry_connect=true")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := cfg.Credentials(ctx)
	if err != nil || cred.Username != "user" || cred.Password.Reveal() != password {
		t.Errorf("credentials %q %q %v", cred.Username, cred.Password.Reveal(), err)
	}
	if cfg, err = cfg.withDefaults(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cfg.Addresses, []string{"localhost:1234", "127.0.0.1:5672"}) || cfg.VHost != "my/host" || cfg.TLS != nil ||
		cfg.Heartbeat != 30*time.Second || cfg.Name != "me" || cfg.QueueType != Classic || !cfg.WatermillUUID || !cfg.RetryConnect || !slices.Equal(cfg.AllowInsecure, []string{"a", "b"}) {
		t.Errorf("%+v", cfg)
	}

	for raw, vhost := range map[string]string{
		"amqp://localhost": "/", "amqp://localhost/": "/", "amqp://localhost/%2f": "/", "amqp://localhost/a": "a",
	} {
		cfg, err := ParseURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		if cfg, err = cfg.withDefaults(); err != nil || cfg.VHost != vhost {
			t.Errorf("%s: vhost %q, %v", raw, cfg.VHost, err)
		}
	}
}

// TestBadConfig: what is wrong is refused before anything is sent, and no error
// shows a credential, as those of url.Parse do: they quote the URL.
func TestBadConfig(t *testing.T) {
	for _, raw := range []string{
		"amqp://user:s3cret@/vhost", "amqp://user:s3cret@localhost:port/", "amqp://user:s3cr%et@localhost/",
		"amqp://user:s3cret@localhost/a/b", "amqp://user:s3cret@localhost/#f", "amqp://user:s3cret@localhost/?retry_connect=s3cret",
		"amqp://user:s3cret@localhost/?heartbeat=s3cret", "amqp://user:s3cret@localhost/?heartbeat=1ms", "amqp://user:s3cret@localhost/?watermill_uuid=s3cret", "amqp://user:s3cret@localhost/?queue_type=x",
		"amqp://user:s3cret@localhost/?address=user:s3cret@b", "amqp://user:s3cret@localhost/?address=amqp://user:s3cret@b:1",
		"amqp://user:s3cret@localhost/?ca_file=x", "amqps://user:s3cret@localhost/?ca_file=/does/not/exist",
		"amqps://user:s3cret@localhost/?cert_file=/does/not/exist", "amqp:user:s3cret@localhost", "http://user:s3cret@localhost",
		"amqp://user:s3cret@broker.example.com/", "amqp://user:s3cret@localhost/?address=broker.example.com",
		"amqp://user:s3cret@localhost:99999/", "amqp://user:s3cret@localhost/?a=%zz",
	} {
		d, err := adapters.Open(ctx, raw)
		if d != nil || !errors.Is(err, adapters.ErrInvalid) && !errors.Is(err, adapters.ErrUnavailable) {
			t.Errorf("%s: %v %v", raw, d, err)
			continue
		}
		_, parsing := ParseURL(raw) // which some of them pass
		for _, err := range []error{err, parsing} {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "s3cr") {
				t.Errorf("%s: the error shows the password: %v", raw, err)
			}
		}
	}
	for _, cfg := range []Config{
		{},
		{Addresses: []string{""}},
		{Addresses: []string{"localhost"}, MaxBody: -1},
		{Addresses: []string{"localhost"}, MaxInFlight: -1},
		{Addresses: []string{"localhost"}, BackoffMin: time.Second, BackoffMax: time.Millisecond},
		{Addresses: []string{"user:s3cret@localhost"}},
		{Addresses: []string{"localhost"}, VHost: strings.Repeat("x", 256)},
	} {
		if _, err := Connect(ctx, cfg); !errors.Is(err, adapters.ErrInvalid) || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// TestPlainTextLogin: a password goes without TLS only to where it was allowed
// to, by name.
func TestPlainTextLogin(t *testing.T) {
	for address, loopback := range map[string]bool{
		"localhost": true, "127.0.0.1:5672": true, "127.8.9.1": true, "[::1]": true, "[::1]:5672": true,
		"broker": false, "10.0.0.1:5672": false, "[2001:db8::1]:5672": false, "localhost.example.com": false,
	} {
		_, err := Config{Addresses: []string{address}}.withDefaults()
		if got := err == nil; got != loopback {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := (Config{Addresses: []string{address}, TLS: new(tls.Config)}).withDefaults(); err != nil {
			t.Errorf("%s with TLS: %v", address, err)
		}
	}
	if _, err := (Config{Addresses: []string{"broker:1"}, AllowInsecure: []string{"broker"}}).withDefaults(); err != nil {
		t.Error(err)
	}
	if _, err := (Config{Addresses: []string{"broker:1", "other:1"}, AllowInsecure: []string{"broker"}}).withDefaults(); err == nil {
		t.Error("one allowed host allows another")
	}
}

func TestTLSConfig(t *testing.T) {
	given := &tls.Config{MinVersion: tls.VersionTLS10}
	cfg, err := Config{Addresses: []string{"broker"}, TLS: given}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS.MinVersion != tls.VersionTLS12 || given.MinVersion != tls.VersionTLS10 || cfg.TLS.InsecureSkipVerify {
		t.Errorf("MinVersion %x, given %x", cfg.TLS.MinVersion, given.MinVersion)
	}
	if cfg.Addresses[0] != "broker:5671" {
		t.Errorf("address %s", cfg.Addresses[0])
	}
	if auth, user, _ := cfg.authentication(ctx); auth.Mechanism() != "PLAIN" || user != "guest" {
		t.Errorf("without a certificate: %s", auth.Mechanism())
	}
	cfg.TLS.Certificates = make([]tls.Certificate, 1)
	if auth, _, _ := cfg.authentication(ctx); auth.Mechanism() != "EXTERNAL" || auth.Response() != "" {
		t.Errorf("with a certificate: %s %q", auth.Mechanism(), auth.Response())
	}
}

// TestConnectHonoursContext: a peer that accepts and then says nothing holds
// nobody up.
func TestConnectHonoursContext(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	const late = 8 * time.Second // before DialTimeout would end it
	for _, retry := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err = Connect(ctx, Config{Addresses: []string{silent.Addr().String()}, RetryConnect: retry})
		wantErr(t, "Connect", err, context.DeadlineExceeded)
		wantErr(t, "Connect", err, adapters.ErrUnavailable)
		if took := time.Since(start); took > late {
			t.Errorf("took %v", took)
		}
	}
	start := time.Now()
	_, err = Connect(ctx, Config{Addresses: []string{silent.Addr().String()}, DialTimeout: 200 * time.Millisecond})
	wantErr(t, "Connect", err, adapters.ErrUnavailable)
	if took := time.Since(start); took > late {
		t.Errorf("took %v", took)
	}
	_, err = Connect(ctx, Config{Addresses: []string{"127.0.0.1:1"}})
	wantErr(t, "Connect to a closed port", err, adapters.ErrUnavailable)
	_, err = Connect(ctx, Config{Addresses: []string{"127.0.0.1:1"}, Credentials: func(context.Context) (Credentials, error) {
		return Credentials{}, errors.New("the vault is shut")
	}})
	wantErr(t, "Connect without credentials", err, adapters.ErrUnavailable)
	if !strings.Contains(err.Error(), "the vault is shut") {
		t.Error(err)
	}
}
