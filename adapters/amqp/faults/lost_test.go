package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

// exitsOn is the message for which the handler of a child in this role ends the process. It says
// of each message that it has it.
const exitsOn = "poison"

type handled struct {
	ID   string
	Lost int
}

func workUntilPoisoned(ctx context.Context, bus *patterns.Bus, task childTask) error {
	opts := []patterns.WorkOption{patterns.Workers(task.Workers), patterns.Prefetch(4 * task.Workers)}
	if task.Ordered {
		opts = append(opts, patterns.OrderBy(keyOf))
	}
	var mu sync.Mutex
	_, err := patterns.NewWorkQueue[string](bus, task.Queue).Work(ctx, func(ctx context.Context, _ string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		mu.Lock()
		defer mu.Unlock()
		err := json.NewEncoder(os.Stdout).Encode(handled{d.ID, d.Lost})
		if d.ID == exitsOn {
			os.Exit(3)
		}
		return err
	}, opts...)
	return err
}

// keepAlive starts the child again and again, as whoever runs a service does, until ctx ends, and
// calls tell with what it says.
func keepAlive(ctx context.Context, t *testing.T, task childTask, tell func(handled)) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), roleVar+"=exits")
		in, out, err := bothPipes(cmd)
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			err = json.NewEncoder(in).Encode(task)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("starting a child: %v", err)
			}
			return
		}
		for lines := json.NewDecoder(out); ; {
			var h handled
			if lines.Decode(&h) != nil {
				break
			}
			tell(h)
		}
		_ = cmd.Wait() // it exits, or is killed
	}
}

// whileMoving returns a ctx that ends when step has not been called for longer than anything takes:
// a busy machine takes its time, and goes on.
func whileMoving(t *testing.T) (ctx context.Context, step func()) {
	const still = 90 * time.Second
	ctx, cancel := context.WithCancelCause(t.Context())
	timer := time.AfterFunc(still, func() { cancel(fmt.Errorf("nothing has moved for %v", still)) })
	t.Cleanup(func() {
		timer.Stop()
		cancel(nil)
	})
	return ctx, func() { timer.Reset(still) }
}

func bothPipes(cmd *exec.Cmd) (in io.Writer, out io.Reader, err error) {
	if in, err = cmd.StdinPipe(); err == nil {
		out, err = cmd.StdoutPipe()
	}
	return in, out, err
}

// TestHandlerThatExits: a message whose handler ends the process goes to the dead letters after
// the default limit, and what was in the same hands does not.
func TestHandlerThatExits(t *testing.T) {
	t.Parallel()
	const good, queue = 40, "jobs"
	for _, kind := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			url := amqptest.Shared(t).URL + "?queue_type=" + string(kind)
			ctx, step := whileMoving(t)
			bus, err := patterns.Open(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[string](bus, queue)
			for i := range good {
				if i == 1 {
					err = jobs.Send(ctx, "", patterns.MessageID(exitsOn))
				}
				if err = errors.Join(err, jobs.Send(ctx, "", patterns.MessageID(id("good", i)))); err != nil {
					t.Fatal(err)
				}
				step()
			}

			var mu sync.Mutex
			var losses []int
			ran := map[string]bool{}
			allRan := make(chan struct{})
			living, kill := context.WithCancel(ctx)
			defer kill()
			var supervisor sync.WaitGroup
			supervisor.Go(func() {
				keepAlive(living, t, childTask{URL: url, Queue: queue, Workers: 4}, func(h handled) {
					mu.Lock()
					defer mu.Unlock()
					step()
					if h.ID == exitsOn {
						losses = append(losses, h.Lost)
					} else if !ran[h.ID] {
						if ran[h.ID] = true; len(ran) == good {
							close(allRan)
						}
					}
				})
			})
			letter, err := jobs.Dead().Get(ctx)
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				t.Fatalf("no dead letter: %v; the handler ran after %v losses", err, losses)
			}
			select {
			case <-allRan:
			case <-ctx.Done():
				mu.Lock()
				t.Errorf("only %d of the others were handled", len(ran))
				mu.Unlock()
			}
			kill()
			supervisor.Wait()

			if want := []int{0, 1, 2, 3, 4}; !slices.Equal(losses, want) {
				t.Errorf("the handler was told of %v losses, want %v", losses, want)
			}
			if reason := letter.Headers[patterns.HeaderReason]; letter.ID != exitsOn || reason != "its worker was lost 5 times" ||
				letter.Headers[patterns.HeaderLosses] != "5" {
				t.Errorf("dead letter %q: %v", letter.ID, letter.Headers)
			}
			if err := letter.Ack(ctx); err != nil {
				t.Error(err)
			}
			if more, err := jobs.Dead().TryGet(ctx); !errors.Is(err, adapters.ErrEmpty) {
				t.Errorf("another dead letter: %+v, %v", more, err)
			}
		})
	}
}

