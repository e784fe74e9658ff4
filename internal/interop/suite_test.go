package interop

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestWatermillSuite runs watermill's own test suite on RabbitMQ through the
// door, at its full size, with the features that the in-process broker has
// there, and with a broker that is restarted. The exception is order over
// several subscribers, which compete.
//
// Each topic is a group's queue behind a fanout exchange. A queue by itself is
// the same to RabbitMQ, but has no groups.
func TestWatermillSuite(t *testing.T) {
	log.SetOutput(io.Discard) // the suite logs every message
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for _, queueType := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			t.Parallel() // it waits most of the time, for restarts and for nothing to come
			testWatermillSuite(t, queueType)
		})
	}
}

func testWatermillSuite(t *testing.T, queueType amqp.QueueType) {
	node := amqptest.Private(t, amqptest.Options{})
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
	}
	if !raceDetector { // make test runs TestReconnect by itself: it reads what another goroutine of its own has just written
		features.RestartServiceCommand = restarter(t, node)
	}
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		d := connect(t, node.URL, queueType)
		pub := watermill.NewPublisher(d, watermill.ToFanout)
		sub := watermill.NewSubscriber(d, watermill.SubscriberConfig{
			From: watermill.FromGroup(group),
			// The suite closes subscribers with messages in hand that nobody
			// will ever ack.
			CloseTimeout: time.Millisecond,
		})
		if strings.Contains(t.Name(), "/TestReconnect/") {
			return lastOneLate(pub, sub)
		}
		return pub, sub
	}
	tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return inGroup(t, "everybody")
	}, inGroup)
}

// restarter returns a command that restarts node, the first time in order, the
// next by kill -9, and so on. It is this program, which asks us to do so: see
// TestMain.
func restarter(t *testing.T, node *amqptest.Node) []string {
	var one sync.Mutex // at a time: the suite does not wait for the first
	kill := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		one.Lock()
		defer one.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		var err error
		if kill {
			err = errors.Join(node.Flush(ctx), node.Kill())
		} else {
			err = node.Stop(ctx)
		}
		kill = !kill
		if err == nil {
			err = node.Restart(context.Background())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return []string{os.Args[0], restartArg, s.URL}
}
