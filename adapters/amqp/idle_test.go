package amqp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/patternstest"
)

// bakery is a service on several buses, in which an order goes every way that there is: it waits
// for its first try, is tried again, goes on to two groups, a private subscriber and a topic, is
// priced by a call, is given back now and then, and every fifth is a dead letter that is repaired.
type bakery struct {
	buses  []*patterns.Bus
	orders *patterns.WorkQueue[int]
	ended  [6]atomic.Int64 // effects, of each kind
}

var errOven = errors.New("the oven is cold")

// again retries soon.
var again = patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: 100 * time.Millisecond, Max: 100 * time.Millisecond})

func newBakery(t *testing.T, drivers ...*Driver) *bakery {
	t.Helper()
	b := new(bakery)
	for _, d := range drivers {
		bus, _ := patternstest.NewBus(t, d)
		b.buses = append(b.buses, bus)
	}
	must := func(_ *patterns.Subscription, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, shop, kitchen, office := t.Context(), b.buses[0], b.buses[1%len(drivers)], b.buses[2%len(drivers)]
	b.orders = patterns.NewWorkQueue[int](shop, "orders")
	baked := patterns.NewPubSub[int](kitchen, "baked")
	priced := patterns.NewTopic[int](kitchen, "priced")
	price := patterns.NewRPC[int, int](kitchen, "price")
	must(patterns.NewWorkQueue[int](kitchen, "orders").Work(ctx, func(ctx context.Context, n int) error {
		d, _ := patterns.DeliveryFrom(ctx)
		switch {
		case n%5 == 4:
			return patterns.Reject(errOven)
		case n%3 == 0 && d.Attempt == 1:
			return errOven
		case n%4 == 0 && !d.Redelivered:
			return patterns.RequeueAfter(time.Millisecond, errOven)
		}
		cents, err := price.Call(ctx, n)
		if err != nil {
			return err
		}
		return errors.Join(baked.Publish(ctx, n), priced.Publish(ctx, "bread."+strconv.Itoa(n%2), cents, patterns.Delay(time.Duration(1+n%2)*100*time.Millisecond)))
	}, patterns.Workers(4), again))
	must(patterns.NewWorkQueue[int](office, "orders").Dead().Work(ctx, func(ctx context.Context, n int) error {
		b.ended[0].Add(1)
		return b.orders.Send(ctx, n+1, patterns.Delay(time.Duration(1+n%2)*100*time.Millisecond))
	}))
	must(patterns.NewRPC[int, int](office, "price").Serve(ctx, func(_ context.Context, n int) (int, error) {
		b.ended[1].Add(1)
		return 100 * n, nil
	}))
	count := func(i int) patterns.Handler[int] {
		return func(context.Context, int) error { b.ended[i].Add(1); return nil }
	}
	must(patterns.NewPubSub[int](office, "baked").Subscribe(ctx, count(2), patterns.Group("shelf")))
	must(patterns.NewPubSub[int](shop, "baked").Subscribe(ctx, count(3), patterns.Group("bell")))
	must(patterns.NewPubSub[int](shop, "baked").Subscribe(ctx, count(4)))
	must(patterns.NewTopic[int](office, "priced").Subscribe(ctx, []string{"bread.*"}, count(5), patterns.Group("books")))
	return b
}

// done returns how many of each effect there are.
func (b *bakery) done() (n [6]int64) {
	for i := range n {
		n[i] = b.ended[i].Load()
	}
	return n
}

// order sends count orders, and returns how many effects they have in all.
func (b *bakery) order(t *testing.T, first, count int) (effects [6]int64) {
	t.Helper()
	var sending sync.WaitGroup
	for n := first; n < first+count; n++ {
		sending.Go(func() {
			var opts []patterns.PublishOption
			if n%7 == 0 {
				opts = append(opts, patterns.Delay(100*time.Millisecond))
			}
			if err := b.orders.Send(t.Context(), n, opts...); err != nil {
				t.Error(err)
			}
		})
		if n%5 == 4 {
			effects[0]++
		}
		for i := 1; i < len(effects); i++ {
			effects[i]++
		}
	}
	sending.Wait()
	return effects
}

func rounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("MOTIF_IDLE_ROUNDS")); err == nil {
		return n
	}
	return usual
}