// TestSuspectsOfASlowBroker: what the broker had sent, or sends because something was acknowledged,
// before a message ends its process is not blamed, however long it takes to arrive.
//
// Suspects that were sent to the end of the queue come back after a second or more. One that comes
// in the very moment in which the process ends is in its hands, and is blamed: so it may be on a
// machine that is slow, but not each time.
func TestSuspectsOfASlowBroker(t *testing.T) {
	t.Parallel()
	innocents := []string{"a", "b", "c"}
	want := map[handled]int{{exitsOn, 4}: 1}
	for _, id := range innocents {
		want[handled{id, 4}] = 1
	}
	for _, kind := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			const trials = 3
			for i := range trials {
				got := suspectsOfASlowBroker(t, fmt.Sprint("jobs", i), kind, innocents)
				if maps.Equal(got, want) {
					return
				}
				t.Logf("handled %v, want %v", got, want)
			}
			t.Errorf("in each of %d trials somebody was blamed who should not be", trials)
		})
	}
}

// suspectsOfASlowBroker returns what was handled once the process had ended, by how often it was
// lost before; 0 is for a dead letter.
func suspectsOfASlowBroker(t *testing.T, queue string, kind amqp.QueueType, innocents []string) map[handled]int {
	const latency = 25 * time.Millisecond
	ctx, step := whileMoving(t)
	near := amqptest.Shared(t).URL + "?queue_type=" + string(kind)
	network := amqptest.ProxyTo(t, near)
	open := func(url string) (*patterns.Bus, *patterns.WorkQueue[string]) {
		t.Helper()
		bus, err := patterns.Open(ctx, url, patterns.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = bus.Close(ctx) // as well as it can without a network
		})
		return bus, patterns.NewWorkQueue[string](bus, queue)
	}
	bus, jobs := open(near)
	if err := jobs.Declare(ctx); err != nil {
		t.Fatal(err)
	}
	suspect := func(id string, lost int) {
		p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: queue}}
		p.Lost, p.ContentType = lost, "text/plain"
		if err := bus.Driver().Publish(ctx, p, message.NewMessage(id, nil)); err != nil {
			t.Fatal(err)
		}
	}
	suspect(exitsOn, 3)
	for _, id := range innocents {
		suspect(id, 4) // the next loss is the last
	}

	network.Latency(latency)
	got := map[handled]int{}
	dead := make(chan struct{})
	_, far := open(network.URL(near))
	_, err := far.Work(ctx, func(ctx context.Context, _ string) error { // by one worker
		d, _ := patterns.DeliveryFrom(ctx)
		step()
		if d.ID == exitsOn {
			network.Down()
			close(dead)
			<-ctx.Done()
		} else { // it took so long to send that one on that the other had to wait
			got[handled{d.ID, d.Lost}]++
		}
		return ctx.Err()
	}, patterns.Prefetch(2))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-dead:
	case <-ctx.Done():
		t.Fatal("the handler did not run")
	}

	came := make(chan handled)
	note := func(lost func(patterns.Delivery) int) patterns.Handler[string] {
		return func(ctx context.Context, _ string) error {
			d, _ := patterns.DeliveryFrom(ctx)
			select {
			case came <- handled{d.ID, lost(d)}:
			case <-ctx.Done():
			}
			return nil
		}
	}
	_, err = jobs.Work(ctx, note(func(d patterns.Delivery) int { return d.Lost }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = jobs.Dead().Work(ctx, note(func(patterns.Delivery) int { return 0 })); err != nil {
		t.Fatal(err)
	}
	for len(got) < 1+len(innocents) {
		select {
		case h := <-came:
			step()
			got[h]++
		case <-ctx.Done():
			t.Fatalf("handled %v", got)
		}
	}
	return got
}

// tick sends a message a second until it is stopped. RabbitMQ 4.3.6 may forget the consumer timeout
// of a queue on which nothing else happens: findings/consumer-timeout-forgotten.sh.
func tick(ctx context.Context, t *testing.T, jobs *patterns.WorkQueue[string]) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var ticker sync.WaitGroup
	ticker.Go(func() {
		for every := time.Tick(time.Second); ; {
			select {
			case <-ctx.Done():
				return
			case <-every:
				if err := jobs.Send(ctx, "tick"); err != nil && ctx.Err() == nil {
					t.Errorf("a tick: %v", err)
				}
			}
		}
	})
	return func() { cancel(); ticker.Wait() }
}

