package amqp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// authority is a certificate authority for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.cert, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	if err := os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "test"}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// server returns what a broker shows.
func (a *authority) server(template *x509.Certificate) *tls.Config {
	cert, key := a.issue(template)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
}

// tlsProxy speaks TLS with clients, and plain text with the test's broker. It
// returns its address as a URL.
func tlsProxy(t *testing.T, cfg *tls.Config) *url.URL {
	t.Helper()
	u, err := url.Parse(brokerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	broker := u.Host
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := new(net.Dialer).DialContext(ctx, "tcp", broker)
				if err != nil {
					return
				}
				defer server.Close()
				go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
				_, _ = io.Copy(client, server)
			}()
		}
	}()
	u.Scheme = "amqps"
	u.Host = l.Addr().String()
	return u
}

func with(u *url.URL, query url.Values) string {
	v := *u
	v.RawQuery = query.Encode()
	return v.String()
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	u := tlsProxy(t, ca.server(&x509.Certificate{IPAddresses: here}))
	trust := url.Values{"ca_file": {ca.file}}

	d := connectTo(t, with(u, trust))
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	publish(t, d, mandatory(q), ids("m", 50)...)
	receiveAll(t, sub, ids("m", 50)...)
	d.publisher.current().netConn.Abort(errors.New("cut"))
	publish(t, d, mandatory(q), "again")
	receiveAll(t, sub, "again")

	refused := func(what, url string) {
		t.Helper()
		_, err := adapters.Open(soon(t), url)
		wantErr(t, what, err, adapters.ErrUnavailable)
		t.Logf("%s: %v", what, err)
	}
	refused("an authority nobody knows", u.String())
	refused("another authority", with(u, url.Values{"ca_file": {newAuthority(t).file}}))
	refused("another name", with(u, url.Values{"ca_file": {ca.file}, "server_name": {"broker.example.com"}}))
	expired := tlsProxy(t, ca.server(&x509.Certificate{IPAddresses: here, NotAfter: time.Now().Add(-time.Minute)}))
	refused("an expired certificate", with(expired, trust))
	old := ca.server(&x509.Certificate{IPAddresses: here})
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	refused("an old protocol", with(tlsProxy(t, old), trust))
	plain := *u
	plain.Host = func() string { v, _ := url.Parse(brokerURL(t)); return v.Host }()
	refused("no TLS at all", with(&plain, trust))

	named := tlsProxy(t, ca.server(&x509.Certificate{DNSNames: []string{"broker.example.com"}}))
	refused("a certificate for another name", with(named, trust))
	connectTo(t, with(named, url.Values{"ca_file": {ca.file}, "server_name": {"broker.example.com"}}))
}

// TestClientCertificate: it is shown to the broker.
func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	server := ca.server(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool
	u := tlsProxy(t, server)
	_, err := adapters.Open(soon(t), with(u, url.Values{"ca_file": {ca.file}}))
	wantErr(t, "without a certificate", err, adapters.ErrUnavailable)

	cert, key := ca.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	connectTo(t, with(u, url.Values{"ca_file": {ca.file}, "cert_file": {filepath.Join(dir, "cert.pem")}, "key_file": {filepath.Join(dir, "key.pem")}}))
}
