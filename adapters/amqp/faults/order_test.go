package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// keyed is the text of the n-th message of a key, and its id.
func keyed(key, n int) string { return fmt.Sprintf("k%d:%d", key, n) }

func keyOf(text string) string { return text[:strings.IndexByte(text, ':')] }

func numberOf(text string) int {
	n, _ := strconv.Atoi(text[strings.IndexByte(text, ':')+1:])
	return n
}

// keyOrder checks the order of keys as handlers tell of it.
type keyOrder struct {
	mu      sync.Mutex
	running map[string]string
	begun   map[string]int // how many of a key
	done    map[string]bool
	all     chan struct{} // closed when so many are done
	want    int
	step    func() // called when one begins
	wrong   []string
}

func newKeyOrder(want int, step func()) *keyOrder {
	return &keyOrder{running: map[string]string{}, begun: map[string]int{}, done: map[string]bool{}, all: make(chan struct{}), want: want, step: step}
}

func (o *keyOrder) begin(text string) {
	o.step()
	o.mu.Lock()
	defer o.mu.Unlock()
	key, n := keyOf(text), numberOf(text)
	if other, ok := o.running[key]; ok {
		o.wrong = append(o.wrong, text+" begins while "+other+" runs")
	}
	o.running[key] = text
	switch begun := o.begun[key]; {
	case n == begun:
		o.begun[key]++
	case n > begun:
		o.wrong = append(o.wrong, fmt.Sprintf("%s begins, and %d has not", text, begun))
	}
}

func (o *keyOrder) end(text string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, keyOf(text))
	if ok && !o.done[text] {
		if o.done[text] = true; len(o.done) == o.want {
			close(o.all)
		}
	}
}

func (o *keyOrder) check(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-o.all:
	case <-ctx.Done():
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, text := range o.wrong[:min(len(o.wrong), 10)] {
		t.Error(text)
	}
	if len(o.done) != o.want {
		t.Errorf("%d of %d are done", len(o.done), o.want)
	}
}

// TestOrderByKeyThroughCuts: connections are cut, and subscriptions stopped and begun, while
// handlers run, fail and are tried again.
func TestOrderByKeyThroughCuts(t *testing.T) {
	t.Parallel()
	const keys, each, queue = 20, 30, "ordered"
	for _, kind := range []amqp.QueueType{amqp.Quorum, amqp.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			node := amqptest.Shared(t)
			near := node.URL + "?queue_type=" + string(kind)
			network := amqptest.ProxyTo(t, near)
			ctx, step := whileMoving(t)
			bus, err := patterns.Open(ctx, network.URL(near))
			if err != nil {
				t.Fatal(err)
			}
			defer bus.Close(context.Background())
			jobs := patterns.NewWorkQueue[string](bus, queue)
			var sent []*patterns.Receipt
			for n := range each {
				for k := range keys {
					receipt, err := jobs.SendAsync(ctx, keyed(k, n), patterns.MessageID(keyed(k, n)))
					if err != nil {
						t.Fatal(err)
					}
					sent = append(sent, receipt)
				}
			}
			for _, receipt := range sent { // or a cut loses some, and what is behind them comes
				if err := receipt.Wait(ctx); err != nil {
					t.Fatal(err)
				}
			}
			order := newKeyOrder(keys*each, step)
			work := func() *patterns.Subscription {
				sub, err := jobs.Work(ctx, func(ctx context.Context, text string) error {
					order.begin(text)
					fails := rand.IntN(10) == 0
					defer func() { order.end(text, !fails) }()
					time.Sleep(rand.N(20 * time.Millisecond)) // the work, which heeds nothing
					if fails {
						return errors.New("failed")
					}
					return nil
				}, patterns.OrderBy(keyOf), patterns.Workers(8), patterns.Prefetch(64),
					patterns.Retry(patterns.RetryPolicy{Attempts: 100, Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}))
				if err != nil {
					t.Fatal(err)
				}
				return sub
			}
			sub := work()
			for i := range 6 {
				select {
				case <-order.all:
				case <-time.After(200*time.Millisecond + rand.N(200*time.Millisecond)):
				}
				if i%3 == 2 {
					if err := sub.Stop(ctx); err != nil {
						t.Error(err)
					}
					sub = work()
				} else {
					cutNoticed(ctx, t, network, node, queue)
				}
			}
			order.check(ctx, t)
			if err := sub.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// cutNoticed cuts all connections, and lets none be made until the broker has ended them and their
// channels, and the queue has back what it had sent: before that, it gives what follows to whoever
// comes. Its leader is asked, since a passive declare does not tell what is not back yet.
func cutNoticed(ctx context.Context, t *testing.T, network *amqptest.Proxy, node *amqptest.VHost, queue string) {
	t.Helper()
	network.Down()
	for {
		connections, err := node.Connections(ctx)
		channels, channelsErr := node.Channels(ctx)
		q, queueErr := node.Queue(ctx, queue)
		if err := errors.Join(err, channelsErr, queueErr); err != nil {
			t.Fatalf("looking for connections that the broker takes for alive: %v", err)
		}
		if len(connections) == 0 && channels == 0 && q.Consumers == 0 && q.Unacked == 0 {
			break
		}
	}
	if err := network.Up(); err != nil {
		t.Fatal(err)
	}
}

// TestOrderByKeyHandlerThatExits: a message whose handler ends the process goes to the dead letters
// after the default limit, no other does, and each key keeps its order.
func TestOrderByKeyHandlerThatExits(t *testing.T) {
	t.Parallel()
	const keys, each, queue, poisoned = 8, 6, "orderedjobs", 13
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
			textOf := map[string]string{}
			for i := range keys * each {
				text := keyed(i%keys, i/keys)
				id := text
				if i == poisoned {
					id = exitsOn
				}
				textOf[id] = text
				if err := jobs.Send(ctx, text, patterns.MessageID(id)); err != nil {
					t.Fatal(err)
				}
			}
			order := newKeyOrder(keys*each, step)
			order.done["the poison"] = true // which never is
			var losses []int
			living, kill := context.WithCancel(ctx)
			defer kill()
			var supervisor sync.WaitGroup
			supervisor.Go(func() {
				keepAlive(living, t, childTask{URL: url, Queue: queue, Workers: 4, Ordered: true}, func(h handled) {
					order.begin(textOf[h.ID])
					order.end(textOf[h.ID], h.ID != exitsOn)
					if h.ID == exitsOn {
						losses = append(losses, h.Lost)
					}
				})
			})
			letter, err := jobs.Dead().Get(ctx)
			if err != nil {
				t.Errorf("no dead letter: %v", err)
			}
			order.check(ctx, t)
			kill()
			supervisor.Wait()
			if want := []int{0, 1, 2, 3, 4}; !slices.Equal(losses, want) {
				t.Errorf("the handler was told of %v losses, want %v", losses, want)
			}
			if err != nil {
				return
			}
			if letter.ID != exitsOn || letter.Headers[patterns.HeaderReason] != "its worker was lost 5 times" {
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
