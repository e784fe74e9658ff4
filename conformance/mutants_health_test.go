package conformance

import (
	"context"

	"github.com/motifmq/motif/adapters"
)

// changed reports the client's health, but for what change does to each connection.
func changed(m *mutated, change func(*adapters.Connection)) {
	health := m.health
	m.health = func() adapters.Health {
		h := health()
		for i := range h.Connections {
			change(&h.Connections[i])
		}
		return h
	}
}

var healthMutants = []mutant{
	{"claims to report health, and has no method for it", "health/reporter", onlyDriver},
	{"has no connections", "health/reporter", func(m *mutated) {
		m.health = func() adapters.Health { return adapters.Health{} }
	}},
	{"is never connected", "health/reporter", func(m *mutated) {
		changed(m, func(c *adapters.Connection) { c.Up = false })
	}},
	{"is always blocked", "health/reporter", func(m *mutated) {
		changed(m, func(c *adapters.Connection) { c.Blocked = true })
	}},
	{"is connected though it is closed", "health/closed", func(m *mutated) {
		changed(m, func(c *adapters.Connection) { c.Up = true })
	}},
	{"forgets its connections at Close", "health/closed", func(m *mutated) {
		closed, closeClient, health := false, m.close, m.health // which the case calls one after the other
		m.close = func(ctx context.Context) error {
			closed = true
			return closeClient(ctx)
		}
		m.health = func() adapters.Health {
			if closed {
				return adapters.Health{}
			}
			return health()
		}
	}},
	{"counts no connections", "health/lost", func(m *mutated) {
		changed(m, func(c *adapters.Connection) { c.Generation = 1 })
	}},
	{"does not say why a connection was lost", "health/lost", func(m *mutated) {
		changed(m, func(c *adapters.Connection) { c.LastError = nil })
	}},
}
