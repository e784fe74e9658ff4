package adapters

import (
	"encoding/json"
)

// HealthReporter is implemented by drivers that know how their connections are doing
// (CanReportHealth).
type HealthReporter interface {
	// Health returns how the driver's connections are at this moment, as far as the driver has
	// noticed: it asks nobody and does not block. After Close no connection is up.
	Health() Health
}

// Health is how a driver's connections are doing.
type Health struct {
	// Connections are those that the driver has or is trying to have. Which it needs is the
	// adapter's business, and more may be made as they are needed; there is at least one.
	Connections []Connection
}

// OK reports whether every connection is up and not blocked.
func (h Health) OK() bool {
	for _, c := range h.Connections {
		if !c.Up || c.Blocked {
			return false
		}
	}
	return true
}

// Connection is how one connection is doing. Its JSON form has the names below; fields may be
// added.
type Connection struct {
	Role       string `json:"role"`              // what it is for, in the adapter's words: "publish", "consume"
	Up         bool   `json:"up"`                // false also while it is being made
	Address    string `json:"address,omitempty"` // of the broker's node, while it is up
	Broker     string `json:"broker,omitempty"`  // what it says it is, as in "RabbitMQ 4.3.6", while it is up
	Generation uint64 `json:"generation"`        // how many connections in this role there have been

	Blocked       bool   `json:"blocked"` // by the broker, for being short of something; publishes wait
	BlockedReason string `json:"blocked_reason,omitempty"`

	// LastError is why the last attempt or connection failed. It is kept while it is up again. In
	// JSON it is a text, last_error.
	LastError error `json:"-"`
}

// MarshalJSON implements [json.Marshaler].
func (c Connection) MarshalJSON() ([]byte, error) {
	type plain Connection
	v := struct {
		plain
		LastError string `json:"last_error,omitempty"`
	}{plain: plain(c)}
	if c.LastError != nil {
		v.LastError = c.LastError.Error()
	}
	return json.Marshal(v)
}
