package watermill_test

import (
	"io"
	"log"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestWatermillSuite runs watermill's own test suite on the memory adapter,
// through the door, with the strongest features a RabbitMQ could claim. Not
// claimed are: ExactlyOnceDelivery; NewSubscriberReceivesOldMessages, which means
// messages that the group has consumed already; ContextPreserved, for a context does
// not travel; order over several subscribers, who compete. TestReconnect needs a
// command that restarts a broker: there is no process to restart.
func TestWatermillSuite(t *testing.T) {
	log.SetOutput(io.Discard) // the suite logs every message
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	features := tests.Features{
		ConsumerGroups:                      true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
		Persistent:                          true,
	}
	broker := memory.New()
	t.Cleanup(broker.Close)
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
	t.Cleanup(func() { closeDriver(t, driver) })
	return watermill.NewPublisher(driver, to),
		watermill.NewSubscriber(driver, watermill.SubscriberConfig{From: from, CloseTimeout: time.Millisecond})
}
