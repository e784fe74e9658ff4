package amqp

import (
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// TestCompareFindsEveryDifference: though RabbitMQ names only the first one each time.
func TestCompareFindsEveryDifference(t *testing.T) {
	d := connect(t, func(c *Config) { c.QueueType = Quorum })
	for name, x := range map[string]struct {
		args       amqp091.Table
		autoDelete bool
		spec       adapters.QueueSpec
		want       []string // properties
	}{
		"same":           {amqp091.Table{"x-queue-type": "quorum", "x-delivery-limit": deliveryLimit}, false, adapters.QueueSpec{}, nil},
		"type":           {amqp091.Table{"x-queue-type": "classic"}, false, adapters.QueueSpec{}, []string{"x-queue-type"}},
		"no type":        {nil, false, adapters.QueueSpec{}, []string{"x-queue-type"}},
		"limit and type": {amqp091.Table{"x-max-length": 9, "x-overflow": "drop-head"}, false, adapters.QueueSpec{MessageTTL: time.Minute}, []string{"x-queue-type", "x-message-ttl", "x-max-length", "x-overflow"}},
		"dead letters":   {amqp091.Table{"x-queue-type": "quorum", "x-delivery-limit": deliveryLimit, "x-dead-letter-exchange": "it's"}, false, adapters.QueueSpec{}, []string{"x-dead-letter-exchange"}},
		"auto-delete":    {amqp091.Table{"x-queue-type": "classic"}, true, adapters.QueueSpec{}, []string{"auto_delete", "x-queue-type"}},
		"a long name":    {amqp091.Table{"x-queue-type": "classic"}, false, adapters.QueueSpec{}, []string{"x-queue-type"}},
	} {
		t.Run(name, func(t *testing.T) {
			queue := t.Name() + "'s"
			if name == "a long name" {
				queue += strings.Repeat("x", 120)
			}
			err := d.Do(soon(t), func(ch *amqp091.Channel) error {
				_, err := ch.QueueDeclare(queue, true, x.autoDelete, false, false, x.args)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			found, err := d.Compare(soon(t), adapters.Endpoint{Kind: adapters.Queue, Name: queue}, x.spec)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, difference := range found {
				got[difference.Property] = true
			}
			for _, want := range x.want {
				if !got[want] {
					t.Errorf("%s differs, too", want)
				}
			}
			if len(found) != len(x.want) {
				t.Errorf("it differs in %v", found)
			}
			again, err := d.Compare(soon(t), adapters.Endpoint{Kind: adapters.Queue, Name: queue}, x.spec)
			if err != nil || len(again) != len(found) {
				t.Errorf("the second time it differs in %v: %v", again, err)
			}
		})
	}
}
