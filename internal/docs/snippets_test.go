package docs

import (
	"context"
	"errors"
	"expvar"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/healthhttp"
	"github.com/motifmq/motif/patterns/patternstest"
)

// The programs of the docs that are in no other file. They are compiled, which is what they are
// here for: TestProgramsAreCompiled looks for them.

type Order struct{ Dish string }

func ship(context.Context, Order) error   { return nil }
func notify(context.Context, Order) error { return nil }
func page(context.Context, string) error  { return nil }

func use(...any) {}

func Example_compiled() {
	use(delivery, stats, workQueues, batches, sending, groups, keys, calls, retries, tooOld, between, redrive, config, compose, ready, handler, run, service, serviceOnRabbitMQ, node, members, counting, schedules)
}

var vault interface {
	Password(ctx context.Context) (string, error)
}

func delivery() {
	ship := func(ctx context.Context, o Order) error {
		d, _ := patterns.DeliveryFrom(ctx)
		slog.InfoContext(ctx, "shipping", "dish", o.Dish, "id", d.ID, "attempt", d.Attempt, "source", d.Headers["source"])
		return nil
	}
	use(ship)
}

func stats(bus *patterns.Bus) {
	s := bus.Stats()
	slog.Info("messages", "retried", s.Retried, "dead", s.DeadLettered, "dropped", s.Dropped, "requeued", s.Requeued, "stale", s.Stale)
}

var errNoDish = errors.New("no dish")

func insert(context.Context, []Order, patterns.BatchError) error { return nil }

func batches(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	store := func(ctx context.Context, batch []Order) error {
		failed := patterns.BatchError{}
		for i, o := range batch {
			if o.Dish == "" {
				failed[i] = patterns.Reject(errNoDish) // a dead letter; the others are done
			}
		}
		if err := insert(ctx, batch, failed); err != nil {
			return err // all are tried again
		}
		return failed
	}
	sub, err := orders.WorkBatch(ctx, store, patterns.BatchSize(500), patterns.Workers(2))
	use(sub, err)
}

func workQueues(ctx context.Context, bus *patterns.Bus) {
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	sub, err := orders.Work(ctx, ship, patterns.Workers(8), patterns.HandlerTimeout(time.Minute))
	use(sub, err)
}

type Report struct{ Until time.Time }

func schedules(ctx context.Context, bus *patterns.Bus) error {
	reports := patterns.NewWorkQueue[Report](bus, "reports")
	hourly, err := reports.Schedule(ctx, "hourly-report", patterns.Every(time.Hour), func(at time.Time) Report {
		return Report{Until: at}
	})
	if err != nil {
		return err
	}
	return hourly.Wait() // nil: ctx has ended
}

