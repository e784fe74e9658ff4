package patterns_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// directDriver hands replies over, as one does whose broker has a way for that.
type directDriver struct {
	*memory.Client
	open func() error // fails, or loses the address before it is told, or is nil

	mu    sync.Mutex
	lost  func(error) // of the last address
	made  int
	queue int // Reply sources subscribed to
}

func (d *directDriver) ReceiveReplies(ctx context.Context, received func(adapters.Delivery), lost func(error)) (string, error) {
	d.mu.Lock()
	d.lost = lost
	d.made++
	open := d.open
	d.mu.Unlock()
	if open != nil {
		if err := open(); err != nil {
			return "", err
		}
	}
	sub, err := d.Client.Subscribe(ctx, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Reply}, Prefetch: 1})
	if err != nil {
		return "", err
	}
	go func() {
		for {
			m, err := sub.Receive(context.Background())
			if err != nil {
				return
			}
			_ = m.Settle(context.Background(), adapters.Ack)
			m.Settler = nil
			received(m)
		}
	}()
	return sub.Address(), nil
}

func (d *directDriver) Subscribe(ctx context.Context, s adapters.Source) (adapters.Subscription, error) {
	if s.Kind == adapters.Reply {
		d.mu.Lock()
		d.queue++
		d.mu.Unlock()
	}
	return d.Client.Subscribe(ctx, s)
}

func (d *directDriver) lose() {
	d.mu.Lock()
	lost := d.lost
	d.mu.Unlock()
	lost(adapters.ErrSessionLost)
}

// counts returns how many addresses were made, and how many of them are queues.
func (d *directDriver) counts() [2]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return [2]int{d.made, d.queue}
}

// direct has callers on a directDriver, and a server whose calls wait if they are for
// less than nothing.
func direct(t *testing.T, open func(*directDriver) error, f func(*testing.T, *directDriver, *patterns.RPC[int, int])) {
	t.Helper()
	bubble(t, func(t *testing.T, bus *patterns.Bus, broker *memory.Broker) {
		d := &directDriver{Client: broker.Connect()}
		if open != nil {
			d.open = func() error { return open(d) }
		}
		callers := patterns.New(d)
		defer callers.Close(t.Context())
		_, err := patterns.NewRPC[int, int](bus, "f").Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			if n < 0 {
				<-ctx.Done()
			}
			return 2 * n, ctx.Err()
		}, patterns.Workers(2))
		must(t, err)
		f(t, d, patterns.NewRPC[int, int](callers, "f"))
	})
}

func TestAnswersAreHandedOver(t *testing.T) {
	direct(t, nil, func(t *testing.T, d *directDriver, rpc *patterns.RPC[int, int]) {
		for n := range 3 {
			got, err := rpc.Call(t.Context(), n)
			if must(t, err); got != 2*n {
				t.Errorf("f(%d) = %d", n, got)
			}
		}
		if made := d.counts(); made != [2]int{1, 0} {
			t.Errorf("addresses and queues: %v", made)
		}
	})
}

// A call that waits fails at once when its address is lost; the next one makes another.
func TestAddressIsLost(t *testing.T) {
	direct(t, nil, func(t *testing.T, d *directDriver, rpc *patterns.RPC[int, int]) {
		start, result := time.Now(), make(chan error, 1)
		go func() { result <- second(rpc.Call(t.Context(), -1)) }()
		synctest.Wait()
		d.lose()
		wantErr(t, "Call", <-result, adapters.ErrSessionLost)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("after %v", waited)
		}
		must(t, second(rpc.Call(t.Context(), 1)))
		if made := d.counts(); made != [2]int{2, 0} {
			t.Errorf("addresses and queues: %v", made)
		}
	})
}

// An address may be lost before it is told: it is no use to anybody.
func TestAddressIsLostAtOnce(t *testing.T) {
	once := false
	direct(t, func(d *directDriver) error {
		if !once {
			once = true
			d.lose()
		}
		return nil
	}, func(t *testing.T, d *directDriver, rpc *patterns.RPC[int, int]) {
		wantErr(t, "Call", second(rpc.Call(t.Context(), 1)), adapters.ErrSessionLost)
		must(t, second(rpc.Call(t.Context(), 1)))
	})
}

