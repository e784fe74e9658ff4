package amqp

import (
	"context"
	"errors"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// browseGroup is how many messages are taken on one channel. A quorum queue (3.10 to 4.3) that gets
// more than 32 back from one channel puts them into any order.
const browseGroup = 32

// browse takes messages, in groups of which each has a channel of its own, and gives them back
// group by group. A group goes back by a negative acknowledgement, which RabbitMQ 4.3 does not
// count against the delivery limit of the queue, as it does if the channel just ends.
func (conn *connection) browse(ctx context.Context, queue string, limit int) (found []adapters.Delivery, err error) {
	var groups []*takenGroup
	defer func() {
		for _, g := range groups {
			g.giveBack()
		}
	}()
	for size := 0; len(found) < limit; {
		if len(found) == len(groups)*browseGroup {
			g, err := conn.takeGroup()
			if errors.Is(err, amqp091.ErrChannelMax) && len(groups) > 0 {
				break // the connection has no more channels
			}
			if err != nil {
				return nil, err
			}
			groups = append(groups, g)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in, left, err := groups[len(groups)-1].next(queue)
		if errors.Is(err, adapters.ErrEmpty) {
			break
		}
		if err != nil {
			return nil, err
		}
		if size += len(in.message.Payload); size > adapters.MaxBrowseBytes && len(found) > 0 {
			found[len(found)-1].Remaining = left + 1
			break
		}
		found = append(found, adapters.Delivery{})
		d := &found[len(found)-1]
		in.decode(d)
		d.Remaining = left
	}
	return found, nil
}

// takenGroup is messages that were taken on one channel, to be given back.
type takenGroup struct {
	ch      *amqp091.Channel
	channel *consumeChannel
	closes  <-chan *amqp091.Error
	last    uint64 // tag of the last one
}

func (conn *connection) takeGroup() (*takenGroup, error) {
	ch, err := conn.amqp.Channel()
	if err != nil {
		return nil, err
	}
	g := &takenGroup{ch: ch, channel: &consumeChannel{mux: conn.mux, deliveries: make(chan *incoming, 1), empty: make(chan struct{}, 1)}}
	if g.closes, err = g.channel.open(ch); err != nil {
		g.channel.close(ch)
		return nil, err
	}
	return g, nil
}

// next takes a message, and returns how many more there are.
func (g *takenGroup) next(queue string) (in *incoming, left int, err error) {
	if in, err = g.channel.next(queue, g.closes); err != nil {
		return nil, 0, err
	}
	g.last = in.tag
	return in, g.channel.remaining, nil
}

// giveBack returns once the messages are in the queue again. If the connection is lost, they are.
func (g *takenGroup) giveBack() {
	if g.last > 0 {
		_ = g.channel.Nack(g.last, true, true)
	}
	g.channel.close(g.ch)
}
