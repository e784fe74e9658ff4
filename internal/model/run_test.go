package model

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
)

// A field is a node, with a virtual host for each worker.
type field struct {
	node    *amqptest.Node
	version memory.Version // that imitates it
	vhosts  []*amqptest.VHost
}

func newField(t *testing.T, workers int) *field {
	t.Helper()
	f := &field{node: amqptest.Private(t, amqptest.Options{})}
	f.version = versionOf(t, f.node)
	for i := range workers {
		v, err := f.node.AddVHost(t.Context(), fmt.Sprint("model-", i))
		if err != nil {
			t.Fatal(err)
		}
		f.vhosts = append(f.vhosts, v)
	}
	return f
}

// versionOf returns the version of RabbitMQ that the in-process broker has to imitate.
func versionOf(t *testing.T, n *amqptest.Node) memory.Version {
	t.Helper()
	var full string
	if err := n.Eval(t.Context(), &full, "list_to_binary(rabbit_misc:version())"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []memory.Version{memory.RabbitMQ310, memory.RabbitMQ40, memory.RabbitMQ43} {
		if strings.HasPrefix(full, string(v)+".") {
			return v
		}
	}
	t.Fatalf("there is no imitation of RabbitMQ %s", full)
	return ""
}

// A trial is a script that is played on RabbitMQ, and what came of it.
type trial struct {
	name   string
	script script
	want   history
	diff   *difference
	err    error // it could not be played
	log    string
}

func (tr *trial) bad() bool { return tr.diff != nil || tr.err != nil }

// try plays one script in a virtual host.
func (f *field) try(ctx context.Context, v *amqptest.VHost, tr *trial, restarter func(context.Context) error, patience time.Duration) {
	w, err := newOnRabbitMQ(f.node, v, tr.script.on, restarter)
	if err == nil {
		tr.diff, err = compare(ctx, w, tr.script, tr.want, patience)
		if lost := w.close(); err == nil {
			err = lost
		}
		tr.log = w.log.String()
	}
	tr.err = err
}

// run plays scripts, a worker's one after the other.
func (f *field) run(ctx context.Context, trials []*trial) {
	next := make(chan *trial)
	var wg sync.WaitGroup
	for _, v := range f.vhosts {
		wg.Go(func() {
			for tr := range next {
				f.try(ctx, v, tr, nil, patience)
			}
		})
	}
	for _, tr := range trials {
		next <- tr
	}
	close(next)
	wg.Wait()
}

// runWithRestarts plays scripts that restart the broker: as many at once as
// there are workers, which restart it together.
func (f *field) runWithRestarts(ctx context.Context, trials []*trial, patience time.Duration) {
	for len(trials) > 0 {
		batch := trials[:min(len(trials), len(f.vhosts))]
		trials = trials[len(batch):]
		arrived, left := make(chan chan error), make(chan struct{})
		for i, tr := range batch {
			go func() {
				f.try(ctx, f.vhosts[i], tr, func(ctx context.Context) error {
					done := make(chan error)
					arrived <- done
					return <-done
				}, patience)
				left <- struct{}{}
			}()
		}
		var waiting []chan error
		for playing := len(batch); playing > 0; {
			select {
			case done := <-arrived:
				waiting = append(waiting, done)
			case <-left:
				playing--
			}
			if len(waiting) == playing && playing > 0 {
				err := f.restart(ctx)
				for _, done := range waiting {
					done <- err
				}
				waiting = nil
			}
		}
	}
}

func (f *field) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := f.node.Stop(ctx); err != nil {
		return err
	}
	return f.node.Restart(ctx)
}

// shrink makes the script of a trial as short as it gets and still shows a
// difference: delta debugging, with the first half of the attempts for big pieces.
func shrink(s script, differs func(script) bool) script {
	for size := (len(s.ops) + 1) / 2; size > 0; {
		smaller := false
		for at := 0; at < len(s.ops); {
			without := s
			without.ops = append(append([]op(nil), s.ops[:at]...), s.ops[min(at+size, len(s.ops)):]...)
			if differs(without) {
				s, smaller = without, true
			} else {
				at += size
			}
		}
		if size == 1 && !smaller {
			break
		}
		if size > 1 || !smaller {
			size /= 2
		}
	}
	return s
}