// A driver that cannot hand answers over now has a queue for them; any other
// failure is the call's.
func TestAnswersByQueueInstead(t *testing.T) {
	refused := errors.New("refused")
	var err error
	direct(t, func(*directDriver) error { return err }, func(t *testing.T, d *directDriver, rpc *patterns.RPC[int, int]) {
		err = refused
		wantErr(t, "Call", second(rpc.Call(t.Context(), 1)), refused)
		err = &adapters.UnsupportedError{Adapter: "direct"}
		must(t, second(rpc.Call(t.Context(), 1)))
		if made := d.counts(); made != [2]int{2, 1} {
			t.Errorf("addresses and queues: %v", made)
		}
	})
}

// heldDriver confirms answers when it is told to.
type heldDriver struct {
	*memory.Client
	mu   sync.Mutex
	lose bool // what is published asynchronously
	held []func(error)
}

func (d *heldDriver) PublishAsync(ctx context.Context, p adapters.Publication, m *message.Message, done func(error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lose {
		d.held = append(d.held, done)
		return nil
	}
	return d.Client.PublishAsync(ctx, p, m, func(err error) {
		d.held = append(d.held, func(instead error) { done(cmp.Or(instead, err)) })
	})
}

func (d *heldDriver) confirm() (n int) { return d.answer(nil) }

// answer gives what is held back its outcome: its own, or err.
func (d *heldDriver) answer(err error) int {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
	for _, done := range held {
		done(err)
	}
	return len(held)
}

// A request is in hand until its reply is confirmed, or will not be; no worker
// waits for that, but the end of the subscription does.
func TestAnswersAreConfirmedBeforeRequestsAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		d := &heldDriver{Client: broker.Connect()}
		serving, calling := patterns.New(d), patterns.New(broker.Connect())
		defer calling.Close(t.Context())
		ran := 0
		sub, err := patterns.NewRPC[int, int](serving, "f").Serve(t.Context(), func(context.Context, int) (int, error) {
			ran++
			return 0, nil
		}, patterns.Workers(1), patterns.Prefetch(3))
		must(t, err)
		rpc := patterns.NewRPC[int, int](calling, "f")
		for range 4 {
			go func() { must(t, second(rpc.Call(t.Context(), 1))) }()
		}
		synctest.Wait()
		if ran != 3 {
			t.Errorf("%d ran, with room for 3", ran)
		}
		if n := d.confirm(); n != 3 {
			t.Errorf("%d answers", n)
		}
		synctest.Wait()
		if ran != 4 {
			t.Errorf("%d ran once there was room", ran)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- sub.Stop(t.Context()) }()
		synctest.Wait()
		if len(stopped) > 0 {
			t.Error("stopped with a reply on its way")
		}
		start := time.Now()
		must(t, <-stopped) // it is given up
		if waited := time.Since(start); waited != 10*time.Second || serving.Stats().LostReplies != 1 {
			t.Errorf("stopped after %v, %d answers lost", waited, serving.Stats().LostReplies)
		}
		d.confirm() // too late for anything
		must(t, serving.Close(t.Context()))
		if s := serving.Stats(); s.LostReplies != 1 || s.Stale != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// held has a server of one worker, whose replys' confirms are held back, and a
// caller.
func held(t *testing.T, f func(*testing.T, *heldDriver, *memory.Broker, *patterns.Bus, *patterns.Subscription, *patterns.RPC[int, int])) {
	t.Helper()
	bubble(t, func(t *testing.T, calling *patterns.Bus, broker *memory.Broker) {
		d := &heldDriver{Client: broker.Connect()}
		serving := patterns.New(d)
		defer serving.Close(t.Context())
		sub, err := patterns.NewRPC[int, int](serving, "f").Serve(t.Context(), double, patterns.Workers(1), patterns.Prefetch(3))
		must(t, err)
		f(t, d, broker, serving, sub, patterns.NewRPC[int, int](calling, "f"))
	})
}

// An acknowledgement that fails for a moment is tried again, also while the
// subscription is being stopped.
func TestAcknowledgedWhileStopping(t *testing.T) {
	held(t, func(t *testing.T, d *heldDriver, broker *memory.Broker, serving *patterns.Bus, sub *patterns.Subscription, rpc *patterns.RPC[int, int]) {
		must(t, second(rpc.Call(t.Context(), 1)))
		stopped := make(chan error, 1)
		go func() { stopped <- sub.Stop(t.Context()) }()
		synctest.Wait()
		broker.Inject(memory.Fault{On: memory.OnSettle, Do: memory.Refuse, Name: "f", Times: 2})
		d.confirm()
		must(t, <-stopped)
		if s := serving.Stats(); s.Stale != 0 || s.LostReplies != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// An answer whose confirm was lost is sent again: it may not be there.
func TestUnconfirmedAnswersAreSentAgain(t *testing.T) {
	held(t, func(t *testing.T, d *heldDriver, _ *memory.Broker, serving *patterns.Bus, _ *patterns.Subscription, rpc *patterns.RPC[int, int]) {
		d.lose = true
		result := make(chan error, 1)
		go func() { result <- second(rpc.Call(t.Context(), 1)) }()
		synctest.Wait()
		start := time.Now()
		d.answer(adapters.ErrUnconfirmed)
		must(t, <-result)
		if waited := time.Since(start); waited > 0 || serving.Stats().LostReplies != 0 {
			t.Errorf("after %v, %+v", waited, serving.Stats())
		}
	})
}

// What a logger does is not done by who tells the outcome.
func TestOutcomesDoNotWaitForTheLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		logs := make(waitingLog)
		d := &heldDriver{Client: broker.Connect(), lose: true}
		serving, calling := patterns.New(d, patterns.WithLogger(slog.New(logs))), patterns.New(broker.Connect())
		defer calling.Close(t.Context())
		_, err := patterns.NewRPC[int, int](serving, "f").Serve(t.Context(), double)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = second(patterns.NewRPC[int, int](calling, "f").Call(ctx, 1)) }()
		synctest.Wait()
		d.answer(adapters.ErrNacked) // would not return
		logs <- struct{}{}
		cancel()
		synctest.Wait()
		must(t, serving.Close(t.Context()))
	})
}

