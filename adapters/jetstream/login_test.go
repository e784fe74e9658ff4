package jetstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/motifmq/motif/adapters"
)

// startServer starts a server on a port of its own.
func startServer(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog, o.StoreDir, o.JetStream = "127.0.0.1", server.RANDOM_PORT, true, true, t.TempDir(), true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	return s
}

// carries checks that a message goes through.
func carries(t *testing.T, rawURL string) {
	t.Helper()
	d, q := openURL(t, rawURL), source("q", 1)
	sub := subscribe(t, d, q)
	publish(t, d, q.Endpoint, "m")
	if got := receive(t, sub); got.Message.UUID != "m" {
		t.Errorf("got %q", got.Message.UUID)
	}
}

// refuses checks that a URL is refused, with an error that does not tell a secret.
func refuses(t *testing.T, rawURL string, want error, secret string) {
	t.Helper()
	d, err := adapters.Open(t.Context(), rawURL)
	if err == nil {
		closeDriver(t, d)
	}
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err != nil && secret != "" && strings.Contains(err.Error(), secret) {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Over TLS the server's certificate has to be of an authority that is trusted, and for its host.
func TestTLS(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	ca := writeFile(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	s := startServer(t, &server.Options{
		Username: "u", Password: "s3cr3t",
		TLS: true, TLSTimeout: 10, TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
	})
	address := s.Addr().String()
	carries(t, "tls://u:s3cr3t@"+address+"?ca="+url.QueryEscape(ca))
	refuses(t, "tls://u:s3cr3t@"+address, adapters.ErrUnavailable, "s3cr3t")
	refuses(t, "tls://u:s3cr3t@"+address+"?ca=/none", adapters.ErrInvalid, "s3cr3t")
	_, port, _ := net.SplitHostPort(address)
	refuses(t, "tls://u:s3cr3t@localhost:"+port+"?ca="+url.QueryEscape(ca), adapters.ErrUnavailable, "s3cr3t") // it is for 127.0.0.1
}

// Who asks for TLS does not send a password to a server that has none.
func TestTLSIsNotDowngraded(t *testing.T) {
	s := startServer(t, &server.Options{Username: "u", Password: "s3cr3t"})
	refuses(t, "tls://u:s3cr3t@"+s.Addr().String(), adapters.ErrUnavailable, "s3cr3t")
}

// An NKey logs in by a signature: the URL has the file of its seed.
func TestNKey(t *testing.T) {
	mine, other := must(nkeys.CreateUser()), must(nkeys.CreateUser())
	s := startServer(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: must(mine.PublicKey())}}})
	at := func(key nkeys.KeyPair) string {
		return "nats://" + s.Addr().String() + "?nkey=" + url.QueryEscape(writeFile(t, "seed", must(key.Seed())))
	}
	carries(t, at(mine))
	refuses(t, at(other), adapters.ErrAccess, string(must(other.Seed())))
	refuses(t, "nats://"+s.Addr().String()+"?nkey=/none", adapters.ErrInvalid, "")
}

// A credentials file has a user's token, signed by its account, and the seed that goes with it.
func TestCredentialsFile(t *testing.T) {
	operator, account, user := must(nkeys.CreateOperator()), must(nkeys.CreateAccount()), must(nkeys.CreateUser())
	of := func(key nkeys.KeyPair) string { return must(key.PublicKey()) }
	mine := jwt.NewAccountClaims(of(account))
	mine.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(of(account), must(mine.Encode(operator))); err != nil {
		t.Fatal(err)
	}
	system := must(nkeys.CreateAccount())
	if err := resolver.Store(of(system), must(jwt.NewAccountClaims(of(system)).Encode(operator))); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, &server.Options{TrustedKeys: []string{of(operator)}, AccountResolver: resolver, SystemAccount: of(system)})
	at := func(signer nkeys.KeyPair) string {
		token := must(jwt.NewUserClaims(of(user)).Encode(signer))
		file := writeFile(t, "user.creds", must(jwt.FormatUserConfig(token, must(user.Seed()))))
		return "nats://" + s.Addr().String() + "?creds=" + url.QueryEscape(file)
	}
	carries(t, at(account))
	refuses(t, at(must(nkeys.CreateAccount())), adapters.ErrAccess, string(must(user.Seed())))
	refuses(t, "nats://"+s.Addr().String()+"?creds=/none", adapters.ErrInvalid, "")
}
