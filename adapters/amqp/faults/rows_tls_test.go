package faults

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
)

// untrusted: 49. Brokers that cannot show who they are.
func untrusted(x *trial) {
	site := x.shared()
	ours, theirs := x.authority("ours"), x.authority("theirs")
	day := 24 * time.Hour
	good := ours.certify(-day, day, "127.0.0.1")

	door := site.secure(&tls.Config{Certificates: []tls.Certificate{good}})
	client := site.connect("client", door.through(ours, nil))
	x.consume(x.subscribe(client, from("jobs", 1)), 1, nil)
	x.publish(client, toQueue("jobs"), text("in secret", 10))
	x.awaitHandled()
	door.silent()

	for name, c := range map[string]struct {
		server *tls.Config // nil for one without TLS
		client *tls.Config
		as     func(error) bool
	}{
		"signed by another authority": {
			server: &tls.Config{Certificates: []tls.Certificate{theirs.certify(-day, day, "127.0.0.1")}},
			as:     is[x509.UnknownAuthorityError],
		},
		"of another name": {
			server: &tls.Config{Certificates: []tls.Certificate{ours.certify(-day, day, "10.9.8.7")}},
			as:     is[x509.HostnameError],
		},
		"expired": {
			server: &tls.Config{Certificates: []tls.Certificate{ours.certify(-2*day, -day, "127.0.0.1")}},
			as:     is[x509.CertificateInvalidError],
		},
		"not valid yet": {
			server: &tls.Config{Certificates: []tls.Certificate{ours.certify(day, 2*day, "127.0.0.1")}},
			as:     is[x509.CertificateInvalidError],
		},
		"with an old version": {
			server: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, //nolint:gosec // that is the point
		},
		"with an old version, which the client would take": {
			server: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, //nolint:gosec // that is the point
			client: &tls.Config{MinVersion: tls.VersionTLS10},                                                                      //nolint:gosec // that is the point
		},
		"without TLS": {as: is[tls.RecordHeaderError]},
	} {
		door := site.secure(c.server)
		cfg := site.config("client of a broker " + name)
		door.through(ours, c.client)(&cfg)
		err := x.within(x.patience, "Connect", func(ctx context.Context) error {
			d, err := amqp.Connect(ctx, cfg)
			if err == nil {
				_ = d.Close(ctx)
			}
			return err
		})
		x.want(err, adapters.ErrUnavailable, "connect to a broker "+name)
		if c.as != nil && !c.as(err) {
			x.errorf("connect to a broker %s: the cause is not in %v", name, err)
		}
		door.silent()
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// authority signs certificates.
type authority struct {
	x    *trial
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (x *trial) authority(name string) *authority {
	a := &authority{x: x}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(72 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = x.key()
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	x.must(err, "making an authority")
	a.cert, err = x509.ParseCertificate(der)
	x.must(err, "making an authority")
	return a
}

func (x *trial) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	x.must(err, "making a key")
	return key
}

// certify makes a certificate for an address, valid between two times from now.
func (a *authority) certify(after, before time.Duration, ip string) tls.Certificate {
	key, now := a.x.key(), time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: ip},
		NotBefore: now.Add(after), NotAfter: now.Add(before), IPAddresses: []net.IP{net.ParseIP(ip)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	a.x.must(err, "making a certificate")
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// door is TLS in front of a broker. It keeps what came through it, as somebody
// on the way could.
type door struct {
	site *site
	addr string

	mu  sync.Mutex
	saw bytes.Buffer
}

// secure opens a door; without a config it is the broker's own, without TLS.
func (s *site) secure(cfg *tls.Config) *door {
	l, err := new(net.ListenConfig).Listen(s.x.ctx, "tcp", "127.0.0.1:0")
	s.x.must(err, "listening")
	d := &door{site: s, addr: l.Addr().String()}
	s.x.atEnd(func(context.Context) error { return l.Close() })
	s.x.spawn(func(ctx context.Context) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.x.wg.Go(func() { d.pass(ctx, c, cfg) })
		}
	})
	return d
}

func (d *door) pass(ctx context.Context, c net.Conn, cfg *tls.Config) {
	defer c.Close()
	c = &overheard{c, d}
	if cfg != nil {
		secure := tls.Server(c, cfg)
		if secure.HandshakeContext(ctx) != nil {
			return
		}
		c = secure
	}
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", d.site.config("").Addresses[0])
	if err != nil {
		return
	}
	defer broker.Close()
	go func() {
		_, _ = io.Copy(c, broker)
		_ = c.Close()
		_ = broker.Close()
	}()
	_, _ = io.Copy(broker, c)
}

// overheard notes what is read.
type overheard struct {
	net.Conn
	d *door
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.d.mu.Lock()
	defer o.d.mu.Unlock()
	o.d.saw.Write(p[:n])
	return n, err
}

// silent checks that nothing was said in plain text.
func (d *door) silent() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if saw := d.saw.Bytes(); len(saw) == 0 {
		d.site.x.errorf("nobody came")
	} else if bytes.Contains(saw, []byte("AMQP")) || bytes.Contains(saw, []byte(d.site.password)) {
		d.site.x.errorf("%d bytes that went over the network can be read", len(saw))
	}
}

// through is a change of a client's config: it goes through the door, and
// trusts an authority.
func (d *door) through(a *authority, cfg *tls.Config) func(*amqp.Config) {
	return func(c *amqp.Config) {
		if c.TLS = cfg; cfg == nil {
			c.TLS = &tls.Config{} //nolint:gosec // the driver sets the version
		}
		c.TLS.RootCAs = a.pool()
		c.Addresses = []string{d.addr}
	}
}
