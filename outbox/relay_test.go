//go:build unix

package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestStoredIsSentIfCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, db *sql.DB, d Dialect) {
		x := newTrial(t, db, d, Config{})
		orders := patterns.NewWorkQueue[int](x.bus, "orders")
		got := received(x, orders)
		x.relay()
		must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
			must(t, orders.Send(ctx, 1))
			return orders.SendBatch(ctx, []int{2, 3})
		}))
		rolledBack := errors.New("no")
		if err := x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
			must(t, orders.Send(ctx, 4))
			return rolledBack
		}); !errors.Is(err, rolledBack) {
			t.Error(err)
		}
		tx, err := x.db.BeginTx(t.Context(), nil)
		must(t, err)
		must(t, orders.Send(x.box.In(t.Context(), tx), 5))
		must(t, tx.Commit()) // nobody wakes the relay
		await(t, "four orders", func() bool { return len(got()) >= 4 })
		await(t, "no row is left", func() bool { return x.pending() == 0 })
		if fmt.Sprint(got()) != "[1 2 3 5]" {
			t.Error(got())
		}
		must(t, x.box.Migrate(t.Context())) // again
	})
}

// Every verb of every pattern stores, with all its options; and the relay sends what was stored.
func TestEveryVerbStores(t *testing.T) {
	onEach(t, func(t *testing.T, db *sql.DB, d Dialect) {
		x := newTrial(t, db, d, Config{})
		queue := patterns.NewWorkQueue[string](x.bus, "queue", patterns.MaxPriority(9))
		pubsub := patterns.NewPubSub[string](x.bus, "pubsub")
		routed := patterns.NewRouted[string](x.bus, "routed")
		topic := patterns.NewTopic[string](x.bus, "topic")
		exchange := patterns.NewExchange[string](x.bus, "pubsub")
		var mu sync.Mutex
		got := map[string]patterns.Delivery{}
		note := func(ctx context.Context, v string) error {
			mu.Lock()
			defer mu.Unlock()
			got[v], _ = patterns.DeliveryFrom(ctx)
			return nil
		}
		_, err := queue.Work(context.Background(), note)
		must(t, err)
		_, err = pubsub.Subscribe(context.Background(), note)
		must(t, err)
		_, err = routed.Subscribe(context.Background(), []string{"key"}, note)
		must(t, err)
		_, err = topic.Subscribe(context.Background(), []string{"a.*"}, note)
		must(t, err)
		x.relay()
		must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
			return errors.Join(
				queue.Send(ctx, "send", patterns.MessageID("Ä'1"), patterns.Header("kopf", "wert\x00é"), patterns.Priority(3), patterns.TTL(time.Hour),
					patterns.Type("t"), patterns.AppID("a"), patterns.Transient()),
				queue.Send(ctx, "delayed", patterns.Delay(50*time.Millisecond)),
				queue.SendBatch(ctx, []string{"batch1", "batch2"}, patterns.Header("both", "yes")),
				pubsub.Publish(ctx, "published"),
				pubsub.PublishBatch(ctx, []string{"p1", "p2"}),
				routed.Publish(ctx, "key", "routed", patterns.Mandatory()),
				topic.Publish(ctx, "a.b", "topical"),
				exchange.Publish(ctx, "", "exchanged"),
				patterns.NewWorkQueue[string](x.bus, "queue", patterns.MaxPriority(9), patterns.Compress(patterns.Gzip)).Send(ctx, strings.Repeat("z", 10_000)),
			)
		}))
		await(t, "all of them", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 11 })
		s := got["send"]
		if s.ID != "Ä'1" || s.Headers["kopf"] != "wert\x00é" || s.Priority != 3 || s.Type != "t" || s.AppID != "a" || time.Since(s.PublishedAt) > time.Hour {
			t.Errorf("%+v", s)
		}
		if d := got["topical"]; d.Key != "a.b" {
			t.Errorf("%+v", d)
		}
	})
}

