package amqp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
	"github.com/motifmq/motif/adapters/kit"
)

// getChannel is a channel that messages are got on, one at a time. Opening and closing one takes
// two round trips and more of the broker's time than the message does: so it is kept for a while.
type getChannel struct {
	conn    *connection
	source  adapters.Source // as it was declared on this channel
	ch      *amqp091.Channel
	channel *consumeChannel
	closes  <-chan *amqp091.Error
	ctx     context.Context // of all its messages
	cancel  context.CancelCauseFunc
	release func()      // gives its place on the connection back
	unhook  func() bool // of release from the connection's end
	idle    *time.Timer // closes it; nil while it is in use
}

const (
	maxIdleGets = 16               // how many channels are kept, of a connection
	idleGetTime = 10 * time.Second // for how long
)

// get gets the next message on a channel that was kept.
func (g *getChannel) get() (*fetchedMessage, error) {
	var in *incoming
	// Each time: its dead letters may have lost their queue since. The queue itself worked a moment
	// ago, and is not asked whether it does: that would take a message from others who get some.
	err := g.conn.declare(g.ch, g.source, false)
	if err == nil {
		in, err = g.channel.next(g.source.QueueName(), g.closes)
	}
	switch {
	case errors.Is(err, adapters.ErrEmpty):
		g.keep()
		return nil, err
	case err != nil:
		g.close()
		return nil, err
	}
	return g.fetched(in), nil
}

// fetched returns the message that came in.
func (g *getChannel) fetched(in *incoming) *fetchedMessage {
	m := &fetchedMessage{getChannel: g, tag: in.tag, in: in}
	m.until = in.decode(&m.delivery)
	g.conn.supervisor.driver.correctReturns(&m.delivery, g.source.QueueName(), g.conn.countsReturns(g.source))
	in.message.SetContext(g.ctx)
	m.delivery.Settler, m.delivery.Remaining = m, g.channel.remaining
	return m
}

// ended ends the message in hand, because the broker has closed the channel. Where it was the
// connection, that ends it.
func (g *getChannel) ended(why error) {
	c, ok := errors.AsType[*frame.CloseError](why)
	if !ok || !c.Channel {
		return
	}
	cause := fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, c)
	late := isConsumerTimeout(c.Err)
	if late {
		cause = fmt.Errorf("%w: %w", adapters.ErrConsumerTimeout, cause)
	}
	g.cancel(cause)
	g.conn.supervisor.driver.tasks.Go(func() { // this is the goroutine that reads
		g.close()
		if late {
			g.conn.noteTimeout(g.source.QueueName(), cause, 1)
		}
	})
}

// lost returns why the message in hand cannot be settled any more, or nil.
func (g *getChannel) lost() error {
	cause := context.Cause(g.ctx)
	switch {
	case errors.Is(cause, adapters.ErrConsumerTimeout):
		return fmt.Errorf("amqp: %w: %w", adapters.ErrStaleDelivery, adapters.ErrConsumerTimeout)
	case errors.Is(cause, adapters.ErrSessionLost), g.conn.ctx.Err() != nil:
		return adapters.ErrStaleDelivery
	}
	return nil
}

// close closes the channel, and requeues the message that is unsettled.
func (g *getChannel) close() {
	g.cancel(nil) // before what follows gives another cause
	g.channel.close(g.ch)
	g.unhook()
	g.release()
}

// keep keeps the channel for the next Get, or closes it if there are enough.
func (g *getChannel) keep() {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	// Of a connection with few channels none are kept from others.
	if len(g.conn.idleGets) >= min(maxIdleGets, g.conn.channels/8) {
		g.conn.supervisor.driver.tasks.Go(g.close)
		return
	}
	g.conn.idleGets = append(g.conn.idleGets, g)
	g.idle = time.AfterFunc(idleGetTime, func() {
		if g.conn.takeIdle(func(other *getChannel) bool { return other == g }) != nil {
			g.conn.supervisor.driver.tasks.Go(g.close)
		}
	})
}

// takeIdle returns the channel that was kept last among those that match, or nil.
func (conn *connection) takeIdle(match func(*getChannel) bool) *getChannel {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	for i, g := range slices.Backward(conn.idleGets) {
		if match(g) {
			conn.idleGets = slices.Delete(conn.idleGets, i, i+1)
			g.idle.Stop()
			return g
		}
	}
	return nil
}

// errNoIdle is for a queue that no channel is kept for.
var errNoIdle = errors.New("no channel is kept")

// getFromIdle gets a message on a channel that was kept, where the queue was declared with these
// properties. If that fails, as when somebody deleted the queue, it is to be declared again.
func (d *Driver) getFromIdle(ctx context.Context, src adapters.Source) (*fetchedMessage, error) {
	d.mu.Lock()
	sups := slices.Clone(d.consumers)
	d.mu.Unlock()
	for _, sup := range sups {
		conn := sup.current()
		if conn == nil || conn.ctx.Err() != nil {
			continue
		}
		g := conn.takeIdle(func(g *getChannel) bool { return reflect.DeepEqual(g.source, src) })
		if g == nil {
			continue
		}
		m, err := kit.Call(ctx, d.tasks, g.get, (*fetchedMessage).close)
		if err != nil && !errors.Is(err, adapters.ErrEmpty) {
			err = fmt.Errorf("amqp: get from %s: %w", sourceName(src), err)
		}
		return m, err
	}
	return nil, errNoIdle
}

// open prepares for next. It returns a channel that receives when the broker's channel is closed.
func (cc *consumeChannel) open(ch *amqp091.Channel) (closes <-chan *amqp091.Error, err error) {
	closes = ch.NotifyClose(make(chan *amqp091.Error, 1))
	if cc.number, err = cc.mux.ChannelNumber(ch); err != nil {
		return nil, err
	}
	return closes, cc.mux.Attach(cc.number, cc)
}

// next gets the next message. Like those of a consumer it does not come through amqp091, which
// takes no frames larger than negotiated: the broker sends some, because it adds headers.
func (cc *consumeChannel) next(queue string, closes <-chan *amqp091.Error) (*incoming, error) {
	b, at := frame.Begin(nil, frame.TypeMethod, cc.number)
	b = binary.BigEndian.AppendUint32(b, frame.MethodGet)
	b = frame.AppendShort(append(b, 0, 0), queue)
	if err := cc.write(frame.End(append(b, 0), at)); err != nil { // 0: it will be acknowledged
		return nil, err
	}
	select {
	case in := <-cc.deliveries:
		return in, nil
	case <-cc.empty:
		return nil, adapters.ErrEmpty
	case e := <-closes:
		if e == nil {
			return nil, amqp091.ErrClosed
		}
		return nil, e
	}
}

// isClosing reports whether the driver is being closed.
func (d *Driver) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}
