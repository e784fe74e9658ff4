package amqp

import (
	"errors"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// errDeclareAgain means that an exchange turned out to be somebody else's, or to be gone. Finding
// out has cost the channel, and the operation on it has to begin again.
var errDeclareAgain = errors.New("amqp: declare again")

// declareExchange makes an exchange exist. To Motif the only property of an exchange is its kind:
// one that somebody else declared as transient, as auto-delete, or with arguments is used as it
// stands.
func (conn *connection) declareExchange(ch *amqp091.Channel, e adapters.Endpoint) error {
	conn.mu.Lock()
	_, foreign := conn.foreignExchanges[e]
	conn.mu.Unlock()
	if !foreign {
		err := ch.ExchangeDeclare(e.Name, e.Kind.String(), true, false, false, false, nil)
		if !isForeignExchange(err) {
			return err
		}
		conn.mu.Lock()
		defer conn.mu.Unlock()
		if len(conn.foreignExchanges) >= maxKnown {
			clear(conn.foreignExchanges)
		}
		conn.foreignExchanges[e] = struct{}{}
		return errDeclareAgain
	}
	err := ch.ExchangeDeclarePassive(e.Name, e.Kind.String(), true, false, false, false, nil)
	if err != nil && errors.Is(sentinel(err), adapters.ErrNotFound) {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		delete(conn.foreignExchanges, e)
		return errDeclareAgain
	}
	return err
}

// isStarting reports whether a queue was reported down in its first moments, as RabbitMQ (4.3) does
// for one that another process is declaring. It waits a while, and believes the third report.
func (conn *connection) isStarting(queue string, err error) bool {
	if err == nil || sentinel(err) != adapters.ErrUnavailable || !conn.alive() { //nolint:errorlint // what wraps it has another reason
		return false
	}
	conn.mu.Lock()
	if len(conn.downCount) >= maxKnown {
		clear(conn.downCount)
	}
	conn.downCount[queue]++
	again := conn.downCount[queue] < 3
	if !again {
		delete(conn.downCount, queue)
	}
	conn.mu.Unlock()
	return again && sleep(conn.ctx, conn.settlingTime())
}

// isForeignExchange reports whether a declaration failed because the exchange differs in something
// other than its kind. RabbitMQ compares the kind first.
func isForeignExchange(err error) bool {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok || e.Code != amqp091.PreconditionFailed {
		return false
	}
	_, what, ok := strings.Cut(e.Reason, "inequivalent arg '")
	name, rest, _ := strings.Cut(what, "'")
	return ok && name != "type" && strings.HasPrefix(rest, " for exchange ")
}