// What cannot be stored is refused, and says so.
func TestRefusedVerbs(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	queue := patterns.NewWorkQueue[int](x.bus, "queue", patterns.MaxLength(1))
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
		_, async := queue.SendAsync(ctx, 1)
		_, call := patterns.NewRPC[int, int](x.bus, "f").Call(ctx, 1)
		for what, err := range map[string]error{
			"asynchronous publish": async, "call": call,
			"WaitForRoom": queue.Send(ctx, 1, patterns.WaitForRoom()),
			"UTF-8":       queue.Send(ctx, 1, patterns.Header("h", "\xff")),
		} {
			if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v", what, err)
			}
		}
		return nil
	}))
	if n := x.pending(); n != 0 {
		t.Errorf("%d rows", n)
	}
	for what, err := range map[string]error{
		"no database": second(New(nil, SQLite, Config{})), "unknown": second(New(x.db, 7, Config{})),
		"table": second(New(x.db, SQLite, Config{Table: "a b"})), "Batch": second(New(x.db, SQLite, Config{Batch: -1})),
	} {
		if !errors.Is(err, adapters.ErrInvalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// lateDriver is told later what became of its asynchronous publishes, as with a broker elsewhere.
type lateDriver struct {
	adapters.Driver
	confirms chan func()
	refused  func() // called when a message has been refused, or nil
}

func newLateDriver(t *testing.T, d adapters.Driver) *lateDriver {
	late := &lateDriver{Driver: d, confirms: make(chan func(), 10_000)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case confirm := <-late.confirms:
				time.Sleep(time.Millisecond)
				confirm()
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return late
}

func (d *lateDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	err := d.Publish(ctx, p, m)
	if failed, ok := errors.AsType[*adapters.PublishError](err); ok {
		err = failed.Failed[0].Err
	}
	if errors.Is(err, adapters.ErrNacked) && d.refused != nil {
		d.refused()
	}
	d.confirms <- func() { done(err) }
	return nil
}

// A queue that refuses keeps its order, and holds up no other.
func TestRefusingQueueKeepsOrder(t *testing.T) {
	onEach(t, func(t *testing.T, db *sql.DB, d Dialect) {
		x := newTrial(t, db, d, Config{})
		x.bus = patterns.New(newLateDriver(t, x.broker.Connect()))
		t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
		full := patterns.NewWorkQueue[int](x.bus, "full", patterns.MaxLength(3))
		other := patterns.NewWorkQueue[int](x.bus, "other")
		got := received(x, other)
		must(t, full.Declare(t.Context()))
		x.relay()
		var want []int
		must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
			for i := range 20 {
				want = append(want, i)
				if err := errors.Join(full.Send(ctx, i), other.Send(ctx, i)); err != nil {
					return err
				}
			}
			return nil
		}))
		await(t, "the other queue has all", func() bool { return slices.Equal(got(), want) })
		await(t, "the full queue is known", func() bool {
			s, err := x.box.Stats(t.Context())
			must(t, err)
			return s.Pending == 17 && len(s.Waiting) == 1 && s.Waiting[0].To.Name == "full" && errors.Is(s.Waiting[0].Err, adapters.ErrNacked) && s.Oldest > 0
		})
		gotFull := received(x, full)
		await(t, "the full queue gets the rest", func() bool { return len(gotFull()) == 20 })
		if !slices.Equal(gotFull(), want) {
			t.Error(gotFull())
		}
	})
}

// silentDriver does not say whether the broker has what went to one queue until it is told to, as
// for a quorum queue that has lost its majority.
type silentDriver struct {
	adapters.Driver
	queue string

	mu     sync.Mutex
	held   []func()
	spoken bool
}

func (d *silentDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	err := d.Publish(ctx, p, m)
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.To.Name == d.queue && !d.spoken {
		d.held = append(d.held, func() { done(err) })
		return nil
	}
	done(err)
	return nil
}

func (d *silentDriver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// speak says what became of all, and of what comes from then on.
func (d *silentDriver) speak() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spoken = true
	for _, done := range d.held {
		done()
	}
}