// waitingLog takes each record when it is told to.
type waitingLog chan struct{}

func (waitingLog) Enabled(context.Context, slog.Level) bool    { return true }
func (l waitingLog) Handle(context.Context, slog.Record) error { <-l; return nil }
func (l waitingLog) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l waitingLog) WithGroup(string) slog.Handler             { return l }

// lossy loses the confirms of answers, but those that are sent alone, and knows how many
// are sent at once.
type lossy struct {
	*memory.Client
	mu            sync.Mutex
	now, most, in int
}

func (d *lossy) PublishAsync(_ context.Context, _ adapters.Publication, _ *message.Message, done func(error)) error {
	done(fmt.Errorf("%w: lost", adapters.ErrUnconfirmed))
	return nil
}

func (d *lossy) Publish(ctx context.Context, p adapters.Publication, m ...*message.Message) error {
	d.mu.Lock()
	d.now++
	d.in++
	d.most = max(d.most, d.now)
	d.mu.Unlock()
	time.Sleep(time.Second)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
	if d.in <= 3 {
		return fmt.Errorf("%w: lost, too", adapters.ErrUnconfirmed)
	}
	if d.now > 0 {
		return fmt.Errorf("%w: not alone", adapters.ErrUnconfirmed)
	}
	return d.Client.Publish(ctx, p, m...)
}

// An answer may be what the broker ends a session for. Those that were lost are sent
// again at once, and those that are lost again one by one, lest they are lost with it.
func TestAnswersAreSentAgainOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T, calling *patterns.Bus, broker *memory.Broker) {
		d := &lossy{Client: broker.Connect()}
		serving := patterns.New(d)
		defer serving.Close(t.Context())
		for _, name := range []string{"f", "g", "h"} {
			_, err := patterns.NewRPC[int, int](serving, name).Serve(t.Context(), double)
			must(t, err)
			go func() { must(t, second(patterns.NewRPC[int, int](calling, name).Call(t.Context(), 1))) }()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.in != 6 || d.most != 3 || serving.Stats().LostReplies != 0 {
			t.Errorf("%d sent again, %d at once, %+v", d.in, d.most, serving.Stats())
		}
	})
}