// TestWaitIdle: whenever it returns everything has happened. MOTIF_IDLE_ROUNDS is how often that is
// tried.
func TestWaitIdle(t *testing.T) {
	v := amqptest.Shared(t)
	b := newBakery(t, connectTo(t, v.URL), connectTo(t, v.URL), connectTo(t, v.URL))
	var want [6]int64
	for round := range rounds(4) {
		more := b.order(t, round*7, 1+round%12)
		for i := range want {
			want[i] += more[i]
		}
		if err := patternstest.WaitIdle(soon(t), b.buses...); err != nil {
			t.Fatal(err)
		}
		if got := b.done(); got != want {
			time.Sleep(time.Second)
			t.Fatalf("in round %d it is idle after %v of %v, and a second later there are %v", round, got, want, b.done())
		}
	}
}

// TestWaitIdleMissesNothing: a message that goes from queue to queue, from bus to bus, is never
// between two looks.
func TestWaitIdleMissesNothing(t *testing.T) {
	v := amqptest.Shared(t)
	drivers := [2]*Driver{connectTo(t, v.URL), connectTo(t, v.URL)}
	var buses [2]*patterns.Bus
	for i, d := range drivers {
		buses[i], _ = patternstest.NewBus(t, d)
	}
	const hops = 12
	var ended atomic.Int64
	for i := range hops {
		next := patterns.NewWorkQueue[int](buses[i%2], fmt.Sprintf("hop%d", i+1))
		_, err := patterns.NewWorkQueue[int](buses[i%2], fmt.Sprintf("hop%d", i)).Work(ctx, func(ctx context.Context, n int) error {
			if i+1 == hops {
				ended.Add(1)
				return nil
			}
			return next.Send(ctx, n)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first := patterns.NewWorkQueue[int](buses[0], "hop0")
	for round := range rounds(15) {
		if err := first.Send(ctx, round); err != nil {
			t.Fatal(err)
		}
		if err := drivers[0].WaitIdle(soon(t), nil, drivers[1]); err != nil {
			t.Fatal(err)
		}
		if got, want := ended.Load(), int64(round+1); got != want {
			t.Fatalf("in round %d it is idle after %d of %d", round, got, want)
		}
	}
}

// TestWaitIdleThroughCuts: so it is when connections are lost meanwhile, only that effects may be
// there more than once.
func TestWaitIdleThroughCuts(t *testing.T) {
	v := amqptest.Shared(t)
	proxy := amqptest.ProxyTo(t, v.URL)
	url := proxy.URL(v.URL)
	b := newBakery(t, connectTo(t, url), connectTo(t, url), connectTo(t, url))
	var want [6]int64
	for round := range rounds(3) {
		more := b.order(t, round*7, 10)
		for i := range want {
			want[i] += more[i]
		}
		time.Sleep(time.Duration(round%4) * 40 * time.Millisecond) // in another moment each time
		if round%2 == 0 {
			proxy.Cut()
		} else if _, err := v.CloseConnections(ctx); err != nil {
			t.Fatal(err)
		}
		if err := patternstest.WaitIdle(soon(t), b.buses...); err != nil {
			t.Fatal(err)
		}
		got := b.done()
		time.Sleep(300 * time.Millisecond)
		if later := b.done(); later != got {
			t.Errorf("in round %d it is idle after %v, and later there are %v", round, got, later)
		}
		for i := range want {
			if got[i] < want[i] && i != 4 { // what was published while the private subscriber was away it does not get
				t.Fatalf("in round %d it is idle after %v of %v", round, got, want)
			}
		}
	}
}

// TestWaitIdleSaysWhatIsInFlight: and nothing else keeps it waiting.
func TestWaitIdleSaysWhatIsInFlight(t *testing.T) {
	v := amqptest.Shared(t)
	bus, _ := patternstest.NewBus(t, connectTo(t, v.URL))
	other, _ := patternstest.NewBus(t, connectTo(t, v.URL))
	orders, unread := patterns.NewWorkQueue[int](bus, "orders"), patterns.NewWorkQueue[int](bus, "unread")
	topic := patterns.NewTopic[int](bus, "topic")
	soonDone := func(what string) {
		t.Helper()
		if err := patternstest.WaitIdle(soon(t), bus); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	says := func(buses []*patterns.Bus, parts ...string) {
		t.Helper()
		// It is never idle meanwhile; but a busy machine has seen all that there is only later.
		for late := soon(t); ; {
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			err := patternstest.WaitIdle(short, buses...)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("it ended with %v", err)
			}
			missing := slices.DeleteFunc(slices.Clone(parts), func(part string) bool { return strings.Contains(err.Error(), part) })
			if len(missing) == 0 {
				return
			}
			if late.Err() != nil {
				t.Fatalf("it ended with %v, want %q", err, missing)
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	soonDone("nothing was sent")
	must(unread.Send(ctx, 1))
	must(unread.Send(ctx, 1, patterns.Delay(time.Hour)))
	must(topic.Publish(ctx, "a", 1, patterns.Delay(time.Hour)))
	soonDone("what nobody reads")

	release := make(chan struct{})
	work, err := orders.Work(ctx, func(context.Context, int) error { <-release; return nil })
	must(err)
	_, err = topic.Subscribe(ctx, []string{"b"}, func(context.Context, int) error { return nil })
	must(err)
	soonDone("a delayed message with another key")
	must(orders.SendBatch(ctx, []int{1, 2, 3}))
	must(orders.Send(ctx, 4, patterns.Delay(time.Hour)))
	says([]*patterns.Bus{bus}, `1 in hand of the subscription to queue "orders"`, "1 delayed")
	close(release)
	says([]*patterns.Bus{bus}, "in flight, but there is: 1 delayed: ")

	second, err := patterns.NewWorkQueue[int](other, "orders").Work(ctx, func(context.Context, int) error { return nil })
	must(err)
	must(work.Stop(ctx))
	soonDone("a delayed message that another bus gets")
	says([]*patterns.Bus{bus, other}, "1 delayed")
	work, err = orders.Work(ctx, func(context.Context, int) error { return nil })
	must(err)
	must(topic.Publish(ctx, "b", 1, patterns.Delay(100*time.Millisecond)))
	says([]*patterns.Bus{bus}, "1 delayed") // and the consumer that is not known here
	must(work.Stop(ctx))
	must(second.Stop(ctx))
	soonDone("nobody consumes it any more")

	for i, b := range []*patterns.Bus{bus, other} {
		second, err = patterns.NewWorkQueue[int](b, "shared").Work(ctx, func(context.Context, int) error { return nil })
		must(err)
		if i == 0 {
			soonDone("the only consumer")
		}
	}
	says([]*patterns.Bus{bus}, `the 2 consumers of queue "shared" have in hand, of which 1 are known here`)
	if err := patternstest.WaitIdle(soon(t), bus, other); err != nil {
		t.Errorf("both consumers: %v", err)
	}
	must(second.Stop(ctx))
	got, err := unread.Get(ctx)
	must(err)
	says([]*patterns.Bus{bus}, "what subscriptions that were stopped have in hand (1)")
	must(got.Ack(ctx))
	soonDone("it is settled")
}

// TestWaitIdleGivenBack: what a handler gives back comes again, although no queue may count it for
// a moment.
func TestWaitIdleGivenBack(t *testing.T) {
	for _, kind := range []QueueType{Quorum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			bus, _ := patternstest.NewBus(t, connect(t, func(c *Config) { c.QueueType = kind }))
			orders := patterns.NewWorkQueue[int](bus, "orders")
			var done atomic.Int64
			_, err := orders.Work(ctx, func(ctx context.Context, _ int) error {
				if d, _ := patterns.DeliveryFrom(ctx); !d.Redelivered {
					return patterns.RequeueAfter(0, errOven)
				}
				done.Add(1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for round := range rounds(20) {
				if err := orders.Send(ctx, round); err != nil {
					t.Fatal(err)
				}
				if err := patternstest.WaitIdle(soon(t), bus); err != nil {
					t.Fatal(err)
				}
				if got, want := done.Load(), int64(round+1); got != want {
					t.Fatalf("in round %d it is idle after %d of %d", round, got, want)
				}
			}
		})
	}
}

// TestWaitIdleJustTaken: a message is in flight, too, between its taking by a receiver and its
// being handed out, however long a busy machine leaves the receiver there.
func TestWaitIdleJustTaken(t *testing.T) {
	d, q := connect(t), unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	c := sub.(*subscription).state.Load().consumer
	publish(t, d, mandatory(q), "m")
	in := <-c.channel.deliveries
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := d.WaitIdle(short, nil); err == nil {
		t.Error("it is idle with a message that was just taken")
	}
	got, ok := c.deliver(in)
	if !ok {
		t.Fatal("it is not handed out")
	}
	settle(t, got, adapters.Ack)
	if err := d.WaitIdle(soon(t), nil); err != nil {
		t.Error(err)
	}
}

// TestWaitIdleStopping: what a subscription gives back when it is stopped another one gets.
func TestWaitIdleStopping(t *testing.T) {
	for _, kind := range []QueueType{Quorum, Classic} {
		t.Run(string(kind), func(t *testing.T) {
			bus, _ := patternstest.NewBus(t, connect(t, func(c *Config) { c.QueueType = kind }))
			orders := patterns.NewWorkQueue[int](bus, "orders")
			var done atomic.Int64
			handle := func(context.Context, int) error { done.Add(1); return nil }
			_, err := orders.Work(ctx, handle)
			if err != nil {
				t.Fatal(err)
			}
			const each = 20
			for round := range rounds(10) {
				stopping, err := orders.Work(ctx, handle, patterns.Prefetch(each))
				if err != nil {
					t.Fatal(err)
				}
				if err := orders.SendBatch(ctx, make([]int, each)); err != nil {
					t.Fatal(err)
				}
				go func() { _ = stopping.Stop(ctx) }()
				if err := patternstest.WaitIdle(soon(t), bus); err != nil {
					t.Fatal(err)
				}
				if got, want := done.Load(), int64(each*(round+1)); got != want {
					t.Fatalf("in round %d it is idle after %d of %d", round, got, want)
				}
			}
		})
	}
}

// TestWaitIdleUnreceived: what is on its way, and what a session would get that is lost, is in
// flight also if nobody receives.
func TestWaitIdleUnreceived(t *testing.T) {
	url := brokerURL(t)
	proxy := amqptest.ProxyTo(t, url)
	d := connectTo(t, proxy.URL(url))
	q := unique(t)
	sub := subscribe(t, d, fromQueue(q, 1))
	wait := func(most time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		return d.WaitIdle(ctx, nil)
	}
	for range rounds(20) {
		publish(t, d, mandatory(q), "m")
		if err := wait(10 * time.Millisecond); err == nil {
			t.Fatal("it is idle with a message that nobody received")
		}
		settle(t, receive(t, sub, "m"), adapters.Ack)
		if err := wait(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	proxy.Down()
	eventually(t, "it waits for the connection", func() bool {
		err := wait(300 * time.Millisecond)
		if err == nil {
			t.Fatal("it is idle without a connection")
		}
		return strings.Contains(err.Error(), "when it is connected again")
	})
	if err := proxy.Up(); err != nil {
		t.Fatal(err)
	}
	if err := wait(time.Minute); err != nil {
		t.Error(err)
	}
	if err := d.Close(ctx); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "of a closed driver", wait(time.Minute), adapters.ErrClosed)
}

// gate lets one message be fetched at a time, every few milliseconds.
type gate struct{}

func (gate) Wait(ctx context.Context) (bool, error) {
	sleep(ctx, 5*time.Millisecond)
	return false, ctx.Err()
}

func (gate) Fetched() {}

// TestWaitIdleBehindGate: a queue whose subscription fetches nothing at the moment is consumed.
func TestWaitIdleBehindGate(t *testing.T) {
	bus, _ := patternstest.NewBus(t, connect(t))
	orders := patterns.NewWorkQueue[int](bus, "orders")
	var done atomic.Int64
	_, err := orders.Work(ctx, func(ctx context.Context, n int) error {
		if d, _ := patterns.DeliveryFrom(ctx); d.Attempt == 1 && n == 0 {
			return errOven
		}
		done.Add(1)
		return nil
	}, patterns.WithGate(gate{}), again)
	if err != nil {
		t.Fatal(err)
	}
	for round := range rounds(5) {
		if err := orders.SendBatch(ctx, []int{0, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		if err := patternstest.WaitIdle(soon(t), bus); err != nil {
			t.Fatal(err)
		}
		if got, want := done.Load(), int64(4*(round+1)); got != want {
			t.Fatalf("in round %d it is idle after %d of %d", round, got, want)
		}
	}
}

// TestComingIsBounded: what others receive is forgotten when there is no room, and what there is no
// room for counts by its time.
func TestComingIsBounded(t *testing.T) {
	d := new(Driver)
	cm := coming{messages: map[comingKey]*comingMessage{}}
	w := idleWait{drivers: []*Driver{d}, queues: []string{"q"}}
	add := func(due time.Time, n int) {
		for i := range n {
			cm.add(comingKey{"queue.q", fmt.Sprint(due, i), "1"}, comingMessage{driver: d, due: due})
		}
	}
	past := time.Now().Add(-2 * forgetAfter)
	add(past, maxComing)
	add(time.Now(), 10)
	if len(cm.messages) != 10 || d.idle.coming != 10 {
		t.Errorf("%d are kept, and %d counted", len(cm.messages), d.idle.coming)
	}
	add(time.Now().Add(time.Hour), maxComing)
	if len(cm.messages) != maxComing || d.idle.coming != maxComing {
		t.Errorf("%d are kept, and %d counted", len(cm.messages), d.idle.coming)
	}
	cm.forget(d)
	if got := cm.count(&w, nil); len(cm.messages) != 0 || d.idle.coming != 0 || cm.some.Load() || len(got) != 1 || got[0] != "1 delayed" {
		t.Errorf("%d are kept, and %d counted: %v", len(cm.messages), d.idle.coming, got)
	}
}