// A queue that does not answer holds up no other, gets no copies meanwhile, and keeps its order.
func TestSilentQueue(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t, open(t, driver, dsn), SQLite, Config{Batch: 10})
		silent := &silentDriver{Driver: x.broker.Connect(), queue: "silent"}
		x.bus = patterns.New(silent)
		t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
		queues := map[string]*patterns.WorkQueue[int]{}
		got := map[string]func() []int{}
		for _, name := range []string{"silent", "other"} {
			queues[name] = patterns.NewWorkQueue[int](x.bus, name)
			got[name] = received(x, queues[name])
		}
		send := func(name string, from, to int) {
			must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
				for i := from; i < to; i++ {
					if err := queues[name].Send(ctx, i); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		send("silent", 0, 20)
		x.relay()
		time.Sleep(2 * grace)
		for i := range 10 { // beside the silent one, at once
			send("other", i, i+1)
			time.Sleep(100 * time.Millisecond)
			if len(got["other"]()) != i+1 {
				t.Fatalf("%d: %v", i, got["other"]())
			}
		}
		if n := silent.count(); n != 10 {
			t.Errorf("%d messages are on their way to the silent queue, not a batch", n)
		}
		s, err := x.box.Stats(t.Context())
		must(t, err)
		if s.Pending != 20 || len(s.Waiting) != 1 || !errors.Is(s.Waiting[0].Err, adapters.ErrUnconfirmed) || !s.Relaying {
			t.Errorf("%+v", s)
		}
		if owner := owner(x); owner == "" {
			t.Error("it has left its place, so that another would send copies")
		}
		time.Sleep(10 * time.Minute)
		if n := silent.count(); n < 12 || n > 16 { // tries, each after twice as long
			t.Errorf("%d are on their way to the silent queue", n)
		}
		send("other", 10, 11)
		time.Sleep(2 * grace)
		if all := got["other"](); len(all) != 11 {
			t.Error(all)
		}
		silent.speak()
		time.Sleep(10 * time.Second)
		next := 0
		for _, i := range got["silent"]() {
			if i > next {
				t.Fatalf("%d came before %d: %v", i, next, got["silent"]())
			}
			next = max(next, i+1)
		}
		if s, err := x.box.Stats(t.Context()); err != nil || next != 20 || s.Pending != 0 || len(s.Waiting) != 0 {
			t.Errorf("%d, %+v, %v", next, s, err)
		}
		if owner := owner(x); owner != "" {
			t.Errorf("%q is the leader of nothing", owner)
		}
	})
}

// What is confirmed while a relay stops is not sent again.
func TestSilentQueueAtAShutdown(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	synctest.Test(t, func(t *testing.T) {
		x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
		silent := &silentDriver{Driver: x.broker.Connect(), queue: "silent"}
		x.bus = patterns.New(silent)
		t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
		q := patterns.NewWorkQueue[int](x.bus, "silent")
		must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.SendBatch(ctx, []int{1, 2, 3}) }))
		stop := x.relay()
		time.Sleep(2 * grace)
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		synctest.Wait()
		silent.speak()
		<-stopped
		if s, err := x.box.Stats(t.Context()); err != nil || s.Pending != 0 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

func owner(x *trial) (name string) {
	must(x, x.db.QueryRowContext(x.Context(), "SELECT owner FROM motif_outbox_leader").Scan(&name))
	return name
}

// A queue that has room again just after it has refused a message does not get the next one first.
func TestRefusedMessageIsNotOvertaken(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	late, consumer := newLateDriver(t, x.broker.Connect()), x.bus
	x.bus = patterns.New(late)
	t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
	q := patterns.NewWorkQueue[int](x.bus, "q", patterns.MaxLength(3))
	var mu sync.Mutex
	var got []int
	waiting := patterns.NewWorkQueue[int](consumer, "q", patterns.MaxLength(3))
	take := func() {
		mu.Lock()
		defer mu.Unlock()
		if m, err := waiting.TryGet(context.Background()); err == nil {
			got = append(got, m.Value)
			must(t, m.Ack(context.Background()))
		}
	}
	late.refused = take
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.SendBatch(ctx, []int{0, 1, 2, 3, 4, 5, 6, 7}) }))
	x.relay()
	await(t, "no row is left", func() bool { return x.pending() == 0 })
	for range 3 {
		take()
	}
	if fmt.Sprint(got) != "[0 1 2 3 4 5 6 7]" {
		t.Error(got)
	}
}

