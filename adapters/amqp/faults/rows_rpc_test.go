package faults

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/conformance/history"
	"github.com/motifmq/motif/patterns"
)

func double(_ context.Context, n int) (int, error) { return 2 * n, nil }

// calls makes calls that must have a reply.
func (x *trial) calls(fn *patterns.RPC[int, int], from, to int) {
	for i := from; i < to; i++ {
		got, err := fn.Call(x.soon(), i)
		if err != nil || got != 2*i {
			x.errorf("call %d: got %d, %v", i, got, err)
		}
	}
}

// callerGone: 37. The caller is gone when its reply comes.
func callerGone(x *trial) {
	const callers = 5
	site := x.shared()
	server := x.bus(site.connect("server"), "server")
	var begun, ran atomic.Int64
	gate := make(chan struct{})
	_, err := patterns.NewRPC[int, int](server, "slow").Serve(x.ctx, func(_ context.Context, n int) (int, error) {
		begun.Add(1)
		<-gate
		ran.Add(1)
		return n, nil
	}, patterns.Workers(callers))
	x.must(err, "serving")
	var calling sync.WaitGroup
	for range callers {
		caller := x.bus(site.connect("caller-"+x.number()), "caller")
		ctx, hangUp := context.WithCancel(x.ctx)
		n := begun.Load()
		calling.Go(func() {
			if _, err := patterns.NewRPC[int, int](caller, "slow").Call(ctx, 1); err == nil {
				x.errorf("a caller that hung up got a reply")
			}
		})
		x.await("the call is being served", func() bool { return begun.Load() > n })
		hangUp()
		x.must(caller.Close(x.soon()), "closing the caller")
	}
	calling.Wait()
	close(gate)
	x.await("all were served", func() bool { return ran.Load() == callers })
	x.must(x.serveMore(site, server), "serving after that")
	if begun.Load() != callers {
		x.errorf("%d calls were served %d times", callers, begun.Load())
	}
}

// serveMore checks that a server replies, and that nothing is left of the
// calls before.
func (x *trial) serveMore(site *site, server *patterns.Bus) error {
	fn := patterns.NewRPC[int, int](server, "double")
	if _, err := fn.Serve(x.ctx, double, patterns.Workers(4)); err != nil {
		return err
	}
	x.calls(patterns.NewRPC[int, int](x.bus(site.connect("late-caller"), "late-caller"), "double"), 0, 10)
	return nil
}

// serverKilled: 38. The server is killed -9 in the middle of a call: another
// one replies, or the caller's time is up.
func serverKilled(x *trial) {
	site := x.shared()
	caller, second := x.bus(site.connect("caller"), "caller"), x.bus(site.connect("second"), "second")
	fn := patterns.NewRPC[int, int](caller, "double")
	first := site.child("server", "double", 1)
	var calling sync.WaitGroup
	calling.Go(func() { x.calls(fn, 21, 22) })
	first.await()
	_, err := patterns.NewRPC[int, int](second, "double").Serve(x.ctx, double)
	x.must(err, "serving")
	first.kill()
	calling.Wait()

	only := site.child("server", "alone", 1)
	calling.Go(func() {
		err := x.within(10*time.Second, "Call", func(ctx context.Context) error {
			_, err := patterns.NewRPC[int, int](caller, "alone").Call(ctx, 1)
			return err
		})
		x.want(err, context.DeadlineExceeded, "a call whose only server was killed")
	})
	only.await()
	only.kill()
	calling.Wait()
	err = x.within(x.patience, "Call", func(ctx context.Context) error {
		_, err := patterns.NewRPC[int, int](caller, "alone").Call(ctx, 1)
		return err
	})
	x.want(err, patterns.ErrNoServer, "a call of a server that was killed")
	x.calls(fn, 0, 10)
}

