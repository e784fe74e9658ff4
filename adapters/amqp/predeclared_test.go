package amqp

import (
	"context"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestPredeclaredExchanges: those that every broker has, with a group and without, and by those who
// publish to them without Motif.
func TestPredeclaredExchanges(t *testing.T) {
	d, raw := connect(t), plainClient(t, brokerURL(t))
	for name, bus := range map[string]*patterns.Bus{"RabbitMQ": patterns.New(d), "memory": patterns.New(memory.New().Connect())} {
		t.Run(name, func(t *testing.T) {
			defer bus.Close(ctx)
			got := make(chan string, 10)
			handler := func(as string) patterns.Handler[string] {
				return func(ctx context.Context, s string) error {
					d, _ := patterns.DeliveryFrom(ctx)
					got <- as + " " + s + " " + d.Key
					return nil
				}
			}
			news, levels, all := patterns.NewTopic[string](bus, "amq.topic"), patterns.NewRouted[string](bus, "amq.direct"), patterns.NewPubSub[string](bus, "amq.fanout")
			must := func(_ *patterns.Subscription, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(news.Subscribe(ctx, []string{"a.#"}, handler("topic"), patterns.Group(unique(t))))
			must(levels.Subscribe(ctx, []string{"k"}, handler("direct")))
			must(all.Subscribe(ctx, handler("fanout"), patterns.Group(unique(t))))
			must(nil, news.Publish(soon(t), "a.b", "1"))
			must(nil, levels.Publish(soon(t), "k", "2"))
			must(nil, all.Publish(soon(t), "3"))
			want := map[string]bool{"topic 1 a.b": true, "direct 2 k": true, "fanout 3 ": true}
			if name == "RabbitMQ" {
				want["topic 4 a.c"] = true
				send(t, raw, "amq.topic", "a.c", amqp091.Publishing{Body: []byte(`"4"`)})
			}
			for len(want) > 0 {
				select {
				case s := <-got:
					if !want[s] {
						t.Errorf("came: %q", s)
					}
					delete(want, s)
				case <-soon(t).Done():
					t.Fatalf("did not come: %v", want)
				}
			}
		})
	}
}