// A message that fails does not let others overtake it, whatever the failure is.
func TestNothingOvertakes(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	db := open(t, driver, dsn)
	for name, effect := range map[string]memory.Effect{"unavailable": memory.Refuse, "lost confirm": memory.DropConfirm, "cut": memory.CutSession} {
		t.Run(name, func(t *testing.T) {
			x := newTrial(t, db, SQLite, Config{Table: "motif_" + strings.ReplaceAll(name, " ", "_")})
			q := patterns.NewWorkQueue[int](x.bus, "q")
			must(t, q.Declare(t.Context()))
			must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
				for i := range 300 {
					if err := q.Send(ctx, i); err != nil {
						return err
					}
				}
				return nil
			}))
			x.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q", Skip: 100, Times: 3, Do: effect})
			x.relay()
			got := received(x, q)
			await(t, "the last one", func() bool { all := got(); return len(all) > 0 && all[len(all)-1] == 299 })
			next := 0
			for _, i := range got() {
				if i > next {
					t.Fatalf("%d came before %d: %v", i, next, got())
				}
				next = max(next, i+1)
			}
		})
	}
}

// What cannot be sent is parked, in nobody's way, and can be sent again.
func TestPoisonIsParked(t *testing.T) {
	onEach(t, func(t *testing.T, db *sql.DB, d Dialect) {
		told := make(chan Parked, 10)
		x := newTrial(t, db, d, Config{Attempts: 2, OnPark: func(_ context.Context, p Parked) { told <- p }})
		topic := patterns.NewTopic[string](x.bus, "topic")
		q := patterns.NewWorkQueue[string](x.bus, "q")
		got := received(x, q)
		must(t, x.box.Do(t.Context(), func(ctx context.Context, tx *sql.Tx) error {
			must(t, topic.Publish(ctx, "nobody", "unroutable", patterns.Mandatory(), patterns.MessageID("u")))
			must(t, q.Send(ctx, "first"))
			must(t, q.Send(ctx, "second"))
			_, err := tx.ExecContext(ctx, "UPDATE motif_outbox SET envelope = 'garbage' WHERE id = 2")
			return err
		}))
		x.relay()
		await(t, "the second", func() bool { return slices.Equal(got(), []string{"second"}) })
		await(t, "nothing is pending", func() bool { return x.pending() == 0 })
		parked, err := x.box.Parked(t.Context(), 0, 10)
		must(t, err)
		if len(parked) != 2 || parked[0].Message != "u" || !strings.Contains(parked[0].Reason, "unroutable") || parked[0].Attempts != 2 ||
			parked[0].To != (adapters.Endpoint{Kind: adapters.Topic, Name: "topic"}) || string(parked[0].Payload) != `"unroutable"` || !strings.Contains(parked[1].Reason, "envelope") {
			t.Fatalf("%+v", parked)
		}
		for range 2 {
			<-told
		}
		got2 := make(chan string, 10)
		_, err = topic.Subscribe(context.Background(), []string{"#"}, func(_ context.Context, v string) error { got2 <- v; return nil })
		must(t, err)
		if n, err := x.box.Resend(t.Context(), parked[0].ID, 99); n != 1 || err != nil {
			t.Error(n, err)
		}
		if v := <-got2; v != "unroutable" {
			t.Error(v)
		}
		if n, err := x.box.Discard(t.Context(), parked[0].ID, parked[1].ID); n != 1 || err != nil {
			t.Error(n, err)
		}
		await(t, "the counts", func() bool {
			s, err := x.box.Stats(t.Context())
			must(t, err)
			return s.Pending == 0 && s.Parked == 0 && s.NewParked == 2 && s.Sent == 2
		})
	})
}

// Of several relays one sends at a time; if it goes without a word another takes over.
func TestOneLeader(t *testing.T) {
	onEach(t, func(t *testing.T, db *sql.DB, d Dialect) {
		x := newTrial(t, db, d, Config{Poll: 5 * time.Millisecond})
		x.box.lease = 3 * time.Second // on a machine that stands still for so long another begins beside it
		_, err := db.ExecContext(t.Context(), "UPDATE motif_outbox_leader SET owner = 'a process that is gone', beat = 7")
		must(t, err)
		q := patterns.NewWorkQueue[int](x.bus, "q")
		got := received(x, q)
		for range 3 {
			x.relay()
		}
		const count = 200
		for i := range count {
			must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, i) }))
		}
		await(t, "all", func() bool { return len(got()) >= count })
		await(t, "nothing is pending", func() bool { return x.pending() == 0 })
		if all := got(); len(all) != count || !slices.IsSorted(all) {
			t.Errorf("%d: %v", len(all), all)
		}
	})
}

