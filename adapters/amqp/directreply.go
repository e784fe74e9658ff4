package amqp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// replyConsumer receives replies over RabbitMQ's direct reply-to: whoever replies publishes
// straight to the channel that consumes them. A queue in between would take both sides longer than
// the rest of a small call.
type replyConsumer struct {
	conn    *connection
	ch      *amqp091.Channel
	channel *consumeChannel
	address string
	handle  func(adapters.Delivery)

	mu       sync.Mutex
	lost     func(error) // nil as long as ReceiveReplies may still fail
	closeErr error       // why no more replies come
}

// ReceiveReplies implements [adapters.ReplyReceiver]. Replies come over the connection that
// publishes. The error is ErrUnsupported where the connection may have hardly any channels.
func (d *Driver) ReceiveReplies(ctx context.Context, received func(adapters.Delivery), lost func(error)) (string, error) {
	if err := d.checkOpen(ctx, "receive replies"); err != nil {
		return "", err
	}
	for suspect := innocent; ; {
		conn, err := d.writableConnection(ctx)
		if err != nil {
			return "", err
		}
		r, err := conn.openReplyConsumer(ctx, received)
		if err == nil {
			r.start(lost)
			return r.address, nil
		}
		if errors.Is(err, adapters.ErrUnsupported) {
			return "", err
		}
		if err := d.finalErrorOnce(ctx, conn, err, directReplyTo, nil, &suspect); err != nil {
			return "", fmt.Errorf("amqp: receive replies: %w", err)
		}
	}
}

// replyLimit returns how many of a connection's channels may receive replies.
func replyLimit(channels int) int {
	return channels - publishSlots(channels) - controlChannels(channels)
}

func (conn *connection) openReplyConsumer(ctx context.Context, received func(adapters.Delivery)) (*replyConsumer, error) {
	conn.mu.Lock()
	room := conn.replyChannels < replyLimit(conn.channels)
	if room {
		conn.replyChannels++
	}
	conn.mu.Unlock()
	if !room {
		return nil, fmt.Errorf("amqp: %w: direct replies, with so few channels", adapters.ErrUnsupported)
	}
	return kit.Call(ctx, conn.supervisor.driver.tasks, func() (*replyConsumer, error) {
		r := &replyConsumer{conn: conn, handle: received}
		r.channel = &consumeChannel{mux: conn.mux, replies: r}
		var err error
		if r.ch, err = conn.amqp.Channel(); err != nil {
			r.closed(err)
			return nil, err
		}
		if err = r.open(); err != nil {
			r.close()
			return nil, err
		}
		return r, nil
	}, (*replyConsumer).close)
}

// open starts to consume, and finds out the address. RabbitMQ puts it into what is published on
// this channel, as a returned message shows. It can be used in requests on other channels.
func (r *replyConsumer) open() error {
	if err := r.channel.consume(r.ch, directReplyTo, newTag(), true, nil); err != nil {
		return err
	}
	returns, closes := r.ch.NotifyReturn(make(chan amqp091.Return, 1)), r.ch.NotifyClose(make(chan *amqp091.Error, 1))
	nowhere := "motif-" + rand.Text()
	if err := r.ch.Publish("", nowhere, true, false, amqp091.Publishing{ReplyTo: directReplyTo}); err != nil {
		return err
	}
	returned, ok := <-returns // closed with the channel
	if !ok {
		if why := <-closes; why != nil {
			return why
		}
		return amqp091.ErrClosed
	}
	if !strings.HasPrefix(returned.ReplyTo, directReplyTo+".") {
		return fmt.Errorf("amqp: %w: the broker does not reveal the address for direct replies", adapters.ErrUnsupported)
	}
	r.address = returned.ReplyTo
	return nil
}

// close closes the channel of a consumer that was not started.
func (r *replyConsumer) close() { r.channel.close(r.ch) }

// start has lost called when no more replies come, which may be so already.
func (r *replyConsumer) start(lost func(error)) {
	r.mu.Lock()
	r.lost = lost
	over := r.closeErr
	r.mu.Unlock()
	if over != nil {
		lost(over)
	}
}

// closed is called once, when no more replies come.
func (r *replyConsumer) closed(why error) {
	r.conn.mu.Lock()
	r.conn.replyChannels--
	r.conn.mu.Unlock()
	r.mu.Lock()
	r.closeErr = fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, why)
	if r.conn.supervisor.driver.ctx.Err() != nil {
		r.closeErr = adapters.ErrClosed
	}
	lost := r.lost
	r.mu.Unlock()
	if lost != nil {
		lost(r.closeErr)
	}
}

func (r *replyConsumer) deliver(in *incoming) {
	var out adapters.Delivery
	in.decode(&out)
	in.message.SetContext(r.conn.ctx)
	r.handle(out)
}
