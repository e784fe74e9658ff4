package amqp

import (
	"fmt"

	"github.com/motifmq/motif/adapters"
)

// EventKind is the kind of an Event.
type EventKind uint8

const (
	Connected EventKind = iota // a connection was made
	Lost                       // a connection was lost
	Blocked                    // the broker blocks publishers: it is short of memory or disk
	Unblocked                  // the broker takes publishes again
	Cancelled                  // the broker cancelled a subscription's consumer, as when its queue is deleted
	TimedOut                   // the broker took back what a subscription held for longer than its consumer timeout
	Unknown                    // the broker is older than RabbitMQ 3.10, or is not RabbitMQ: reported once
)

var eventNames = [...]string{"connected", "lost", "blocked", "unblocked", "cancelled", "timed out", "unknown"}

// String returns the kind's name in lower case.
func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("event(%d)", uint8(k))
}

// Event is something that happened to one of the driver's connections.
type Event struct {
	Kind       EventKind
	Role       string // "publish" or "consume"
	Address    string // host and port
	Generation uint64 // how many connections in this role there have been, from 1
	Queue      string // of Cancelled and TimedOut
	Err        error  // why
}

func (d *Driver) emit(e Event) { d.cfg.OnEvent(e) }

// Health implements [adapters.HealthReporter]. The first connection is for publishing, with the
// role "publish", the others, made as needed, for consuming, with the role "consume".
func (d *Driver) Health() adapters.Health {
	d.mu.Lock()
	supervisors := append([]*supervisor{d.publisher}, d.consumers...)
	d.mu.Unlock()
	var h adapters.Health
	for _, sup := range supervisors {
		h.Connections = append(h.Connections, sup.health())
	}
	return h
}

// Resent returns how often a message was sent again that a queue may have already, since the driver
// was made. The copy is marked. Nearly all of them are for exchanges.
func (d *Driver) Resent() uint64 { return d.nackRetries.resent.Load() }

func (sup *supervisor) health() adapters.Connection {
	sup.mu.Lock()
	h := adapters.Connection{Role: sup.role, Generation: sup.gen, LastError: sup.err}
	conn := sup.conn
	sup.mu.Unlock()
	if conn != nil && conn.ctx.Err() == nil {
		var unblocked <-chan struct{}
		h.Up, h.Address, h.Broker = true, conn.address, conn.brokerName
		unblocked, h.BlockedReason = conn.blocked()
		h.Blocked = unblocked != nil
	}
	return h
}