// Messages for a queue that has other properties by now were accepted, and go to it as it is.
func TestMismatchedQueueGetsItsMessages(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	got := received(x, patterns.NewWorkQueue[int](x.bus, "q", patterns.MaxLength(100)))
	before := patterns.NewWorkQueue[int](x.bus, "q")
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return before.SendBatch(ctx, []int{1, 2, 3}) }))
	x.relay()
	await(t, "all, and no row", func() bool { return fmt.Sprint(got()) == "[1 2 3]" && x.pending() == 0 })
}

// A closed bus ends the relay, and nothing is lost.
func TestRunOnAClosedBus(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	q := patterns.NewWorkQueue[int](x.bus, "q")
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.Send(ctx, 1) }))
	must(t, x.bus.Close(t.Context()))
	if err := x.box.Run(t.Context(), x.bus); !errors.Is(err, adapters.ErrClosed) {
		t.Error(err)
	}
	if err := x.box.Run(t.Context(), nil); !errors.Is(err, adapters.ErrInvalid) {
		t.Error(err)
	}
	if n := x.pending(); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// A leader that lost its place does no harm: what it sent is deleted, and it begins again.
func TestDeposedLeader(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	x.box.lease = 100 * time.Millisecond
	q := patterns.NewWorkQueue[int](x.bus, "q")
	got := received(x, q)
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error { return q.SendBatch(ctx, []int{1, 2}) }))
	slow := x.broker.Inject(memory.Fault{On: memory.OnPublish, Name: "q", Delay: time.Hour})
	x.relay()
	await(t, "it has the rows in hand", func() bool { return len(got()) > 0 })
	_, err := x.db.ExecContext(t.Context(), "UPDATE motif_outbox_leader SET owner = 'another'")
	must(t, err)
	slow()
	await(t, "all, and no row", func() bool { return len(got()) >= 2 && x.pending() == 0 })
	if fmt.Sprint(got()) != "[1 2]" {
		t.Error(got())
	}
}

// lossyDriver loses its connection in the middle of an asynchronous publish. What comes next waits
// for the next connection, as long as its ctx allows; that comes only when the loss was told.
type lossyDriver struct {
	adapters.Driver
	left int           // publishes until then
	up   chan struct{} // nil until then
}

func (d *lossyDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	if d.left--; d.left == 0 {
		d.up = make(chan struct{})
		time.AfterFunc(20*time.Millisecond, func() { done(adapters.ErrUnconfirmed); close(d.up) })
		return nil
	}
	if d.up != nil {
		<-d.up
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	done(d.Publish(ctx, p, m))
	return nil
}

// A publish that waits for the next connection does not overtake the one that was lost with the
// last.
func TestNothingOvertakesWhatWasLost(t *testing.T) {
	driver, dsn := newDatabase(t, SQLite)
	x := newTrial(t, open(t, driver, dsn), SQLite, Config{})
	x.bus = patterns.New(&lossyDriver{Driver: x.broker.Connect(), left: 5})
	t.Cleanup(func() { must(t, x.bus.Close(context.Background())) })
	q := patterns.NewWorkQueue[int](x.bus, "q")
	must(t, x.box.Do(t.Context(), func(ctx context.Context, _ *sql.Tx) error {
		return q.SendBatch(ctx, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	}))
	x.relay()
	got := received(x, q)
	await(t, "all", func() bool { return len(got()) >= 10 })
	if all := got(); !slices.IsSorted(all) {
		t.Error(all)
	}
}

func TestDelayAndTTLCountFromTheStore(t *testing.T) {
	for _, c := range []struct{ delay, ttl, waited, wantDelay, wantTTL time.Duration }{
		{0, 0, time.Minute, 0, 0},
		{time.Hour, 0, time.Minute, 59 * time.Minute, 0},
		{time.Hour, time.Minute, 30 * time.Minute, 30 * time.Minute, time.Minute},
		{time.Minute, time.Hour, 2 * time.Minute, 0, 59 * time.Minute},
		{0, time.Minute, time.Hour, 0, time.Millisecond},
		{time.Minute, 0, -time.Hour, time.Minute, 0}, // a clock that was set back
	} {
		p := adapters.Publication{Delay: c.delay, Properties: adapters.Properties{TTL: c.ttl}}
		if age(&p, c.waited); p.Delay != c.wantDelay || p.TTL != c.wantTTL {
			t.Errorf("%+v: %v, %v", c, p.Delay, p.TTL)
		}
	}
}
