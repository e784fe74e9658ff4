package patterns_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

type Order struct {
	ID   int
	Dish string
}

// A work queue on the broker that the environment names: in process in a
// test, RabbitMQ in production.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	url := "memory:"
	if env := os.Getenv("EXAMPLE_BROKER"); env != "" {
		url = env
	}
	bus, err := patterns.Open(ctx, url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bus.Close(context.Background())

	orders := patterns.NewWorkQueue[Order](bus, "orders")
	sub, err := orders.Work(ctx, func(_ context.Context, o Order) error {
		fmt.Println("cooking", o.Dish)
		stop() // closing time
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := orders.Send(ctx, Order{1, "pad thai"}); err != nil { // nil: the broker has it
		fmt.Println(err)
	}
	fmt.Println("drained:", sub.Wait())
	// Output:
	// cooking pad thai
	// drained: <nil>
}

// What a handler returns decides what becomes of the message.
func ExampleHandler() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")

	closed, cooked := errors.New("the kitchen is closed"), make(chan struct{})
	_, _ = orders.Work(ctx, func(ctx context.Context, o Order) error {
		d, _ := patterns.DeliveryFrom(ctx)
		switch {
		case o.Dish == "":
			return patterns.Reject(errors.New("no dish")) // trying again would not help
		case d.Attempt == 1:
			return patterns.RetryAfter(time.Millisecond, closed) // this soon
		case d.Attempt == 2:
			return closed // when the retry policy says
		}
		fmt.Println("cooked", o.Dish, "at try", d.Attempt)
		close(cooked)
		return nil
	}, patterns.Retry(patterns.RetryPolicy{Attempts: 3, Min: time.Millisecond}))

	_ = orders.Send(ctx, Order{1, "ramen"})
	_ = orders.Send(ctx, Order{2, ""})
	dead, _ := orders.Dead().Get(ctx)
	fmt.Println("dead:", dead.Value.ID, dead.Headers[patterns.HeaderReason])
	_ = dead.Ack(ctx)
	<-cooked
	// Unordered output:
	// dead: 2 no dish
	// cooked ramen at try 3
}

// Each group gets a copy of every message, and its members share them.
func ExamplePubSub() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)

	placed := patterns.NewPubSub[Order](bus, "order-placed")
	told := make(chan string)
	for _, service := range []string{"merchant", "rider"} {
		_, err := placed.Subscribe(ctx, func(_ context.Context, o Order) error {
			told <- service + " knows of " + o.Dish
			return nil
		}, patterns.Group(service))
		if err != nil {
			fmt.Println(err)
		}
	}
	_ = placed.Publish(ctx, Order{1, "ramen"})
	fmt.Println(<-told)
	fmt.Println(<-told)
	// Unordered output:
	// merchant knows of ramen
	// rider knows of ramen
}

func ExampleRouted() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)

	logs := patterns.NewRouted[string](bus, "logs")
	got := make(chan string)
	_, _ = logs.Subscribe(ctx, []string{"error", "warning"}, func(ctx context.Context, line string) error {
		d, _ := patterns.DeliveryFrom(ctx)
		got <- d.Key + ": " + line
		return nil
	})
	_ = logs.Publish(ctx, "info", "nobody asked")
	_ = logs.Publish(ctx, "error", "disk full")
	fmt.Println(<-got)
	// Output: error: disk full
}

// The exchange and its bindings are somebody else's: here those of a broker in the process.
func ExampleExchange() {
	ctx := context.Background()
	broker := memory.New()
	bus := patterns.New(broker.Connect())
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[string](bus, "audit-eu")
	_ = queue.Declare(ctx)
	_ = broker.DeclareExchange("audit", "headers")
	_ = broker.Bind("audit-eu", "audit", "", map[string]string{"region": "eu"})

	audit := patterns.NewExchange[string](bus, "audit")
	_ = audit.Publish(ctx, "", "paid 1", patterns.Header("region", "us"))
	_ = audit.Publish(ctx, "", "paid 2", patterns.Header("region", "eu"))
	entry, _ := patterns.NewWorkQueue[string](bus, "audit-eu", patterns.Passive()).Get(ctx)
	fmt.Println(entry.Value)
	_ = entry.Ack(ctx)

	err := patterns.NewExchange[string](bus, "missing").Publish(ctx, "", "to nobody")
	fmt.Println(errors.Is(err, adapters.ErrNotFound))
	// Output:
	// paid 2
	// true
}

