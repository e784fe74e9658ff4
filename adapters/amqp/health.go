package amqp

import "fmt"

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

// Health is how the driver's connections are doing.
type Health struct {
	Resent      uint64             // how often a publish to an exchange was sent again: a queue may have it twice, the copy marked
	Connections []ConnectionHealth // the first is for publishing, the others, made as needed, for consuming
}

// OK reports whether every connection is up and not blocked.
func (h Health) OK() bool {
	for _, l := range h.Connections {
		if !l.Up || l.Blocked {
			return false
		}
	}
	return true
}

// ConnectionHealth is how one connection is doing.
type ConnectionHealth struct {
	Role          string
	Up            bool
	Address       string // of the node, while it is up
	Broker        string // what it says it is, as in "RabbitMQ 4.3.6"
	Generation    uint64 // how many connections there have been
	Blocked       bool   // by the broker; publishes wait
	BlockedReason string
	LastError     error // why the last attempt or connection failed; kept while it is up again
}

// Health returns how the driver's connections are doing. It does not block.
func (d *Driver) Health() Health {
	d.mu.Lock()
	supervisors := append([]*supervisor{d.publisher}, d.consumers...)
	d.mu.Unlock()
	h := Health{Resent: d.nackRetries.resent.Load()}
	for _, sup := range supervisors {
		h.Connections = append(h.Connections, sup.health())
	}
	return h
}

func (sup *supervisor) health() ConnectionHealth {
	sup.mu.Lock()
	h := ConnectionHealth{Role: sup.role, Generation: sup.gen, LastError: sup.err}
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
