package watermill_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/adapters/watermill"
)

// TestNothingIsLostThroughRestarts is watermill's TestReconnect without its race.
func TestNothingIsLostThroughRestarts(t *testing.T) {
	const publishers, each = 20, 200
	broker := memory.New()
	t.Cleanup(broker.Close)
	driver := broker.Connect()
	t.Cleanup(func() { closeDriver(t, driver) })
	pub := watermill.NewPublisher(driver, watermill.ToFanout)
	sub := watermill.NewSubscriber(driver, watermill.SubscriberConfig{From: watermill.FromGroup("everybody")})
	msgs, err := sub.Subscribe(t.Context(), "topic")
	if err != nil {
		t.Fatal(err)
	}
	for p := range publishers {
		go func() {
			for i := range each {
				if err := pub.Publish("topic", message.NewMessage(fmt.Sprintf("%d.%d", p, i), nil)); err != nil {
					t.Errorf("message %d.%d: %v", p, i, err)
				}
			}
		}()
	}
	got := map[string]bool{}
	again := 0
	for late := time.After(time.Minute); len(got) < publishers*each; {
		select {
		case m := <-msgs:
			if len(got)%(publishers*each/10) == 5 && !got[m.UUID] {
				broker.Restart() // with m in hand
			}
			if got[m.UUID] {
				again++
			}
			got[m.UUID] = true
			m.Ack()
		case <-late:
			t.Fatalf("%d of %d messages came", len(got), publishers*each)
		}
	}
	if again != 10 {
		t.Errorf("%d messages came again after 10 restarts with one in hand", again)
	}
}
