package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/patterns"
)

// subscriber can subscribe to an exchange again and again: on its connection,
// to a queue of the subscription's own.
type subscriber interface {
	subscribe(ctx context.Context, got func(body []byte)) error
	close(ctx context.Context) error
}

// subscriptions measures a subscriber twice: its cost, and through a tap its
// connections, and how long it takes to be back when those are cut.
func subscriptions(ctx context.Context, r *Run, size int, open opener) (map[string]float64, error) {
	conn, ch, err := dialRaw(r.URL)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := ch.ExchangeDeclare(r.Name, amqp091.ExchangeFanout, true, false, false, false, nil); err != nil {
		return nil, err
	}
	figures := map[string]float64{}
	if err := cost(ctx, r, size, open, figures); err != nil {
		return nil, err
	}
	if err := comeback(ctx, r, size, open, figures); err != nil {
		return nil, err
	}
	return figures, ch.ExchangeDelete(r.Name, false, false)
}

func cost(ctx context.Context, r *Run, size int, open opener, figures map[string]float64) error {
	s, err := open(ctx, r.URL, r.Name)
	if err != nil {
		return err
	}
	if err := s.subscribe(ctx, func([]byte) {}); err != nil { // opens what all of them share
		return err
	}
	heap, goroutines := heapAndStacks(), runtime.NumGoroutine()
	start := time.Now()
	for range size {
		if err := s.subscribe(ctx, func([]byte) {}); err != nil {
			return err
		}
	}
	figures["ready after"] = time.Since(start).Seconds()
	figures["goroutines"] = float64(runtime.NumGoroutine() - goroutines)
	figures["heap and stacks"] = heapAndStacks() - heap
	return s.close(ctx)
}

func comeback(ctx context.Context, r *Run, size int, open opener, figures map[string]float64) error {
	tap, url, err := newTap(ctx, r.URL)
	if err != nil {
		return err
	}
	defer tap.close()
	s, err := open(ctx, url, r.Name)
	if err != nil {
		return err
	}
	for range size {
		if err := s.subscribe(ctx, func([]byte) {}); err != nil {
			return err
		}
	}
	connections, channels := tap.count()
	figures["connections"], figures["channels"] = float64(connections), float64(channels)
	back := tap.awaitConsumers(size)
	start := time.Now()
	tap.cut()
	if err := back.wait(ctx); err != nil {
		return err
	}
	figures["back after a cut"] = time.Since(start).Seconds()
	return s.close(ctx)
}

func heapAndStacks() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// motifSubscriber subscribes on one bus.
type motifSubscriber struct {
	bus *patterns.Bus
	all *patterns.PubSub[[]byte]
}

func motifSubscriptions(ctx context.Context, r *Run, size int) (map[string]float64, error) {
	return subscriptions(ctx, r, size, openMotif)
}

func openMotif(ctx context.Context, url, exchange string) (subscriber, error) {
	_, bus, err := openBus(ctx, url, amqp.Quorum, patterns.Bytes{})
	if err != nil {
		return nil, err
	}
	return &motifSubscriber{bus, patterns.NewPubSub[[]byte](bus, exchange)}, nil
}

func (s *motifSubscriber) subscribe(ctx context.Context, got func([]byte)) error {
	_, err := s.all.Subscribe(ctx, func(_ context.Context, body []byte) error { got(body); return nil })
	return err
}

func (s *motifSubscriber) close(ctx context.Context) error { return s.bus.Close(ctx) }

// rawSubscriber has a channel and a goroutine for each subscription. It
// connects again when the connection is lost, and subscribes again what was.
type rawSubscriber struct {
	url, exchange string
	atOnce        int // how many subscribe again at the same time
	declare       func(ch *amqp091.Channel, i int) (queue string, err error)
	exclusive     bool
	closing       chan struct{}
	closed        chan error

	mu   sync.Mutex
	conn *amqp091.Connection
	all  []func([]byte)
}

func rawSubscriptions(ctx context.Context, r *Run, size int) (map[string]float64, error) {
	return subscriptions(ctx, r, size, openRaw(1))
}

func openRaw(atOnce int) opener {
	return func(_ context.Context, url, exchange string) (subscriber, error) {
		conn, err := amqp091.Dial(url)
		if err != nil {
			return nil, err
		}
		s := &rawSubscriber{url: url, exchange: exchange, atOnce: atOnce, exclusive: true, conn: conn, closing: make(chan struct{}), closed: make(chan error, 1)}
		s.declare = func(ch *amqp091.Channel, _ int) (string, error) {
			queue, err := ch.QueueDeclare("", false, true, true, false, nil)
			if err == nil {
				err = ch.QueueBind(queue.Name, "", s.exchange, false, nil)
			}
			return queue.Name, err
		}
		go func() { s.closed <- s.watch(conn) }()
		return s, nil
	}
}

func (s *rawSubscriber) subscribe(_ context.Context, got func([]byte)) error {
	s.mu.Lock()
	i, conn := len(s.all), s.conn
	s.all = append(s.all, got)
	s.mu.Unlock()
	return s.begin(conn, i, got)
}

func (s *rawSubscriber) begin(conn *amqp091.Connection, i int, got func([]byte)) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	queue, err := s.declare(ch, i)
	if err != nil {
		return err
	}
	if err := ch.Qos(1, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(queue, "", false, s.exclusive, false, false, nil)
	if err != nil {
		return err
	}
	go func() {
		for m := range deliveries {
			got(m.Body)
			_ = m.Ack(false) // it comes again if that failed
		}
	}()
	return nil
}

// watch connects again, and returns when the subscriber is closed.
func (s *rawSubscriber) watch(conn *amqp091.Connection) error {
	for {
		lost := conn.NotifyClose(make(chan *amqp091.Error, 1))
		select {
		case <-lost: //nolint:errcheck // it is told below, whatever the reason
		case <-s.closing:
			return conn.Close()
		}
		var err error
		if conn, err = amqp091.Dial(s.url); err != nil {
			return err
		}
		s.mu.Lock()
		s.conn = conn
		all := slices.Clone(s.all)
		s.mu.Unlock()
		var group errgroup.Group
		group.SetLimit(s.atOnce)
		for i, got := range all {
			group.Go(func() error { return s.begin(conn, i, got) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
}

func (s *rawSubscriber) close(context.Context) error {
	close(s.closing)
	err := <-s.closed
	if errors.Is(err, amqp091.ErrClosed) {
		return nil
	}
	return err
}
