package amqp

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// theirQueue declares a queue as somebody else would, with the broker's own dead letters.
func theirQueue(t *testing.T, ch *amqp091.Channel, name, deadLetter string, queueType QueueType) {
	t.Helper()
	args := amqp091.Table{"x-queue-type": string(queueType), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": deadLetter}
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
}

func passively(name string) adapters.Source {
	s := fromQueue(name, 10)
	s.Passive = true
	return s
}

// TestFirstDeathIsTheFirst: of a message that goes round between two queues the first death stays
// the one in the first, with the key that it came with, and the last one comes first in the list;
// also if it waited for a delay before all that, and if it was sent again in between.
func TestFirstDeathIsTheFirst(t *testing.T) {
	for _, queueType := range []QueueType{Quorum, Classic} {
		for _, delay := range []time.Duration{0, delayUnit} {
			t.Run(fmt.Sprint(queueType, " ", delay), func(t *testing.T) {
				d, ch := connect(t), plainClient(t, brokerURL(t))
				x, a, b := adapters.Endpoint{Kind: adapters.Topic, Name: unique(t) + ".x"}, unique(t)+".a", unique(t)+".b"
				theirQueue(t, ch, a, b, queueType)
				theirQueue(t, ch, b, a, queueType)
				publish(t, d, adapters.Publication{To: x, Key: "nobody"}, "declares")
				if err := ch.QueueBind(a, "#", x.Name, false, nil); err != nil {
					t.Fatal(err)
				}
				publish(t, d, adapters.Publication{To: x, Key: "first.key", Delay: delay}, "m")

				here, there := a, b
				deaths := map[string]int{}
				sub := subscribe(t, d, passively(here))
				got := receive(t, sub, "m")
				for round := 1; round <= 5; round++ {
					settle(t, got, adapters.Reject)
					if err := sub.Stop(); err != nil {
						t.Fatal(err)
					}
					deaths[here]++
					here, there = there, here
					sub = subscribe(t, d, passively(here))
					got = receive(t, sub, "m")
					want := fmt.Sprintf("%s rejected %d", there, deaths[there])
					if n := deaths[here]; n > 0 {
						want += fmt.Sprintf(", %s rejected %d", here, n)
					}
					m := got.Message.Metadata
					if m[metadataDeaths] != want || m[metadataFirstDeathQueue] != a || m[metadataFirstDeathReason] != "rejected" || got.Key != "first.key" || !got.Died {
						t.Errorf("in round %d it says %v, died %v, key %q; want %q", round, m, got.Died, got.Key, want)
					}
				}
				// Sent again it has not died yet, and knows where it did for the first time.
				p := toQueue(here)
				p.Key, p.Properties = got.Key, got.Properties
				if err := d.Publish(soon(t), p, got.Message); err != nil {
					t.Fatal(err)
				}
				settle(t, got, adapters.Ack)
				got = receive(t, sub, "m")
				if m := got.Message.Metadata; got.Died || m[metadataFirstDeathQueue] != a || got.Key != "first.key" {
					t.Errorf("sent again it says %v, died %v, key %q", m, got.Died, got.Key)
				}
				settle(t, got, adapters.Reject)
				if err := sub.Stop(); err != nil {
					t.Fatal(err)
				}
				got = receive(t, subscribe(t, d, passively(there)), "m")
				if m := got.Message.Metadata; !got.Died || m[metadataDeaths] != here+" rejected 1" || m[metadataFirstDeathQueue] != a || got.Key != "first.key" {
					t.Errorf("dead once more it says %v, died %v, key %q", m, got.Died, got.Key)
				}
				settle(t, got, adapters.Ack)
			})
		}
	}
}

// TestTriesBeginAnewAfterTheBrokersDeath: where the broker itself makes the dead letters, one that
// comes back has all its attempts again, whoever brought it back: an operator who moved it with all
// its headers, or the broker. Those in between, which wait in queues of the broker, count.
func TestTriesBeginAnewAfterTheBrokersDeath(t *testing.T) {
	for _, queueType := range []QueueType{Quorum, Classic} {
		t.Run(string(queueType), func(t *testing.T) {
			d, ch := connect(t), plainClient(t, brokerURL(t))
			jobs, dead := unique(t), unique(t)+".parked"
			theirQueue(t, ch, jobs, dead, queueType)
			theirQueue(t, ch, dead, jobs, queueType)
			q := patterns.NewWorkQueue[patterns.Raw](patterns.New(d), jobs, patterns.Passive())
			tries := make(chan patterns.Delivery, 100)
			_, err := q.Work(context.Background(), func(ctx context.Context, _ patterns.Raw) error {
				this, _ := patterns.DeliveryFrom(ctx)
				tries <- this
				return errors.New("no")
			}, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 1}))
			if err != nil {
				t.Fatal(err)
			}
			send(t, ch, "", jobs, amqp091.Publishing{MessageId: "m"})
			for life := range 3 {
				for try := 1; try <= 3; try++ {
					select {
					case got := <-tries:
						if got.Attempt != try || got.ID != "m" {
							t.Errorf("life %d: attempt %d came as attempt %d", life, try, got.Attempt)
						}
					case <-soon(t).Done():
						t.Fatalf("life %d: no attempt %d", life, try)
					}
				}
				letter := look(t, ch, dead)
				switch life {
				case 0: // moved as a shovel does
					send(t, ch, "", jobs, amqp091.Publishing{Headers: letter.Headers, MessageId: letter.MessageId, Body: letter.Body})
					err = letter.Ack(false)
				case 1: // by the broker
					err = letter.Nack(false, false)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if len(tries) > 0 {
				t.Errorf("one attempt more: %+v", <-tries)
			}
		})
	}
}
