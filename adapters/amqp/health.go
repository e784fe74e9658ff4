package amqp

import "fmt"

// EventKind says what an Event is about.
type EventKind uint8

const (
	Connected EventKind = iota // a connection began
	Lost                       // it ended
	Blocked                    // the broker takes no publishes for a while: it is short of memory or disk
	Unblocked                  // it does again
	Cancelled                  // the broker took a subscription's consumer away, as when its queue is deleted
	TimedOut                   // it took back what a subscription held for longer than its consumer timeout
	Unknown                    // the broker is older than RabbitMQ 3.10, or is none: said once
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
	Generation uint64 // which connection of the supervisor, from 1
	Queue      string // of Cancelled and TimedOut
	Err        error  // why
}

func (d *Driver) emit(e Event) { d.cfg.OnEvent(e) }

// Health is how the driver's connections are doing.
type Health struct {
	Resent      uint64             // times that a publish to an exchange was sent again: a queue that it reaches may have it twice, marked
	Connections []ConnectionHealth // the first is for publishing, the others, which are made as needed, for consuming
}

// OK reports whether every link is up and not blocked.
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
	Broker        string // and what it says it is, as "RabbitMQ 4.3.6"
	Generation    uint64 // connections so far
	Blocked       bool   // by the broker; publishes wait
	BlockedReason string
	LastError     error // of the last attempt to connect, or why the last connection ended; also after it is up again
}

// Health returns how the driver's connections are doing. It does not wait for
// anything.
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
