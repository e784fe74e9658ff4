package amqp

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/amqp/internal/frame"
)

// queueGone is what RabbitMQ 4.3.6 closes a channel with if a queue goes between two steps of a
// publish.
var queueGone = &amqp091.Error{Code: amqp091.ResourceError, Server: true, Reason: "RESOURCE_ERROR - failed to deliver message: {not_found,\n" +
	"                               {resource,<<\"vhost\">>,queue,\n                                   <<\"amq.gen-qE2W363yt9gyi5deIMP7Ug\">>}}"}

// TestQueueGoesOnTheWay: a channel that is closed because a queue has just gone, which may be
// anybody's private one, fails nobody who publishes to an exchange or to private queues, and nobody
// who waits. What may be there already is marked when it comes again. Those who publish to other
// queues do not notice.
func TestQueueGoesOnTheWay(t *testing.T) {
	url := brokerURL(t)
	proxy := amqptest.ProxyTo(t, url)
	d, reader := connectTo(t, proxy.URL(url)), connect(t)
	x, q := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}, fromQueue(unique(t)+".q", 100)
	private := subscribe(t, reader, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 100})
	readsQueue := subscribe(t, reader, q)
	publish(t, d, mandatory(q.Name), "opens the channel")
	receive(t, readsQueue, "opens the channel")
	forQueues := d.publisher.current().slot("").channel.Load()
	for name, c := range map[string]struct {
		sub          adapters.Subscription
		p            adapters.Publication
		batch, async error
	}{
		"exchange": {subscribe(t, reader, adapters.Source{Endpoint: x, Group: "g", Prefetch: 100}), adapters.Publication{To: x}, nil, nil},
		"private":  {private, replyTo(private.Address()), nil, nil},
		"queue":    {readsQueue, mandatory(q.Name), adapters.ErrUnconfirmed, adapters.ErrUnconfirmed}, // it must not overtake
	} {
		t.Run(name, func(t *testing.T) {
			publish(t, d, c.p, "opens the channel", "is behind it") // so that nothing waits for the channel any more
			receive(t, c.sub, "opens the channel")
			receive(t, c.sub, "is behind it")
			o := outgoing{route: &route{p: c.p, exchange: c.p.To.Name}}
			if !c.p.To.Kind.IsExchange() {
				o.exchange = ""
			}
			conn := d.publisher.current()
			if name == "exchange" && !conn.version.atLeast(nacksLeaving) { // where this does not happen, and no copy is kept
				c.async = adapters.ErrUnconfirmed
			}
			pc := conn.slot(o.slotName()).channel.Load()
			proxy.Stall(amqptest.ToClient)
			alone, asynchronous, batch := make(chan error, 1), make(chan error, 1), make(chan error, 1)
			go func() { alone <- d.Publish(soon(t), c.p, msg("alone")) }()
			go func() { batch <- d.Publish(soon(t), c.p, msg("batch"), msg("batch too")) }()
			if err := d.PublishAsync(soon(t), c.p, msg("async"), func(err error) { asynchronous <- err }); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all are pending", func() bool {
				pc.mu.Lock()
				defer pc.mu.Unlock()
				return pc.next-pc.oldest == 4
			})
			resent := d.Resent()
			if name != "queue" && pc == forQueues {
				t.Error("the channel is the one for queues, too")
			}
			pc.Closed(&frame.CloseError{Err: queueGone, Channel: true})
			proxy.Heal()
			copies, total := map[string]int{}, 0
			for _, how := range []struct {
				ids  []string
				err  error
				want error
			}{
				{[]string{"alone"}, <-alone, nil},
				{[]string{"batch", "batch too"}, <-batch, c.batch},
				{[]string{"async"}, <-asynchronous, c.async},
			} {
				if !errors.Is(how.err, how.want) || errors.Is(how.err, adapters.ErrNacked) {
					t.Errorf("%v: %v", how.ids, how.err)
				}
				for _, id := range how.ids {
					copies[id] = 1
					if how.want == nil { // it was sent again
						copies[id] = 2
					}
					total += copies[id]
				}
			}
			got, marked := map[string]int{}, 0
			for _, m := range receiveN(t, c.sub, total) {
				got[m.Message.UUID]++
				if m.Redelivered {
					marked++
				}
			}
			if !maps.Equal(got, copies) {
				t.Errorf("got %v, want %v", got, copies)
			}
			if again := total - 4; marked != again || d.Resent()-resent != uint64(again) {
				t.Errorf("%d of %d copies are marked, %d are counted", marked, again, d.Resent()-resent)
			}
		})
	}
}

// TestDoubtIsNotRefusal: what may have been stored when a queue went is not said to be refused,
// whatever becomes of its copies.
func TestDoubtIsNotRefusal(t *testing.T) {
	d := connect(t)
	src := fromQueue(unique(t), 1)
	src.Queue.MaxLength = 1
	declare(t, d, src)
	publish(t, d, mandatory(src.Name), "fills it")
	r, err := d.prepare(ctx, new(mandatory(src.Name)))
	if err != nil {
		t.Fatal(err)
	}
	o, err := d.newOutgoing(&r, msg("m"))
	if err != nil {
		t.Fatal(err)
	}
	doubt := fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, errQueueGone)
	if err = d.sendAgain(ctx, &o, doubt); !errors.Is(err, adapters.ErrUnconfirmed) || errors.Is(err, adapters.ErrNacked) {
		t.Errorf("a full queue nacks the copy: %v", err)
	}
	for _, e := range []*amqp091.Error{queueGone, {Code: amqp091.ResourceError, Reason: "RESOURCE_ERROR - failed to deliver message: timeout"}} {
		if isQueueGone(e) != (e == queueGone) {
			t.Errorf("%v: %v", e, isQueueGone(e))
		}
	}
}
