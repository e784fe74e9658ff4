package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// Of two brokers to which the same happens one is browsed all the time: nobody else notices, and
// what it shows first is what is taken first.
func TestBrowseChangesNothingWhateverHappens(t *testing.T) {
	for _, version := range []memory.Version{memory.RabbitMQ310, memory.RabbitMQ40, memory.RabbitMQ43} {
		for seed := range uint64(30) {
			synctest.Test(t, func(t *testing.T) { browseRandomly(t, memory.RabbitMQ(version), rand.New(rand.NewPCG(seed, 7))) })
		}
	}
}

func browseRandomly(t *testing.T, version memory.Option, r *rand.Rand) {
	type side struct {
		broker *memory.Broker
		client *memory.Client
		held   []adapters.Delivery
	}
	var sides [2]*side
	src := adapters.Source{Endpoint: adapters.Endpoint{Name: "q"}, Queue: adapters.QueueSpec{MaxPriority: 4 * uint8(r.IntN(2))}}
	for i := range sides {
		b := memory.New(version)
		sides[i] = &side{broker: b, client: b.Connect()}
		defer b.Close()
		if err := sides[i].client.Declare(t.Context(), src); err != nil {
			t.Fatal(err)
		}
	}
	for step := range 120 {
		op, n, prio, ttl := r.IntN(10), r.IntN(8), uint8(r.IntN(5)), time.Duration(r.IntN(3))*time.Second
		var did [2]string
		for i, s := range sides {
			if _, err := s.client.Inspect(t.Context(), "q"); err != nil { // which lets expire what is to
				t.Fatal(err)
			}
			browsed := ""
			if i == 1 {
				found, err := s.client.Browse(t.Context(), "q", 1+n)
				if err != nil {
					t.Fatal(err)
				}
				if len(found) > 0 {
					browsed = found[0].Message.UUID
				}
			}
			switch {
			case op < 5:
				p := adapters.Publication{To: src.Endpoint}
				p.TTL, p.Priority = ttl, prio*2
				did[i] = fmt.Sprint(s.client.Publish(context.Background(), p, message.NewMessage(fmt.Sprint(step), []byte("x"))))
			case op < 8:
				d, err := s.client.Get(t.Context(), src)
				if err != nil {
					did[i] = err.Error()
					break
				}
				did[i] = fmt.Sprint("got ", d.Message.UUID, d.Redelivered, d.Returned, d.Remaining)
				if i == 1 && d.Message.UUID != browsed {
					t.Fatalf("step %d: took %s, browsed %s", step, d.Message.UUID, browsed)
				}
				s.held = append(s.held, d)
			case len(s.held) > 0:
				k := n % len(s.held)
				did[i] = fmt.Sprint(s.held[k].Settle(t.Context(), adapters.Outcome(prio%2)))
				s.held = append(s.held[:k], s.held[k+1:]...)
			}
			info, err := s.client.Inspect(t.Context(), "q")
			did[i] += fmt.Sprint(info.Ready, info.Unacked, err)
		}
		if did[0] != did[1] {
			t.Fatalf("step %d, operation %d: %s, and browsed: %s", step, op, did[0], did[1])
		}
		if op == 9 {
			time.Sleep(ttl / 2)
		}
	}
}
