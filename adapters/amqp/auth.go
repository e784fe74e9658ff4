package amqp

import (
	"fmt"
	"log/slog"
	"time"
)

// Secret is a string that does not show itself: not in any format of fmt, in JSON, in a log, or in
// a struct that contains it.
type Secret struct {
	reveal func() string // a closure, because reflection can read unexported strings
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

// String, GoString, Format, MarshalText, MarshalJSON and LogValue all return a placeholder.
func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Credentials are what a client logs in with.
type Credentials struct {
	Username string
	Password Secret // or a token

	// Expires is when the password expires; the zero time means never. Before that
	// [Config].Credentials is called again, and each open connection is told the new password.
	Expires time.Time
}

// saslPlain is SASL PLAIN. amqp091's own type holds the password in plain view for as long as the
// connection lasts.
type saslPlain Credentials

func (*saslPlain) Mechanism() string { return "PLAIN" }
func (p *saslPlain) Response() string {
	return "\x00" + p.Username + "\x00" + p.Password.Reveal()
}

// saslExternal is SASL EXTERNAL: the client certificate says who the user is.
type saslExternal struct{}

func (saslExternal) Mechanism() string { return "EXTERNAL" }
func (saslExternal) Response() string  { return "" }
