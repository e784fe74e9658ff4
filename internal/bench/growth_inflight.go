package main

import (
	"context"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// patience is longer than answers are held back, however slow the machine is.
const patience = time.Minute

// inFlight measures publishes none of which is confirmed before the last is
// sent: the proxy holds the answers back.
func inFlight(proxy *amqptest.Proxy, publish, confirmed func() error) (map[string]float64, error) {
	before := heapAndStacks()
	proxy.Stall(amqptest.ToClient)
	start := time.Now()
	if err := publish(); err != nil {
		return nil, err
	}
	sent := time.Since(start)
	heap := heapAndStacks() - before
	start = time.Now()
	proxy.Heal()
	if err := confirmed(); err != nil {
		return nil, err
	}
	return map[string]float64{"heap": heap, "sent after": sent.Seconds(), "all confirmed after": time.Since(start).Seconds()}, nil
}

func motifInFlight(ctx context.Context, r *Run, size int) (map[string]float64, error) {
	proxy, err := amqptest.NewProxy(r.URL)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	cfg, err := amqp.ParseURL(proxy.URL(r.URL))
	if err != nil {
		return nil, err
	}
	cfg.MaxInFlight, cfg.Heartbeat = size, patience
	driver, err := amqp.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	bus := patterns.New(driver, patterns.WithCodec(patterns.Bytes{}), patterns.MaxInFlight(size))
	defer bus.Close(ctx)
	queue := patterns.NewWorkQueue[[]byte](bus, r.Name)
	body := make([]byte, small)
	for range 2 { // opens the channel, and is behind it, so that nothing waits for the channel any more
		if err := queue.Send(ctx, body); err != nil {
			return nil, err
		}
	}
	receipts := make([]*patterns.Receipt, size)
	figures, err := inFlight(proxy, func() (err error) {
		for i := range receipts {
			if receipts[i], err = queue.SendAsync(ctx, body); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for _, receipt := range receipts {
			if err := receipt.Wait(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return figures, deleteQueues(ctx, driver, r.Name, r.Name+".dead")
}

func rawInFlight(_ context.Context, r *Run, size int) (map[string]float64, error) {
	proxy, err := amqptest.NewProxy(r.URL)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	conn, err := amqp091.DialConfig(proxy.URL(r.URL), amqp091.Config{Heartbeat: patience})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := declareRaw(ch, r.Name, quorum); err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	body := make([]byte, small)
	confirms := make([]*amqp091.DeferredConfirmation, size)
	figures, err := inFlight(proxy, func() (err error) {
		for i := range confirms {
			if confirms[i], err = ch.PublishWithDeferredConfirm("", r.Name, false, false, rawMessage(body, number(i))); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for _, confirm := range confirms {
			if !confirm.Wait() {
				return errNotConfirmed
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = ch.QueueDelete(r.Name, false, false, false)
	return figures, err
}
