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
)

// replies come over RabbitMQ's direct reply-to: whoever answers publishes straight to
// the channel that consumes them. There is no queue in between, which would take
// both sides longer than the rest of a small call.
type replies struct {
	conn     *connection
	ch       *amqp091.Channel
	intake   *intake
	address  string
	received func(adapters.Delivery)

	mu   sync.Mutex
	lost func(error) // nil as long as ReceiveReplies may still fail
	over error       // why nothing more comes
}

// ReceiveReplies implements [adapters.ReplyReceiver]. Answers come on the
// connection that publishes. It is ErrUnsupported if that may have hardly any channels.
func (d *Driver) ReceiveReplies(ctx context.Context, received func(adapters.Delivery), lost func(error)) (string, error) {
	if err := d.checkOpen(ctx, "receive replies"); err != nil {
		return "", err
	}
	for suspected := false; ; {
		conn, err := d.ready(ctx)
		if err != nil {
			return "", err
		}
		r, err := conn.openReplies(ctx, received)
		if err == nil {
			r.begin(lost)
			return r.address, nil
		}
		if errors.Is(err, adapters.ErrUnsupported) {
			return "", err
		}
		if err := d.finalErrorOnce(ctx, conn, err, directReply, &suspected); err != nil {
			return "", fmt.Errorf("amqp: receive replies: %w", err)
		}
	}
}

// repliesOf is how many of so many channels may be for answers.
func replyLimit(channels int) int {
	return channels - publishSlots(channels) - controlChannels(channels)
}

func (conn *connection) openReplies(ctx context.Context, received func(adapters.Delivery)) (*replies, error) {
	conn.mu.Lock()
	room := conn.replyChannels < replyLimit(conn.channels)
	if room {
		conn.replyChannels++
	}
	conn.mu.Unlock()
	if !room {
		return nil, fmt.Errorf("amqp: %w: direct replies, with so few channels", adapters.ErrUnsupported)
	}
	return await(ctx, conn.supervisor.driver, func() (*replies, error) {
		r := &replies{conn: conn, received: received}
		r.intake = &intake{frames: conn.mux, direct: r}
		var err error
		if r.ch, err = conn.amqp.Channel(); err != nil {
			r.lose(err)
			return nil, err
		}
		if err = r.open(); err != nil {
			r.close()
			return nil, err
		}
		return r, nil
	}, (*replies).close)
}

// open begins to consume, and finds out the address. RabbitMQ puts it into what is
// published on this channel, as what is returned shows; and it is as good
// for requests on other channels.
func (r *replies) open() error {
	if err := r.intake.consume(r.ch, directReply, newTag(), true, nil); err != nil {
		return err
	}
	returns, closes := r.ch.NotifyReturn(make(chan amqp091.Return, 1)), r.ch.NotifyClose(make(chan *amqp091.Error, 1))
	nowhere := "motif-" + rand.Text()
	if err := r.ch.Publish("", nowhere, true, false, amqp091.Publishing{ReplyTo: directReply}); err != nil {
		return err
	}
	returned, ok := <-returns // closed with the channel
	if !ok {
		if why := <-closes; why != nil {
			return why
		}
		return amqp091.ErrClosed
	}
	if !strings.HasPrefix(returned.ReplyTo, directReply+".") {
		return fmt.Errorf("amqp: %w: the broker does not tell the address of direct replies", adapters.ErrUnsupported)
	}
	r.address = returned.ReplyTo
	return nil
}

// close is for answers that are not to begin.
func (r *replies) close() { r.intake.close(r.ch) }

// begin has lost called when nothing more comes, which may be so already.
func (r *replies) begin(lost func(error)) {
	r.mu.Lock()
	r.lost = lost
	over := r.over
	r.mu.Unlock()
	if over != nil {
		lost(over)
	}
}

// lose is called once, when nothing more comes.
func (r *replies) lose(why error) {
	r.conn.mu.Lock()
	r.conn.replyChannels--
	r.conn.mu.Unlock()
	r.mu.Lock()
	r.over = fmt.Errorf("amqp: %w: %w", adapters.ErrSessionLost, why)
	if r.conn.supervisor.driver.ctx.Err() != nil {
		r.over = adapters.ErrClosed
	}
	lost := r.lost
	r.mu.Unlock()
	if lost != nil {
		lost(r.over)
	}
}

func (r *replies) receive(h *handed) {
	var out adapters.Delivery
	h.decode(&out)
	h.message.SetContext(r.conn.ctx)
	r.received(out)
}
