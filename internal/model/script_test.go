package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// A history is what came of a script.
type history []step

// inMemory plays a script where it is decided what is determined. Time is
// virtual.
func inMemory(t *testing.T, s script) (h history) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newInProcess(s)
		defer w.close()
		p := newPlayer(w, s)
		p.rules = newRules(p, s)
		play := func(o op) {
			step, err := p.play(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			h = append(h, step)
		}
		for _, o := range s.ops {
			play(o)
		}
		// In the end, look into every queue: what is left, and in which order.
		for _, label := range slices.Sorted(maps.Keys(p.rules.counts)) {
			if n := p.rules.due(label); n > 0 {
				play(op{verb: "take", name: label, n: n})
			}
			for range p.rules.counts[label].Ready {
				play(op{verb: "get", source: adapters.Source{Endpoint: adapters.Endpoint{Name: label}, Passive: true}})
			}
		}
	})
	return h
}

// A difference is the step at which two histories part.
type difference struct {
	at        int
	want, got step
	clients   string // what the consumers said of themselves afterwards
}

func (d *difference) String() string {
	return fmt.Sprintf("in step %d, in process:\n%s\non RabbitMQ:\n%s\n%s", d.at+1, d.want, d.got, d.clients)
}

// compare plays what h is the history of in another world, up to the first
// difference.
func compare(ctx context.Context, w world, s script, h history, patience time.Duration) (*difference, error) {
	p := newPlayer(w, s)
	p.patience = patience
	for i := range h {
		got, err := p.play(ctx, h[i].op, &h[i])
		if err != nil {
			return nil, fmt.Errorf("step %d: %s: %w", i+1, h[i].op, err)
		}
		if got.String() != h[i].String() {
			return &difference{at: i, want: h[i], got: got, clients: p.ask(ctx)}, nil
		}
	}
	return nil, nil
}

// ask asks each consumer how it is: whether it has a message, or why there is
// none.
func (p *player) ask(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.consumers)) {
		if c := p.consumers[name]; !c.over {
			d, err := c.sub.Receive(ctx)
			if err == nil {
				fmt.Fprintf(&b, "%s could receive: %s\n", name, describe(d))
			} else {
				fmt.Fprintf(&b, "%s at %q could not receive: %v\n", name, c.sub.Address(), err)
			}
		}
	}
	return b.String()
}
