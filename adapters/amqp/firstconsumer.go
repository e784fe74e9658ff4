package amqp

import (
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// A queue that is empty may be new, and consuming from one that does not work yet costs the
// connection: see settlingTime. The first consumer of a connection that carries nothing else does
// not wait for that. It hardly ever happens, and all that is lost is the connection, which is made
// again without a word; from then on there is a wait.

// claimFirstConsumer reports whether the consumer of src may cost the connection. If so, its owner
// calls endFirstConsumer; if not, carry, if it is not to be lost with that one.
func (conn *connection) claimFirstConsumer(src adapters.Source) bool {
	cfg := &conn.supervisor.driver.cfg
	if conn.generation > 1 || src.Kind != adapters.Queue || src.Passive || cfg.queueType(src.Queue) != Quorum || cfg.migrates(src.QueueName()) {
		return false
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.carries {
		return false
	}
	conn.carries, conn.first = true, make(chan struct{})
	return true
}

// carry notes that the connection is about to carry what is not to be lost with it, and waits until
// the first consumer no longer may cost it.
func (conn *connection) carry() {
	conn.mu.Lock()
	conn.carries = true
	first := conn.first
	conn.mu.Unlock()
	if first == nil {
		return
	}
	select {
	case <-first:
	case <-conn.ctx.Done():
	}
}

// endFirstConsumer ends what claimFirstConsumer began, with the error of the consumer.
func (conn *connection) endFirstConsumer(err error) {
	if err != nil && !conn.alive() {
		return // and lostToFirst is asked
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	close(conn.first)
	conn.first = nil
}

// lostToFirst reports whether the connection was lost because its first consumer came too early.
func (conn *connection) lostToFirst() bool {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.first == nil {
		return false
	}
	fault := conn.mux.ClientFault()
	return fault != nil && fault.Err.Code == amqp091.InternalError
}
