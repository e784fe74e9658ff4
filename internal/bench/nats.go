package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"github.com/motifmq/motif/adapters"
	_ "github.com/motifmq/motif/adapters/jetstream" // makes nats: URLs known
	"github.com/motifmq/motif/patterns"
)

// onNATS is what JetStream can do with Motif, and without: one server, streams on disk.
func onNATS() []Workload {
	publish := Workload{
		Name: "JetStream/publish, window 256", Baseline: "nats.go by hand", Broker: startNATS, Target: Target{Rate: 0.9},
		Ours: motifNATS(false), Theirs: rawNATS(false, false),
	}
	typed := Workload{
		Name: "JetStream/typed, end to end", Baseline: "nats.go and encoding/json by hand", Broker: startNATS, Target: Target{Rate: 1},
		Ours: motifNATS(true), Theirs: rawNATS(true, false),
	}
	return []Workload{publish, labelled(publish, rawNATS(false, true)), typed, labelled(typed, rawNATS(true, true))}
}

// labelled is w beside one whose messages say what they are, as Motif's do: that costs client and
// server something whoever says it.
func labelled(w Workload, theirs Side) Workload {
	w.Baseline, w.Theirs, w.Target, w.Limit = w.Baseline+", with id, time and content type", theirs, Target{}, true
	return w
}

// startNATS starts a server in a process of its own.
func startNATS(ctx context.Context) (*otherBroker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "motif-bench")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-side", serveSide)
	cmd.Dir, cmd.Stderr = folder, os.Stderr
	in, err := cmd.StdinPipe() // the server ends with it
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
	url, err := bufio.NewReader(out).ReadString('\n')
	b := &otherBroker{url: strings.TrimSpace(url), pid: cmd.Process.Pid, close: func() error {
		return errors.Join(in.Close(), cmd.Wait(), os.RemoveAll(folder))
	}}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server of NATS: %w", err), b.close())
	}
	return b, nil
}

// serveNATS is a server in the current folder. It says where it is, and ends with its input.
func serveNATS() error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: ".", NoLog: true, NoSigs: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the server of NATS does not start")
	}
	fmt.Println(s.ClientURL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func motifNATS(consume bool) Side {
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
		handled := countDown(r.Messages)
		var sub *patterns.Subscription
		if consume {
			handle := func(context.Context, ticket) error { handled.one(); return nil }
			if sub, err = queue.Work(ctx, handle, patterns.Prefetch(window)); err != nil {
				return err
			}
		}
		v := newTicket()
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
		for _, q := range []string{r.Name, r.Name + ".dead"} {
			err = errors.Join(err, driver.(adapters.Inspector).Delete(ctx, q, 0))
		}
		return err
	}
}

// rawNATS promises the same: a message is published once the stream has it, and handled once it was
// acknowledged.
func rawNATS(consume, labels bool) Side {
	return func(ctx context.Context, r *Run) error {
		publishing, err := dialNATS(r.URL, jetstream.WithPublishAsyncMaxPending(window))
		if err != nil {
			return err
		}
		defer publishing.Conn().Close()
		stream, err := publishing.CreateStream(ctx, jetstream.StreamConfig{Name: r.Name, Subjects: []string{r.Name}, Retention: jetstream.WorkQueuePolicy})
		if err != nil {
			return err
		}
		work := jetstream.ConsumerConfig{Durable: "work", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: window, MaxDeliver: -1}
		if _, err := stream.CreateConsumer(ctx, work); err != nil {
			return err
		}
		v := newTicket()
		if err := r.Start(); err != nil {
			return err
		}
		var group errgroup.Group
		if consume {
			consuming, err := dialNATS(r.URL)
			if err != nil {
				return err
			}
			defer consuming.Conn().Close()
			consumer, err := consuming.Consumer(ctx, r.Name, work.Durable)
			if err != nil {
				return err
			}
			messages, err := consumer.Messages(jetstream.PullMaxMessages(window))
			if err != nil {
				return err
			}
			defer messages.Stop()
			group.Go(func() error {
				for range r.Messages {
					m, err := messages.Next()
					if err != nil {
						return err
					}
					var v ticket
					if err := json.Unmarshal(m.Data(), &v); err != nil {
						return err
					}
					if err := m.Ack(); err != nil {
						return err
					}
				}
				return consuming.Conn().FlushWithContext(ctx)
			})
		}
		group.Go(func() error {
			flying := make([]jetstream.PubAckFuture, window)
			for i := range r.Messages + window {
				if f := flying[i%window]; f != nil {
					select {
					case <-f.Ok():
					case err := <-f.Err():
						return err
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				flying[i%window] = nil
				if i >= r.Messages {
					continue
				}
				body, err := json.Marshal(v)
				if err != nil {
					return err
				}
				m := &nats.Msg{Subject: r.Name, Data: body}
				if labels {
					m.Header = nats.Header{
						"Id": {nuid.Next()}, "Content-Type": {"application/json"}, "Timestamp": {time.Now().Format(time.RFC3339Nano)},
					}
				}
				if flying[i%window], err = publishing.PublishMsgAsync(m); err != nil {
					return err
				}
			}
			return nil
		})
		err = group.Wait()
		r.Stop()
		return errors.Join(err, publishing.DeleteStream(ctx, r.Name))
	}
}

func dialNATS(url string, opts ...jetstream.JetStreamOpt) (jetstream.JetStream, error) {
	conn, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	return jetstream.New(conn, opts...)
}
