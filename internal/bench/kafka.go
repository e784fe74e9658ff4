package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"
	"golang.org/x/sync/errgroup"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/kafka" // makes kafka: URLs known
	"github.com/motifmq/motif/patterns"
)

// onKafka is what share groups of Kafka can do with Motif, and without: one node, topics of one
// partition.
func onKafka() []Workload {
	publish := Workload{
		Name: "Kafka/publish, window 256", Baseline: "franz-go by hand", Broker: startKafka, Target: Target{Rate: 0.9},
		Messages: 50_000, // the first thousands say little of the rate
		Ours:     motifKafka(false), Theirs: rawKafka(false, false),
	}
	typed := Workload{
		Name: "Kafka/typed, end to end", Baseline: "franz-go and encoding/json by hand", Broker: startKafka, Target: Target{Rate: 1},
		Messages: 20_000, // since Stop waits for the fetch that waits at the broker, a tenth of a second
		Ours:     motifKafka(true), Theirs: rawKafka(true, false),
	}
	return []Workload{publish, labelled(publish, rawKafka(false, true)), typed, labelled(typed, rawKafka(true, true))}
}

// startKafka starts a node, by the command that starts those of the adapter's tests. Its topics go
// with it.
func startKafka(ctx context.Context) (*otherBroker, error) {
	cmd := exec.CommandContext(ctx, "go", "run", "github.com/motifmq/motif/adapters/kafka/internal/node/serve")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // the node ends with it
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &otherBroker{close: func() error { return errors.Join(in.Close(), cmd.Wait()) }}
	if _, err := fmt.Fscanln(bufio.NewReader(out), &b.url, &b.pid); err != nil {
		return nil, errors.Join(fmt.Errorf("the node of Kafka: %w", err), b.close())
	}
	return b, nil
}

func motifKafka(consume bool) Side {
	return func(ctx context.Context, r *Run) error {
		driver, err := adapters.Open(ctx, r.URL)
		if err != nil {
			return err
		}
		bus := patterns.New(driver, patterns.WithCodec(patterns.JSON{}))
		defer bus.Close(ctx)
		queue := patterns.NewWorkQueue[ticket](bus, r.Name)
		if err := queue.Declare(ctx); err != nil {
			return err
		}
		v := newTicket()
		ready, handled := countDown(1), countDown(r.Messages)
		var sub *patterns.Subscription
		if consume {
			handle := func(context.Context, ticket) error {
				if ready.left.Load() > 0 {
					ready.one()
				} else {
					handled.one()
				}
				return nil
			}
			if sub, err = queue.Work(ctx, handle, patterns.Prefetch(window)); err != nil {
				return err
			}
			if err := queue.Send(ctx, v); err != nil {
				return err
			}
			if err := ready.wait(ctx); err != nil { // so that it has joined the group
				return err
			}
		}
		if err := r.Start(); err != nil {
			return err
		}
		err = pipelined(ctx, r.Messages, window, func(int) (*patterns.Receipt, error) { return queue.SendAsync(ctx, v) })
		if err == nil && consume {
			if err = handled.wait(ctx); err == nil {
				err = sub.Stop(ctx)
			}
		}
		r.Stop()
		return err
	}
}

// rawKafka promises the same: a message is published once all replicas have it, in order and once
// (kgo's default), and handled once it was acknowledged, by itself, in a share group; no more than
// the window is in hand (strict).
func rawKafka(consume, labels bool) Side {
	return func(ctx context.Context, r *Run) error {
		publishing, err := dialKafka(r.URL, kgo.DefaultProduceTopic(r.Name), kgo.ProducerLinger(0))
		if err != nil {
			return err
		}
		defer publishing.Close()
		if _, err := kadm.NewClient(publishing).CreateTopic(ctx, 1, 1, nil, r.Name); err != nil {
			return err
		}
		v := newTicket()
		var consuming *kgo.Client
		if consume {
			if err := fromTheBeginning(ctx, publishing, r.Name); err != nil {
				return err
			}
			if consuming, err = dialKafka(r.URL, kgo.ShareGroup(r.Name), kgo.ConsumeTopics(r.Name), kgo.ShareMaxRecords(window), kgo.ShareMaxRecordsStrict()); err != nil {
				return err
			}
			defer consuming.Close()
			if err := publishing.ProduceSync(ctx, kgo.StringRecord("{}")).FirstErr(); err != nil {
				return err
			}
			if err := handleKafka(ctx, consuming, 1); err != nil { // so that it has joined the group
				return err
			}
		}
		if err := r.Start(); err != nil {
			return err
		}
		var group errgroup.Group
		if consume {
			group.Go(func() error { return handleKafka(ctx, consuming, r.Messages) })
		}
		group.Go(func() error {
			results := make(chan error, window)
			for i := range r.Messages + window {
				if i >= window {
					if err := <-results; err != nil {
						return err
					}
				}
				if i >= r.Messages {
					continue
				}
				body, err := json.Marshal(v)
				if err != nil {
					return err
				}
				record := &kgo.Record{Value: body}
				if labels {
					record.Headers = []kgo.RecordHeader{
						{Key: "Id", Value: []byte(nuid.Next())},
						{Key: "Content-Type", Value: []byte("application/json")},
						{Key: "Timestamp", Value: []byte(time.Now().Format(time.RFC3339Nano))},
					}
				}
				publishing.Produce(ctx, record, func(_ *kgo.Record, err error) { results <- err })
			}
			return nil
		})
		err = group.Wait()
		r.Stop()
		return err
	}
}

// fromTheBeginning has a share group begin with what waits already.
func fromTheBeginning(ctx context.Context, client *kgo.Client, group string) error {
	earliest := "earliest"
	r := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{
		ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: group,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "share.auto.offset.reset", Value: &earliest}},
	}}
	_, err := r.RequestWith(ctx, client)
	return err
}

func handleKafka(ctx context.Context, consuming *kgo.Client, n int) error {
	for n > 0 {
		fetches := consuming.PollRecords(ctx, window)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			var v ticket
			if err := json.Unmarshal(record.Value, &v); err != nil {
				return err
			}
			record.Ack(kgo.AckAccept)
			n--
		}
	}
	return consuming.FlushAcks(ctx)
}

func dialKafka(address string, opts ...kgo.Opt) (*kgo.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	password, _ := u.User.Password()
	login := saslplain.Auth{User: u.User.Username(), Pass: password}
	return kgo.NewClient(append(opts, kgo.SeedBrokers(u.Host), kgo.SASL(login.AsMechanism()))...)
}
