package amqp

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/amqp/internal/netio"
)

// connection is one connection to the broker, from login to loss. What is delivered on it can be
// settled on it only.
type connection struct {
	supervisor   *supervisor
	generation   uint64
	address      string
	version      version
	brokerName   string
	amqp         *amqp091.Connection
	netConn      *netio.Conn
	mux          *frame.Mux
	since        time.Time
	controlSlots chan struct{} // a place for each channel that is open for a single operation
	declareSlots chan struct{} // a place for each queue that is being declared
	largeSlot    chan struct{} // held while a large message is sent

	blockings chan amqp091.Blocking // registered before anything is published
	closes    chan *amqp091.Error

	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc

	got          atomic.Int64 // messages from Get that are in hand
	largestTaken atomic.Int64 // the largest payload that the broker has accepted, in bytes
	refusals     refusals
	routing      nameLocks // exchanges before queues for delays, while they are being declared

	mu                sync.Mutex
	unblocked         chan struct{} // closed when the broker takes publishes again; nil if it does
	blockedReason     string        // why the broker takes no publishes
	declaredExchanges map[adapters.Endpoint]struct{}
	foreignExchanges  map[adapters.Endpoint]struct{} // declared by others, with other properties
	undeclarable      map[string]error               // why exchanges that may exist could not be declared
	downCount         map[string]int                 // how often queues were reported down
	otherType         map[string]struct{}            // queues with priorities that are of the other type
	givesSingly       map[string]struct{}            // queues declared by others that give single messages
	delayQueues       map[string]knownDelayQueue     // of delays with queues of their own, by name
	ladderRungs       int                            // how many rungs of the delay ladder exist
	ladderChecked     time.Time                      // when the ladder was last declared or checked
	ladderRefused     error                          // why nothing may be delayed, by what was seen then
	policiesChecked   bool                           // no policy leads delayed messages astray
	slots             map[string]*publishSlot
	slotList          []*publishSlot
	channels          int // how many there may be
	maxSlots          int
	replyChannels     int // channels that receive replies
	idleGets          []*getChannel
	idleControls      []*amqp091.Channel
	controlsIdle      *time.Timer   // closes them; nil if there were none so far
	carries           bool          // what is not to be lost with it, or a first consumer
	first             chan struct{} // closed once the first consumer may no longer cost the connection; else nil
}

const (
	maxKnown     = 4096 // how many exchanges or queues are remembered
	lastingAfter = 10 * time.Second
)

func newConnection(sup *supervisor, gen uint64, address string, client *amqp091.Connection, mux *frame.Mux) *connection {
	channels := sup.channelLimit(int(client.Config.ChannelMax))
	conn := &connection{
		supervisor: sup, generation: gen, address: address, amqp: client, netConn: mux.Conn, mux: mux, since: time.Now(),
		controlSlots:      make(chan struct{}, controlChannels(channels)),
		declareSlots:      make(chan struct{}, mostDeclaring),
		largeSlot:         make(chan struct{}, 1),
		channels:          channels,
		maxSlots:          publishSlots(channels),
		declaredExchanges: make(map[adapters.Endpoint]struct{}),
		foreignExchanges:  make(map[adapters.Endpoint]struct{}),
		undeclarable:      make(map[string]error),
		slots:             make(map[string]*publishSlot),
		delayQueues:       make(map[string]knownDelayQueue),

		downCount:   make(map[string]int),
		givesSingly: make(map[string]struct{}),
		otherType:   make(map[string]struct{}),
	}
	conn.brokerName, conn.version = brokerOf(client.Properties)
	sup.driver.channelMax.Store(int32(client.Config.ChannelMax))
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background())
	conn.blockings = client.NotifyBlocked(make(chan amqp091.Blocking, 8))
	conn.closes = client.NotifyClose(make(chan *amqp091.Error, 1))
	return conn
}

// user returns the user that logged in, or "" if a certificate says who it is.
func (conn *connection) user() string {
	if p, ok := conn.amqp.Config.SASL[0].(*saslPlain); ok {
		return p.Username
	}
	return ""
}

