package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
)

// topics returns all texts of up to most words out of {a, b, "", *, #}.
func topics(most int) []string {
	words := []string{"a", "b", "", "*", "#"}
	all, longest := []string{""}, words
	for range most {
		all = append(all, longest...)
		var longer []string
		for _, prefix := range longest {
			for _, word := range words {
				longer = append(longer, prefix+"."+word)
			}
		}
		longest = longer
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestTopicsExhaustively publishes each text of up to four words as a key, to
// queues that are each bound with one of them as the pattern, and compares
// what RabbitMQ does with MatchTopic and the in-process broker.
func TestTopicsExhaustively(t *testing.T) {
	keys := topics(4)
	patterns := slices.DeleteFunc(topics(4), func(p string) bool { return adapters.ValidatePattern(p) != nil })
	if len(keys) != 780 || len(patterns) < 700 {
		t.Fatalf("%d keys, %d patterns", len(keys), len(patterns))
	}
	onRabbitMQ := matchedByRabbitMQ(t, patterns, keys)
	inProcess := matchedInProcess(t, patterns, keys)
	pairs := 0
	for _, pattern := range patterns {
		var want []string
		for _, key := range keys {
			if adapters.MatchTopic(pattern, key) {
				want = append(want, key)
			}
		}
		pairs += len(want)
		if !slices.Equal(onRabbitMQ[pattern], want) {
			t.Errorf("pattern %q: MatchTopic matches %q, RabbitMQ %q", pattern, want, onRabbitMQ[pattern])
		}
		if !slices.Equal(inProcess[pattern], want) {
			t.Errorf("pattern %q: MatchTopic matches %q, the in-process broker %q", pattern, want, inProcess[pattern])
		}
	}
	t.Logf("%d patterns, %d keys, %d of %d pairs match", len(patterns), len(keys), pairs, len(patterns)*len(keys))
}

// matchedByRabbitMQ returns the keys that reached each pattern's queue, in the
// order of publishing. After the last key comes a message for every queue, so that
// nothing is missed.
func matchedByRabbitMQ(t *testing.T, patterns, keys []string) map[string][]string {
	t.Helper()
	conn, err := amqp091.Dial(amqptest.Shared(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ch, err := conn.Channel()
	must(err)
	must(ch.ExchangeDeclare("top", "topic", false, false, false, false, nil))
	must(ch.ExchangeDeclare("end", "fanout", false, false, false, false, nil))
	received := make(map[string]<-chan amqp091.Delivery)
	for i, pattern := range patterns {
		queue := fmt.Sprint("q", i)
		_, err := ch.QueueDeclare(queue, false, false, true, false, nil)
		must(err)
		must(ch.QueueBind(queue, adapters.NormalPattern(pattern), "top", true, nil))
		must(ch.QueueBind(queue, "", "end", true, nil))
		received[pattern], err = ch.Consume(queue, "", true, true, false, false, nil)
		must(err)
	}
	for _, key := range keys {
		must(ch.PublishWithContext(t.Context(), "top", key, false, false, amqp091.Publishing{MessageId: "key"}))
	}
	must(ch.PublishWithContext(t.Context(), "end", "", false, false, amqp091.Publishing{}))
	matched := make(map[string][]string)
	deadline := time.After(2 * time.Minute)
	for pattern, deliveries := range received {
		for more := true; more; {
			select {
			case d := <-deliveries:
				if more = d.MessageId == "key"; more {
					matched[pattern] = append(matched[pattern], d.RoutingKey)
				}
			case <-deadline:
				t.Fatalf("pattern %q: the last message does not come", pattern)
			}
		}
	}
	return matched
}

// matchedInProcess is the same on the in-process broker.
func matchedInProcess(t *testing.T, patterns, keys []string) map[string][]string {
	t.Helper()
	b := memory.New()
	defer b.Close()
	c := b.Connect()
	to := adapters.Endpoint{Kind: adapters.Topic, Name: "top"}
	subs := make(map[string]adapters.Subscription)
	for _, pattern := range patterns {
		sub, err := c.Subscribe(t.Context(), adapters.Source{Endpoint: to, Keys: []string{pattern}, Prefetch: len(keys)})
		if err != nil {
			t.Fatal(err)
		}
		subs[pattern] = sub
	}
	for _, key := range keys {
		if err := c.Publish(t.Context(), adapters.Publication{To: to, Key: key}, message.NewMessage("key", nil)); err != nil {
			t.Fatal(err)
		}
	}
	matched := make(map[string][]string)
	for pattern, sub := range subs {
		q, _ := b.Queue(sub.Address())
		for range q.Unacked {
			d, err := sub.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			matched[pattern] = append(matched[pattern], d.Key)
		}
	}
	return matched
}

func TestTopics(t *testing.T) {
	if got := topics(1); !slices.Equal(got, []string{"", "#", "*", "a", "b"}) {
		t.Errorf("of one word: %q", got)
	}
	words := make(map[int]int)
	for _, topic := range topics(4) {
		words[strings.Count(topic, ".")]++
	}
	if want := map[int]int{0: 5, 1: 25, 2: 125, 3: 625}; !maps.Equal(words, want) {
		t.Errorf("by dots: %v, want %v", words, want)
	}
}