// oddReplies: 39. Replies that come late, twice, from strangers, to calls that
// there are none of, and in no known form.
func oddReplies(x *trial) {
	x.undisturbed()
	site := x.shared()
	caller := x.bus(site.connect("caller"), "caller")
	fn := patterns.NewRPC[int, int](caller, "odd")
	ch := site.raw()
	_, err := ch.QueueDeclare("odd", true, true, false, false, amqp091.Table{"x-queue-type": "classic"})
	x.must(err, "declaring")
	requests, err := ch.Consume("odd", "", true, false, false, false, nil)
	x.must(err, "consuming")
	request := func() amqp091.Delivery {
		select {
		case r := <-requests:
			return r
		case <-time.After(x.patience):
			x.fatalf("no request came")
			return amqp091.Delivery{}
		}
	}
	reply := func(r amqp091.Delivery, id, body, contentType string) {
		// From another client, whose replies the row knows of.
		e := history.Event{Op: history.PublishInvoke, Client: "raw", ID: "reply-" + x.number(), Attempt: 1, To: adapters.Endpoint{Kind: adapters.Reply, Name: r.ReplyTo}, Publish: x.h.Number()}
		x.h.Add(e)
		x.must(ch.PublishWithContext(x.soon(), "", r.ReplyTo, false, false, amqp091.Publishing{
			MessageId: e.ID, CorrelationId: id, Body: []byte(body), ContentType: contentType,
		}), "replying")
	}
	late := func() uint64 { return caller.Stats().LateReplies }
	call := func(timeout time.Duration) (answer chan error) {
		answer = make(chan error, 1)
		x.spawn(func(context.Context) {
			answer <- x.within(timeout, "Call", func(ctx context.Context) error {
				n, err := fn.Call(ctx, 1)
				if err == nil && n != 2 {
					err = errors.New("a wrong reply")
				}
				return err
			})
		})
		return answer
	}

	answer := call(x.patience)
	r := request()
	reply(r, "of somebody else", "666", "application/json")
	reply(r, "", "666", "application/json")
	reply(r, r.CorrelationId, "2", "application/json")
	reply(r, r.CorrelationId, "666", "application/json")
	x.must(<-answer, "a call among odd replies")
	x.await("the odd ones are counted", func() bool { return late() == 3 })

	for _, bad := range [][2]string{{"{", "application/json"}, {"\x00", "application/zip"}, {"", ""}} {
		answer = call(x.patience)
		r = request()
		reply(r, r.CorrelationId, bad[0], bad[1])
		x.want(<-answer, patterns.ErrCodec, "a reply in no known form")
	}

	answer = call(300 * time.Millisecond)
	r = request()
	x.want(<-answer, context.DeadlineExceeded, "a call without a reply")
	reply(r, r.CorrelationId, "2", "application/json")
	x.await("the late one is counted", func() bool { return late() == 4 })

	answer = call(x.patience)
	r = request()
	reply(r, r.CorrelationId, "2", "application/json")
	x.must(<-answer, "a call after that")

	// A request that asks for its reply to be put into somebody's queue, or where the
	// broker breaks off the connection.
	driver, links := site.driver("server")
	server := x.bus(driver, "server")
	_, err = patterns.NewRPC[int, int](server, "double").Serve(x.ctx, double)
	x.must(err, "serving")
	x.must(server.Driver().Declare(x.soon(), from("victim", 1)), "declaring")
	for _, address := range []string{"victim", "amq.gen-\n", "amq.fanout", "", "amq.rabbitmq.reply-to.g1h2.k", "amq.rabbitmq.reply-to."} {
		site.send(ch, "double", "request-"+x.number(), amqp091.Publishing{Body: []byte("1"), CorrelationId: "c", ReplyTo: address})
	}
	calling := patterns.NewRPC[int, int](caller, "double")
	x.calls(calling, 0, 5)
	site.depth("victim", 0)
	for _, l := range links.Health().Connections {
		if l.Generation != 1 {
			x.errorf("the %s connection was lost: %v", l.Role, l.LastError)
		}
	}

	// One that looks like an address at a node that is down, for which RabbitMQ 3.10 does
	// break it off: the request must go, and others get their replies.
	gone := append([]byte{131, 88, 118, 0, 7}, "reply@1\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01"...)
	for i := range 3 {
		site.send(ch, "double", "request-"+x.number(), amqp091.Publishing{
			Body: []byte("1"), CorrelationId: "c", ReplyTo: "amq.rabbitmq.reply-to." + base64.StdEncoding.EncodeToString(gone) + ".k",
		})
		x.calls(calling, 5*i, 5*i+5)
	}
	x.await("replies that cannot be sent are given up", func() bool { return server.Stats().LostReplies >= 5 })
	site.depth("double", 0)
}

// noServer: 40. Nobody serves the function.
func noServer(x *trial) {
	site := x.shared()
	bus := x.bus(site.connect("caller"), "caller")
	fn := patterns.NewRPC[int, int](bus, "nobody")
	// A timeout would hold up every call, a busy machine only some.
	shortest := time.Hour
	for range 5 {
		begin := time.Now()
		_, err := fn.Call(x.soon(), 1)
		x.want(err, patterns.ErrNoServer, "a call that nobody serves")
		shortest = min(shortest, time.Since(begin))
	}
	if shortest > 5*time.Second {
		x.errorf("it took %v to find out that there is no server", shortest)
	}
	sub, err := fn.Serve(x.ctx, double)
	x.must(err, "serving")
	x.calls(fn, 0, 5)
	x.must(sub.Stop(x.soon()), "stopping the server")
	_, err = fn.Call(x.soon(), 1)
	x.want(err, patterns.ErrNoServer, "a call of a server that has stopped")
}
