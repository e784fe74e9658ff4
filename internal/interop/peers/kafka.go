package peers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/IBM/sarama"
	wm "github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/rcrowley/go-metrics"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/watermill"
	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
	"github.com/motifmq/motif/internal/kafkatest"
)

// WatermillKafka is watermill-kafka as its documentation shows it, with what that says: Publish
// waits for Kafka's acknowledgement, messages survive a restart, and the members of a consumer
// group share the messages of a topic. A topic has one partition, so that it keeps its order. The
// version of the protocol is set, because Kafka 4 does not speak the default one.
func WatermillKafka(node *kafkatest.Node) conformancetest.Adapter {
	metrics.NewMeter().Stop() // starts the one goroutine that sarama's metrics have in a process
	const claims = adapters.CanConfirm | adapters.CanPersist
	return conformancetest.Adapter{
		Name: "watermill-kafka",
		About: fmt.Sprintf("watermill-kafka %s on the same Kafka: a consumer group for each queue and each group, from the oldest offset on, topics of one partition, through adapters/watermill, with the claims of its documentation.",
			version("github.com/ThreeDotsLabs/watermill-kafka/v3")),
		Features:  adapters.Features{Adapter: "watermill-kafka", Ability: claims | adapters.CanFanout | adapters.CanGroup},
		Notes:     watermillKafkaNotes,
		Sometimes: watermillKafkaSometimes,
		Open: func(context.Context) (*conformance.Harness, error) {
			u, err := url.Parse(node.URL)
			if err != nil {
				return nil, err
			}
			password, _ := u.User.Password()
			w := &wires{}
			return &conformance.Harness{
				Connect: func(context.Context) (adapters.Driver, error) { return connectWatermillKafka(u, w, claims) },
				Cut:     w.cut,
				Restart: node.Kill,
				Secret:  password,
			}, nil
		},
	}
}

func connectWatermillKafka(u *url.URL, w *wires, claims adapters.Ability) (_ adapters.Driver, err error) {
	configure := func(c *sarama.Config) *sarama.Config {
		c.Version = sarama.V3_6_0_0
		c.Net.SASL.Enable, c.Net.SASL.User = true, u.User.Username()
		c.Net.SASL.Password, _ = u.User.Password()
		c.Net.Proxy.Enable, c.Net.Proxy.Dialer = true, w
		return c
	}
	brokers := []string{u.Host}
	var clients opened
	defer func() { clients.closeIf(&err) }()
	publisher, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
		Brokers: brokers, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: configure(wmkafka.DefaultSaramaSyncPublisherConfig()),
	}, wm.NopLogger{})
	if err != nil {
		return nil, err
	}
	clients = append(clients, publisher)
	subscriber := func(group string) (*wmkafka.Subscriber, error) {
		c := configure(wmkafka.DefaultSaramaSubscriberConfig())
		if group != "" {
			c.Consumer.Offsets.Initial = sarama.OffsetOldest
		}
		return wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
			Brokers: brokers, Unmarshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: c, ConsumerGroup: group,
			InitializeTopicDetails: &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1},
		}, wm.NopLogger{})
	}
	topics, err := subscriber("")
	if err != nil {
		return nil, err
	}
	clients = append(clients, topics)
	each := func(group func(topic string) string) *subscribers {
		return &subscribers{
			made: map[string]*wmkafka.Subscriber{},
			open: func(topic string) (*wmkafka.Subscriber, error) { return subscriber(group(topic)) },
			joined: func(ctx context.Context, topic string) error {
				admin, err := sarama.NewClusterAdmin(brokers, configure(wmkafka.DefaultSaramaSubscriberConfig()))
				if err != nil {
					return err
				}
				return errors.Join(awaitGroup(ctx, admin, group(topic)), admin.Close())
			},
		}
	}
	d, err := watermill.NewDriver(watermill.Config{
		Adapter: "watermill-kafka", Publisher: creating{publisher, topics}, Competing: true, Claim: claims,
		Subscriber: each(func(topic string) string { return topic }),
		Fanout:     each(func(string) string { return "" }),
		Groups: func(group string) (message.Subscriber, error) {
			return each(func(topic string) string { return topic + ":" + group }), nil
		},
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// creating has a topic made before it publishes, as brokers do by default. Ours does not.
type creating struct {
	*wmkafka.Publisher
	topics *wmkafka.Subscriber
}

func (c creating) Publish(topic string, msgs ...*message.Message) error {
	if err := c.topics.SubscribeInitialize(topic); err != nil {
		return err
	}
	return c.Publisher.Publish(topic, msgs...)
}

func (c creating) Close() error { return errors.Join(c.Publisher.Close(), c.topics.Close()) }

// subscribers have a subscriber for each topic, which makes the topic first. If they were one
// consumer group, whoever comes or goes would interrupt all of them.
type subscribers struct {
	open   func(topic string) (*wmkafka.Subscriber, error)
	joined func(ctx context.Context, topic string) error

	mu   sync.Mutex
	made map[string]*wmkafka.Subscriber
}

func (s *subscribers) of(topic string) (*wmkafka.Subscriber, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made[topic] == nil {
		made, err := s.open(topic)
		if err != nil {
			return nil, err
		}
		s.made[topic] = made
	}
	return s.made[topic], nil
}

// SubscribeInitialize implements message.SubscribeInitializer.
func (s *subscribers) SubscribeInitialize(topic string) error {
	subscriber, err := s.of(topic)
	if err != nil {
		return err
	}
	return subscriber.SubscribeInitialize(topic)
}

func (s *subscribers) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if err := s.SubscribeInitialize(topic); err != nil {
		return nil, err
	}
	subscriber, err := s.of(topic)
	if err != nil {
		return nil, err
	}
	messages, err := subscriber.Subscribe(ctx, topic)
	if err == nil {
		err = s.joined(ctx, topic)
	}
	return messages, err
}

// awaitGroup waits until the broker has dealt out what a consumer group reads, which takes seconds
// when it begins: the suite does not wait so long for what is left in a queue.
func awaitGroup(ctx context.Context, admin sarama.ClusterAdmin, group string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for group != "" && ctx.Err() == nil {
		found, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return err
		}
		if len(found) == 1 && found[0].State == "Stable" {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil // it is a subscription all the same
}

func (s *subscribers) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, subscriber := range s.made {
		errs = append(errs, subscriber.Close())
	}
	return errors.Join(errs...)
}