// TestConsumerTimeout: a message that is held for longer than the broker allows is counted, its
// handler is told why its ctx ends, and it goes to the dead letters in the end. Others that were
// in hand at the same time do not.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel() // it waits for the timeout, time and again
	const timeout, queue = 10 * time.Second, "jobs"
	node := amqptest.Private(t, amqptest.Options{Settings: map[string]string{
		"consumer_timeout": fmt.Sprint(timeout.Milliseconds()), "channel_tick_interval": "500",
	}})
	for name, heed := range map[string]bool{"heeds its ctx": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := node.AddVHost(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			ctx, step := whileMoving(t)
			log := &journal{}
			cfg, err := amqp.ParseURL(v.URL)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Logger = log.logger("driver")
			driver, err := amqp.Connect(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			bus := patterns.New(driver, patterns.WithLogger(log.logger("bus")))
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[string](bus, queue)
			for _, id := range []string{"slow", "quick"} {
				if err := jobs.Send(ctx, id, patterns.MessageID(id)); err != nil {
					t.Fatal(err)
				}
			}
			var mu sync.Mutex
			var losses []int
			causes := map[error]int{}
			quick := make(chan struct{}, 100)
			sub, err := jobs.Work(ctx, func(ctx context.Context, kind string) error {
				d, _ := patterns.DeliveryFrom(ctx)
				if kind == "tick" {
					return nil
				}
				if kind == "quick" { // in hand when time is up for the other, the first time
					if d.Redelivered {
						quick <- struct{}{}
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}
				mu.Lock()
				losses = append(losses, d.Lost)
				mu.Unlock()
				step()
				<-ctx.Done()
				cause := context.Cause(ctx)
				mu.Lock()
				for _, known := range []error{adapters.ErrConsumerTimeout, adapters.ErrSessionLost} {
					if errors.Is(cause, known) {
						causes[known]++
					}
				}
				mu.Unlock()
				if heed {
					return ctx.Err()
				}
				return nil // as if all were well
			}, patterns.Workers(3))
			if err != nil {
				t.Fatal(err)
			}
			stopTicking := tick(ctx, t, jobs)
			letter, err := jobs.Dead().Get(ctx)
			stopTicking()
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				t.Fatalf("no dead letter: %v; the handler ran after %v losses\n%s", err, losses, log.tail(50))
			}
			if reason := letter.Headers[patterns.HeaderReason]; letter.ID != "slow" || reason != "its worker was lost 5 times" {
				t.Errorf("dead letter %q: %v", letter.ID, letter.Headers)
			}
			if err := letter.Ack(ctx); err != nil {
				t.Error(err)
			}
			if err := sub.Stop(ctx); err != nil {
				t.Error(err)
			}
			if len(quick) == 0 {
				t.Error("the other one was not handled")
			}
			if want := []int{0, 1, 2, 3, 4}; !slices.Equal(losses, want) {
				t.Errorf("the handler was told of %v losses, want %v", losses, want)
			}
			if causes[adapters.ErrConsumerTimeout] != 5 || causes[adapters.ErrSessionLost] != 5 {
				t.Errorf("causes %v", causes)
			}
			if stats := bus.Stats(); stats.TimedOut != 5 || stats.DeadLettered != 1 {
				t.Errorf("%+v", stats)
			}
			if text := log.tail(1000); strings.Count(text, "longer than its consumer timeout") != 5 {
				t.Errorf("the log does not say so 5 times:\n%s", text)
			}
			for _, q := range []*patterns.WorkQueue[string]{jobs.Dead(), jobs} {
				more, err := q.TryGet(ctx)
				for ; err == nil && more.Value == "tick"; more, err = q.TryGet(ctx) {
					if err := more.Ack(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if !errors.Is(err, adapters.ErrEmpty) {
					t.Errorf("left: %+v, %v", more, err)
				}
			}
		})
	}
}

// TestConsumerTimeoutOfSingleMessages: what holds for consumers holds where a rate limit has the
// messages taken one by one.
func TestConsumerTimeoutOfSingleMessages(t *testing.T) {
	t.Parallel()
	// A copy that takes longer than the timeout to be sent on is one more, and so is its original.
	node := amqptest.Private(t, amqptest.Options{Settings: map[string]string{"consumer_timeout": "10000", "channel_tick_interval": "500"}})
	ctx, step := whileMoving(t)
	log := &journal{}
	driver, err := adapters.Open(ctx, node.URL)
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(driver, patterns.WithLogger(log.logger("bus")))
	defer bus.Close(context.Background())
	jobs := patterns.NewWorkQueue[string](bus, "jobs")
	if err := jobs.Send(ctx, "slow"); err != nil {
		t.Fatal(err)
	}
	losses := make(chan int, 100)
	sub, err := jobs.Work(ctx, func(ctx context.Context, kind string) error {
		if kind == "tick" {
			return nil
		}
		d, _ := patterns.DeliveryFrom(ctx)
		losses <- d.Lost
		step()
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, adapters.ErrConsumerTimeout) {
			t.Errorf("its ctx ends for %v", cause)
		}
		return nil // as if all were well
	}, middleware.RateLimit(100, time.Second, 10), patterns.Workers(3))
	if err != nil {
		t.Fatal(err)
	}
	stopTicking := tick(ctx, t, jobs)
	letter, err := jobs.Dead().Get(ctx)
	stopTicking()
	if err != nil {
		t.Fatalf("no dead letter: %v; the handler ran %d times\n%s", err, len(losses), log.tail(50))
	}
	if reason := letter.Headers[patterns.HeaderReason]; reason != "its worker was lost 5 times" {
		t.Errorf("dead letter: %v", letter.Headers)
	}
	if err := letter.Ack(ctx); err != nil {
		t.Error(err)
	}
	if err := sub.Stop(ctx); err != nil {
		t.Error(err)
	}
	if n := len(losses); n != 5 {
		t.Fatalf("the handler ran %d times, want 5\n%s", n, log.tail(50))
	}
	for want := range 5 {
		if got := <-losses; got != want {
			t.Errorf("the handler was told of %d losses, want %d", got, want)
		}
	}
	if stats := bus.Stats(); stats.TimedOut != 5 || stats.DeadLettered != 1 {
		t.Errorf("%+v", stats)
	}
}