func sending(ctx context.Context, orders *patterns.WorkQueue[Order], batch []Order, receipts []*patterns.Receipt) error {
	for _, o := range batch {
		receipt, err := orders.SendAsync(ctx, o)
		if err != nil {
			return err // it was not sent
		}
		receipts = append(receipts, receipt)
	}
	for _, receipt := range receipts {
		if err := receipt.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func groups(ctx context.Context, bus *patterns.Bus) {
	placed := patterns.NewPubSub[Order](bus, "order-placed")
	sub, err := placed.Subscribe(ctx, notify, patterns.Group("merchant"))
	use(sub, err, placed.Declare(ctx, patterns.Group("merchant")))
}

func keys(ctx context.Context, bus *patterns.Bus) error {
	logs := patterns.NewTopic[string](bus, "logs")
	sub, err := logs.Subscribe(ctx, []string{"kitchen.#", "*.*.error"}, page)
	if err != nil {
		return err
	}
	if err := logs.Publish(ctx, "kitchen.oven.error", "too hot"); err != nil {
		return err
	}
	use(sub)
	return nil
}

func calls(ctx context.Context, bus *patterns.Bus) error {
	prices := patterns.NewRPC[Order, int](bus, "price")
	server, err := prices.Serve(ctx, func(_ context.Context, o Order) (int, error) { return 7 * len(o.Dish), nil })
	if err != nil {
		return err
	}
	price, err := prices.Call(ctx, Order{Dish: "ramen"})
	use(server, price)
	return err
}

func retries(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	sub, err := orders.Work(ctx, ship, patterns.Retry(patterns.RetryPolicy{Attempts: 8, Min: 10 * time.Second, Max: time.Hour}))
	use(sub, err)
}

func tooOld(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	sub, err := orders.Work(ctx, ship, patterns.MaxAge(10*time.Minute))
	use(sub, err)
}

func between(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	sub, err := orders.Work(ctx, ship, patterns.WorkersBetween(2, 64))
	use(sub, err)
}

func redrive(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	n, err := orders.Dead().Redrive(ctx)
	use(n, err)
}

func config(ctx context.Context) (*patterns.Bus, error) {
	cfg, err := amqp.ParseURL("amqps://broker.example.com/shop")
	if err != nil {
		return nil, err
	}
	cfg.Credentials = func(ctx context.Context) (amqp.Credentials, error) {
		password, err := vault.Password(ctx)
		return amqp.Credentials{Username: "shop", Password: amqp.NewSecret(password)}, err
	}
	driver, err := amqp.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return patterns.New(driver), nil
}

func compose(ctx context.Context, user, password string) {
	u := url.URL{
		Scheme: "amqps", Host: "rabbit-1.example.com", Path: "/shop",
		User:     url.UserPassword(user, password),
		RawQuery: url.Values{"address": {"rabbit-2.example.com", "rabbit-3.example.com"}, "name": {"orders"}}.Encode(),
	}
	bus, err := patterns.Open(ctx, u.String())
	use(bus, err)
}

func ready(mux *http.ServeMux, bus *patterns.Bus) {
	mux.Handle("GET /livez", healthhttp.Live(bus))
	mux.Handle("GET /readyz", healthhttp.Ready(bus))
}

type Receipt struct {
	Order string
	Cents int
}

func start(*testing.T, *patterns.Bus) {}

var errNoStreet = errors.New("no such street")

func handler(t *testing.T) {
	ctx := patterns.ContextWithDelivery(t.Context(), patterns.Delivery{ID: "7", Attempt: 2, Headers: map[string]string{"source": "test"}})
	if err := ship(ctx, Order{Dish: "ramen"}); err != nil {
		t.Error(err)
	}
}

func run(t *testing.T) {
	bus, _ := patternstest.NewBus(t, nil)
	order := patternstest.Message[Order]{Value: Order{Dish: "ramen"}, Options: []patterns.PublishOption{patterns.MessageID("7")}}
	got := patternstest.Run(t, bus, order, ship, patterns.NoRetry(), patterns.HandlerTimeout(time.Second))
	if got.Result != patterns.ResultDeadLettered || !errors.Is(got.Err, errNoStreet) {
		t.Errorf("the message was %s: %v", got.Result, got.Err)
	}
}

func service(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, rec := patternstest.NewBus(t, nil)
		start(t, bus)
		if err := patterns.NewWorkQueue[Order](bus, "orders").Send(t.Context(), Order{Dish: "ramen"}); err != nil {
			t.Fatal(err)
		}
		if err := patternstest.WaitIdle(t.Context(), bus); err != nil { // an hour of retries takes no time in a bubble
			t.Fatal(err)
		}
		patternstest.Expect(t, rec, "receipts", Receipt{Order: "7", Cents: 1450})
	})
}

func serviceOnRabbitMQ(t *testing.T) {
	driver, err := adapters.Open(t.Context(), amqptest.Shared(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	bus, rec := patternstest.NewBus(t, driver)
	start(t, bus)
	if err := patterns.NewWorkQueue[Order](bus, "orders").Send(t.Context(), Order{Dish: "ramen"}); err != nil {
		t.Fatal(err)
	}
	if err := patternstest.WaitIdle(t.Context(), bus); err != nil { // through retries, which take their time here
		t.Fatal(err)
	}
	patternstest.Expect(t, rec, "receipts", Receipt{Order: "7", Cents: 1450})
}

func node(t *testing.T) {
	node := amqptest.Private(t, amqptest.Options{Version: "4.3"}) // removed when the test ends
	bus, err := patterns.Open(t.Context(), node.URL)
	use(bus, err)
}

func members(ctx context.Context, orders *patterns.WorkQueue[Order]) {
	sub, err := orders.Work(ctx, ship,
		middleware.Log(nil),
		middleware.RateLimit(100, time.Second, 10),
		middleware.CircuitBreaker(middleware.BreakerConfig{}),
		middleware.Once(middleware.NewMemoryStore(10_000)))
	use(sub, err)
}

func counting() patterns.BusOption {
	results := expvar.NewMap("messages")
	count := patterns.OnSettle(func(_ context.Context, s patterns.Settlement) {
		results.Add(s.Source.Name+" "+string(s.Result), 1)
	})
	return count
}

// What a publisher sees when a confirm is lost runs, for the page says so in so many words.
func TestInjectedFaultOfThePage(t *testing.T) {
	ctx := t.Context()
	broker := memory.New()
	bus := patterns.New(broker.Connect())
	remove := broker.Inject(memory.Fault{On: memory.OnPublish, Name: "orders", Times: 1, Do: memory.DropConfirm})
	defer remove()
	defer bus.Close(ctx)
	orders := patterns.NewWorkQueue[Order](bus, "orders")
	if err := orders.Send(ctx, Order{Dish: "ramen"}); !errors.Is(err, adapters.ErrUnconfirmed) {
		t.Errorf("sent with the error %v, want ErrUnconfirmed", err)
	}
	if q, _ := broker.Queue("orders"); q.Ready != 1 {
		t.Errorf("%d messages wait, want the one that nobody confirmed", q.Ready)
	}
}