// noteChannelLimit notes how many channels there may be, if the connection was closed because there
// was one too many: an operator may have limited those of a user.
func (conn *connection) noteChannelLimit() {
	if conn.supervisor != conn.supervisor.driver.publisher {
		return
	}
	d, c := conn.supervisor.driver, conn.mux.ClientFault()
	switch {
	case c != nil && isLimit(c.Err) && strings.Contains(c.Err.Reason, "channels"):
		conn.mu.Lock()
		open := len(conn.slotList) + len(conn.controlSlots) + len(conn.idleControls) + conn.replyChannels
		conn.mu.Unlock()
		d.publishChannelLimit.Store(int32(max(1, open-1)))
	case conn.lasted():
		d.publishChannelLimit.Store(0)
	}
}

// channelLimit returns how many channels to use on a connection that allows so many.
func (sup *supervisor) channelLimit(allowed int) int {
	if most := int(sup.driver.publishChannelLimit.Load()); sup == sup.driver.publisher && most > 0 {
		return min(allowed, most)
	}
	return allowed
}

// lasted reports whether the connection worked for a while. A broker that throws everybody out ends
// it at once.
func (conn *connection) lasted() bool { return time.Since(conn.since) > lastingAfter }

// alive reports whether the connection is neither lost nor about to be, so that what failed on it
// failed for another reason.
func (conn *connection) alive() bool {
	return conn.ctx.Err() == nil && !conn.amqp.IsClosed() && conn.netConn.Alive() && conn.mux.Alive()
}

// watch returns why the connection ended, once it has. It ends the connection when the driver is
// closed.
func (conn *connection) watch() error {
	blocks := conn.blockings
	closing, hard := conn.supervisor.ctx.Done(), conn.supervisor.driver.killed.Done()
	var goodbye sync.WaitGroup
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			conn.setBlocked(b.Active, b.Reason)
		case <-closing:
			closing = nil
			goodbye.Go(func() { _ = conn.amqp.Close() }) // it follows all that was written before
		case <-hard:
			hard = nil
			conn.netConn.Abort(adapters.ErrClosed)
		case e := <-conn.closes:
			lost := conn.lossCause(e)
			conn.noteChannelLimit()
			conn.cancel(lost)
			conn.forgetIdleControls()
			_ = conn.netConn.Close()
			<-conn.netConn.Done()
			conn.mux.CloseAll(lost) // if the goroutine that reads has not: nobody is called back after Close
			goodbye.Wait()
			return lost
		}
	}
}

// lossCause returns the cause with which the connection ends.
func (conn *connection) lossCause(e *amqp091.Error) error {
	switch {
	case conn.supervisor.driver.ctx.Err() != nil:
		return adapters.ErrClosed
	case e == nil:
		return adapters.ErrSessionLost
	}
	return fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, e)
}

func (conn *connection) setBlocked(blocked bool, reason string) {
	conn.netConn.SetBlocked(blocked)
	conn.mu.Lock()
	was := conn.unblocked != nil
	switch {
	case blocked && !was:
		conn.unblocked, conn.blockedReason = make(chan struct{}), reason
	case !blocked && was:
		close(conn.unblocked)
		conn.unblocked, conn.blockedReason = nil, ""
	}
	conn.mu.Unlock()
	if blocked == was {
		return
	}
	e := Event{Kind: Unblocked, Role: conn.supervisor.role, Address: conn.address, Generation: conn.generation}
	if blocked {
		e.Kind, e.Err = Blocked, fmt.Errorf("amqp: %w: blocked by the broker: %s", adapters.ErrUnavailable, reason)
	}
	conn.supervisor.driver.emit(e)
	conn.supervisor.driver.cfg.Logger.Warn("motif: "+e.Kind.String()+" by the broker", "role", conn.supervisor.role, "reason", reason)
}

// blocked returns a channel that is closed when the broker takes publishes again, or nil if it
// takes them now.
func (conn *connection) blocked() (<-chan struct{}, string) {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.unblocked, conn.blockedReason
}
