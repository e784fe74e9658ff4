package memory

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// The table of what is unique is bounded: it refuses, rather than forget too early, and is smaller
// again when times are over.
func TestUniqueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		defer b.Close()
		c := b.Connect()
		to := adapters.Endpoint{Kind: adapters.Fanout, Name: "nobody listens"}
		send := func(n int, d time.Duration) error {
			return c.Publish(t.Context(), adapters.Publication{To: to, UniqueFor: d}, message.NewMessage(fmt.Sprint(n), nil))
		}
		for i := range maxUnique - 1 {
			if err := send(i, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if err := send(-1, time.Minute); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "one more", send(-2, time.Hour), adapters.ErrNacked)
		if err := send(5, time.Hour); err != nil {
			t.Errorf("one that is known: %v", err)
		}
		time.Sleep(time.Minute)
		if err := send(-2, time.Hour); err != nil {
			t.Errorf("when there is room: %v", err)
		}
		time.Sleep(time.Hour)
		if err := send(-3, time.Hour); err != nil || len(b.unique.until) > 1 {
			t.Errorf("when all are over: %v, %d are known", err, len(b.unique.until))
		}
	})
}

// What is unique stays so through a restart.
func TestUniqueThroughRestart(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 10))
	p := toQueue("q")
	p.UniqueFor = time.Hour
	publish(t, c, p, "a")
	settle(t, receive(t, sub, "a"), adapters.Ack)
	b.Restart()
	publish(t, c, p, "a")
	nothing(t, sub)
}