func ExampleTopic() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)

	news := patterns.NewTopic[string](bus, "news")
	got := make(chan string)
	_, _ = news.Subscribe(ctx, []string{"usa.#", "*.weather"}, func(_ context.Context, item string) error {
		got <- item
		return nil
	})
	_ = news.Publish(ctx, "europe.politics", "not for us")
	_ = news.Publish(ctx, "usa.weather", "sunny, and told once though both patterns match")
	_ = news.Publish(ctx, "europe.weather", "rain")
	fmt.Println(<-got)
	fmt.Println(<-got)
	// Output:
	// sunny, and told once though both patterns match
	// rain
}

var ErrNegative = errors.New("negative number")

// A call is answered by one server; its errors come back typed.
func ExampleRPC() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect(), patterns.WithErrorCode("negative", ErrNegative))
	defer bus.Close(ctx)

	fib := patterns.NewRPC[int, int](bus, "fib")
	_, err := fib.Call(ctx, 30)
	fmt.Println("before there is a server:", errors.Is(err, patterns.ErrNoServer))

	_, _ = fib.Serve(ctx, func(_ context.Context, n int) (int, error) {
		if n < 0 {
			return 0, ErrNegative
		}
		a, b := 0, 1
		for range n {
			a, b = b, a+b
		}
		return a, nil
	})
	n, err := fib.Call(ctx, 30)
	fmt.Println(n, err)
	_, err = fib.Call(ctx, -1)
	fmt.Println(errors.Is(err, ErrNegative))
	// Output:
	// before there is a server: true
	// 832040 <nil>
	// true
}

// Take single messages instead of having a handler called.
func ExampleWorkQueue_Get() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")

	_, err := orders.TryGet(ctx)
	fmt.Println("nothing there:", errors.Is(err, adapters.ErrEmpty))
	_ = orders.Send(ctx, Order{1, "ramen"})
	taken, err := orders.Get(ctx) // waits as long as ctx allows
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(taken.Value.Dish)
	_ = taken.Ack(ctx)
	// Output:
	// nothing there: true
	// ramen
}

// Many publishes under way from one goroutine, each with its own outcome.
func ExampleWorkQueue_SendAsync() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")

	var receipts []*patterns.Receipt
	for id := range 3 {
		r, err := orders.SendAsync(ctx, Order{id, "ramen"})
		if err != nil {
			fmt.Println(err)
			return
		}
		receipts = append(receipts, r)
	}
	for _, r := range receipts {
		fmt.Println(r.Wait(ctx))
	}
	// Output:
	// <nil>
	// <nil>
	// <nil>
}

// A bounded queue refuses what it has no room for, or holds the sender back.
func ExampleMaxLength() {
	ctx := context.Background()
	bus := patterns.New(memory.New().Connect())
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders", patterns.MaxLength(1))

	fmt.Println(orders.Send(ctx, Order{1, "ramen"}))
	err := orders.Send(ctx, Order{2, "ramen"})
	fmt.Println("refused:", errors.Is(err, adapters.ErrNacked))

	brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	err = orders.Send(brief, Order{2, "ramen"}, patterns.WaitForRoom())
	fmt.Println("no room in time:", errors.Is(err, context.DeadlineExceeded))
	// Output:
	// <nil>
	// refused: true
	// no room in time: true
}

// Middleware is watermill's; the first is the outermost.
func ExampleWithMiddleware() {
	ctx := context.Background()
	logged := func(next message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			out, err := next(m)
			fmt.Println("handled, error:", err)
			return out, err
		}
	}
	bus := patterns.New(memory.New().Connect(), patterns.WithMiddleware(logged))
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	begun := make(chan struct{})
	sub, _ := orders.Work(ctx, func(context.Context, Order) error { close(begun); fmt.Println("cooking"); return nil })
	_ = orders.Send(ctx, Order{1, "ramen"})
	<-begun
	_ = sub.Stop(ctx) // finishes what was begun
	// Output:
	// cooking
	// handled, error: <nil>
}
