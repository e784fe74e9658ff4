// Package inprocess has no code, only the test that watermill's own test suite passes in process.
package inprocess

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/internal/leaktest"
)

// restartArg makes this program ask another for a restart of its broker, at the address that comes
// next.
const restartArg = "-restart-broker"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == restartArg {
		answer, err := http.Get("http://" + os.Args[2]) //nolint:noctx // a test's, to itself
		if err != nil || answer.StatusCode != http.StatusOK {
			log.Fatal("no restart: ", answer, err)
		}
		return
	}
	// watermill's TestReconnect leaves a goroutine that reads from a channel that nobody closes.
	leaktest.Main(m, "github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2")
}

// TestWatermillSuite runs watermill's own test suite on the memory adapter,
// through the door, with the strongest features a RabbitMQ could claim. Not
// claimed are: ExactlyOnceDelivery; NewSubscriberReceivesOldMessages, which means
// messages that the group has consumed already; ContextPreserved, for a context does
// not travel; order over several subscribers, who compete. TestReconnect
// reads what a goroutine of its own still writes, so that the race detector fails it:
// with that, TestNothingIsLostThroughRestarts of adapters/watermill has to do.
func TestWatermillSuite(t *testing.T) {
	log.SetOutput(io.Discard) // the suite logs every message
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	broker := memory.New()
	t.Cleanup(broker.Close)
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
	}
	if !raceDetected() {
		features.RestartServiceCommand = restarter(t, broker)
	}
	inGroup := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		return pair(t, broker.Connect(), watermill.ToFanout, watermill.FromGroup(group))
	}
	t.Run("group", func(t *testing.T) {
		tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
			return inGroup(t, "everybody")
		}, inGroup)
	})
	t.Run("queue", func(t *testing.T) {
		features := features
		features.ConsumerGroups = false // the consumers of a queue are one group
		tests.TestPubSub(t, features, func(t *testing.T) (message.Publisher, message.Subscriber) {
			return pair(t, broker.Connect(), watermill.ToQueue, watermill.FromQueue)
		}, nil)
	})
}

// pair returns both ends of a door of their own to driver, which is closed
// with the test. The suite closes subscribers with messages in hand that nobody will
// ever ack: it needs no time for that.
func pair(t *testing.T, driver adapters.Driver, to func(string) adapters.Publication, from func(string) adapters.Source) (message.Publisher, message.Subscriber) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := driver.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return watermill.NewPublisher(driver, to),
		watermill.NewSubscriber(driver, watermill.SubscriberConfig{From: from, CloseTimeout: time.Millisecond})
}

// restarter returns a command that restarts broker. It is this program, which
// asks us to do so: see TestMain.
func restarter(t *testing.T, broker *memory.Broker) []string {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { broker.Restart() }))
	t.Cleanup(s.Close)
	return []string{os.Args[0], restartArg, s.Listener.Addr().String()}
}

// raceDetected reports whether this program has the race detector.
func raceDetected() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
