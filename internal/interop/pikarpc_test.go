package interop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// pika calls as its tutorial does it.
func TestPikaCallsUs(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	name := unique(t)
	errNegative := errors.New("negative")
	bus := patterns.New(connect(t, url, amqp.Quorum), patterns.WithErrorCode("negative", errNegative))
	lasting := make(chan time.Duration, 10)
	_, err := patterns.NewRPC[int, int](bus, name).Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
		deadline, _ := ctx.Deadline()
		lasting <- time.Until(deadline)
		if n < 0 {
			return 0, errNegative
		}
		return 2 * n, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	call := func(body string, props, how with) seen {
		t.Helper()
		args := with{"key": name, "body": []byte(body), "props": props}
		for k, v := range how {
			args[k] = v
		}
		var answer seen
		p.ask(t, "call", args, &answer)
		return answer
	}
	for _, props := range []with{nil, {"content_type": contentType, "correlation_id": "7"}} {
		answer := call("21", props, nil)
		if string(answer.Body) != "42" || !answer.Mine || answer.Properties.ContentType != contentType || answer.Properties.DeliveryMode != 1 {
			t.Errorf("a call with %v is answered with %+v", props, answer)
		}
		if d := <-lasting; d > 0 {
			t.Errorf("a call without an expiration has %v", d)
		}
	}
	call("21", with{"expiration": "60000"}, nil)
	if d := <-lasting; d <= 20*time.Second || d > time.Minute {
		t.Errorf("a call that expires in 60 s has %v", d)
	}
	var direct seen
	p.ask(t, "call_direct", with{"key": name, "body": []byte("21")}, &direct)
	if string(direct.Body) != "42" || !direct.Mine {
		t.Errorf("a call with direct reply-to is answered with %+v", direct)
	}
	<-lasting
	answer := call("-1", nil, nil)
	if h := answer.Properties.Headers; !answer.Mine || h["motif-error-code"] != "negative" || h["motif-error"] != "negative" || len(answer.Body) > 0 {
		t.Errorf("a call that fails is answered with %+v", answer)
	}
	<-lasting
	answer = call("twenty-one", nil, nil)
	if h := answer.Properties.Headers; h["motif-error-code"] != "bad-request" {
		t.Errorf("what is no number is answered with %+v", answer)
	}
	// Nobody to reply to: it is done once.
	p.publish(t, "", name, "21", nil)
	<-lasting
}

// A reply goes to an address that the broker made up, and to no other queue
// unless its owner is trusted: the caller says where it is sent.
func TestRepliesGoToTrustedQueuesOnly(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	trusted, other := unique(t)+".answers", unique(t)+".payroll"
	cfg, err := amqp.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.AllowReplyTo = func(address string) bool { return address == trusted }
	d, err := amqp.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(d)
	defer bus.Close(context.Background())
	name := unique(t)
	if _, err = patterns.NewRPC[int, int](bus, name).Serve(t.Context(), func(_ context.Context, n int) (int, error) { return 2 * n, nil }); err != nil {
		t.Fatal(err)
	}
	p.do(t, "queue_declare", with{"queue": other})
	p.publish(t, "", name, "21", with{"reply_to": other, "correlation_id": "1"})
	var answer seen
	p.ask(t, "call", with{"key": name, "body": []byte("21"), "reply_queue": trusted}, &answer) // handled after the one before
	if string(answer.Body) != "42" || !answer.Mine {
		t.Errorf("answered with %+v", answer)
	}
	p.publish(t, "", other, "empty", nil)
	if got := p.get(t, other); string(got.Body) != "empty" {
		t.Errorf("the queue that is not trusted got %+v", got)
	}
	if n := bus.Stats().LostReplies; n != 1 {
		t.Errorf("%d lost replies", n)
	}
}

// Our caller does not declare the queue of requests, so its properties are the
// server's business.
func TestWeCallPika(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	bus := patterns.New(connect(t, url, amqp.Quorum))
	for what, declare := range map[string]with{
		"transient": {},
		"quorum":    {"durable": true, "arguments": with{"x-queue-type": "quorum"}},
		"bounded":   {"durable": true, "arguments": with{"x-max-length": 5, "x-max-priority": 3, "x-message-ttl": 60000}},
		"exclusive": {"exclusive": true},
	} {
		t.Run(what, func(t *testing.T) {
			name := unique(t)
			rpc := patterns.NewRPC[string, string](bus, name)
			if _, err := rpc.Call(soon(t), "a"); !errors.Is(err, patterns.ErrNoServer) {
				t.Errorf("a call to no queue: %v", err)
			}
			declare["queue"] = name
			p.do(t, "queue_declare", declare)
			served := p.begin("serve", with{"queue": name, "requests": 3})
			for range 2 {
				answer, err := patterns.NewRPC[int, int](bus, name).Call(soon(t), 21, patterns.Header("tenant", "blue"))
				if err != nil || answer != 2121 {
					t.Errorf("answer %d, %v", answer, err)
				}
			}
			if _, err := rpc.Call(soon(t), "a"); !errors.Is(err, patterns.ErrCodec) {
				t.Errorf("a reply that is no JSON: %v", err)
			}
			var requests []seen
			if err := served(&requests); err != nil || len(requests) != 3 {
				t.Fatalf("pika served %d requests, %v", len(requests), err)
			}
			r := requests[0]
			if !strings.HasPrefix(r.Properties.ReplyTo, "amq.rabbitmq.reply-to.") {
				t.Errorf("the reply is to go to %q", r.Properties.ReplyTo)
			}
			if q := r.Properties; string(r.Body) != "21" || q.CorrelationID == "" || q.ContentType != contentType ||
				q.Expiration == "" || q.MessageID == "" || q.DeliveryMode != 1 || q.Headers["tenant"] != "blue" {
				t.Errorf("pika got %+v", r)
			}
		})
	}
}

// A server of any language says that it failed with a header.
func TestPikaFails(t *testing.T) {
	url := amqptest.URL(t)
	p := newPeer(t, url)
	name := unique(t)
	p.do(t, "queue_declare", with{"queue": name})
	errNegative := errors.New("negative")
	bus := patterns.New(connect(t, url, amqp.Quorum), patterns.WithErrorCode("negative", errNegative))
	served := p.begin("serve", with{"queue": name, "requests": 1, "headers": with{"motif-error-code": "negative", "motif-error": "-1 < 0"}})
	_, err := patterns.NewRPC[int, int](bus, name).Call(soon(t), -1)
	var remote *patterns.RemoteError
	if !errors.As(err, &remote) || remote.Message != "-1 < 0" || !errors.Is(err, errNegative) {
		t.Errorf("got %v", err)
	}
	if err := served(nil); err != nil {
		t.Error(err)
	}
}
