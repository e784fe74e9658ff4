package amqp

import (
	"fmt"
	"log/slog"
	"time"
)

// Secret is a string that does not show itself: not in any format of fmt, not
// in JSON, not in a log, and not in a struct that has one somewhere inside.
type Secret struct {
	reveal func() string // a closure, for reflection looks into unexported strings too
}

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{func() string { return s }} }

// Reveal returns the string.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

const redacted = "[redacted]"

// String, GoString, Format, MarshalText, MarshalJSON and LogValue all say
// that there is something to hide, and no more.
func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Credentials is what to log in with.
type Credentials struct {
	Username string
	Password Secret // or a token

	// Expires is until when the password is good; the zero time: for good. Before it ends,
	// [Config].Credentials is asked again, and each connection is told the new one.
	Expires time.Time
}

// saslPlain is SASL PLAIN. It is a type of our own because amqp091's are structs
// with the password in plain view, and are kept by the connection.
type saslPlain Credentials

func (*saslPlain) Mechanism() string { return "PLAIN" }
func (p *saslPlain) Response() string {
	return "\x00" + p.Username + "\x00" + p.Password.Reveal()
}

// saslExternal is SASL EXTERNAL: the client certificate says who it is.
type saslExternal struct{}

func (saslExternal) Mechanism() string { return "EXTERNAL" }
func (saslExternal) Response() string  { return "" }
