package model

import (
	"cmp"
	"context"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// inProcess is the world of an in-process broker.
type inProcess struct {
	broker  *memory.Broker
	clients map[string]adapters.Driver

	// wrap, if there is one, is put around the clients, to break them.
	wrap func(adapters.Driver) adapters.Driver
}

func newInProcess(s script) *inProcess {
	options := []memory.Option{memory.RabbitMQ(cmp.Or(s.version, memory.Newest))}
	if s.on == "classic" {
		options = append(options, memory.ClassicQueues())
	}
	return &inProcess{broker: memory.New(options...), clients: make(map[string]adapters.Driver)}
}

func (w *inProcess) client(name string) (adapters.Driver, error) {
	d := w.clients[name]
	if d == nil {
		d = w.broker.Connect()
		if w.wrap != nil {
			d = w.wrap(d)
		}
		w.clients[name] = d
	}
	return d, nil
}

func (w *inProcess) declare(ctx context.Context, s adapters.Source) error {
	c := w.broker.Connect()
	defer c.Close(ctx)
	return c.Declare(ctx, s)
}

func (w *inProcess) unbind(ctx context.Context, s adapters.Source) error {
	c := w.broker.Connect()
	defer c.Close(ctx)
	return c.Unbind(ctx, s)
}

func (w *inProcess) purge(_ context.Context, queue string) (int, error) { return w.broker.Purge(queue) }

func (w *inProcess) deleteQueue(_ context.Context, queue string) error {
	return w.broker.DeleteQueue(queue)
}

func (w *inProcess) cut(_ context.Context, client string) error {
	d, err := w.client(client)
	if err != nil {
		return err
	}
	if u, ok := d.(interface{ unwrap() adapters.Driver }); ok {
		d = u.unwrap()
	}
	d.(*memory.Client).Cut()
	return nil
}

func (w *inProcess) restart(context.Context) error {
	w.broker.Restart()
	return nil
}

// pass costs nothing, for time is virtual.
func (w *inProcess) pass(d time.Duration) { time.Sleep(d + time.Second) }

func (w *inProcess) counts(_ context.Context, label func() map[string]string, _ map[string]counts) (map[string]counts, error) {
	all := make(map[string]counts)
	for name, label := range label() {
		if q, ok := w.broker.Queue(name); ok {
			all[label] = counts{q.Ready, q.Unacked, q.Consumers}
		}
	}
	return all, nil
}

func (w *inProcess) close() { w.broker.Close() }
