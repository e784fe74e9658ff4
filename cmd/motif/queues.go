package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

var queuesCommand = command{
	name: "queues", args: "[QUEUE...]", short: "show queues: depth, consumers, age, and their dead letters beside",
	long: `
Shows these queues, or all that the user may see. Listing all of RabbitMQ takes its management API:
management=https://host:15671 in the URL's query. AGE is that of the next message; what the broker
does not tell is a question mark.`,
	setup: func(*flag.FlagSet) action { return showQueues },
}

const deadSuffix = ".dead"

func showQueues(ctx context.Context, i *invocation) (err error) {
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	found, dead, err := i.findQueues(ctx, d)
	if err != nil {
		return explainError(err)
	}
	t := table{}
	t.row("QUEUE", "READY", "IN HAND", "CONSUMERS", "AGE", "DEAD")
	for _, q := range found {
		letters := -1
		if n, ok := dead[q.Name+deadSuffix]; ok {
			letters = n
		}
		if i.json {
			if err := i.object(newQueueJSON(q, letters)); err != nil {
				return err
			}
			continue
		}
		there := "-"
		if letters >= 0 {
			there = fmt.Sprint(letters)
		}
		t.row(safe(q.Name, 80), known(q.Ready), known(q.Unacked), known(q.Consumers), queueAge(q), there)
	}
	if i.json {
		return nil
	}
	return i.write(&t)
}

// findQueues returns the queues that the arguments name, or all, and how many letters wait in the
// queues of dead letters, by name.
func (i *invocation) findQueues(ctx context.Context, d adapters.Driver) (found []adapters.QueueInfo, dead map[string]int, err error) {
	dead = map[string]int{}
	if len(i.args) == 0 {
		ops, err := inspector(d, adapters.CanList)
		if err != nil {
			return nil, nil, fmt.Errorf("name the queues, or see motif queues -h: %w", err)
		}
		for q, err := range ops.Queues(ctx) {
			if err != nil {
				return nil, nil, err
			}
			found = append(found, q)
			if strings.HasSuffix(q.Name, deadSuffix) {
				dead[q.Name] = q.Ready
			}
		}
		slices.SortFunc(found, func(a, b adapters.QueueInfo) int { return cmp.Compare(a.Name, b.Name) })
		return found, dead, nil
	}
	ops, err := inspector(d, adapters.CanInspect)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range i.args {
		q, err := ops.Inspect(ctx, name)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, q)
		if !strings.HasSuffix(name, deadSuffix) {
			if letters, err := ops.Inspect(ctx, name+deadSuffix); err == nil {
				dead[letters.Name] = letters.Ready
			}
		}
	}
	return found, dead, nil
}

// queueAge returns the age of the next message, as it is shown.
func queueAge(q adapters.QueueInfo) string {
	switch {
	case q.Ready == 0:
		return "-"
	case q.Oldest.IsZero():
		return "?"
	}
	return deadletters.Short(time.Since(q.Oldest))
}

func known(n int) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// queueJSON is a queue as -json shows it. A number that is not known is absent.
type queueJSON struct {
	Name      string     `json:"name"`
	Ready     *int       `json:"ready,omitempty"`
	Unacked   *int       `json:"in_hand,omitempty"`
	Consumers *int       `json:"consumers,omitempty"`
	Oldest    *time.Time `json:"oldest,omitempty"`
	Dead      *int       `json:"dead,omitempty"`
}

func newQueueJSON(q adapters.QueueInfo, dead int) queueJSON {
	number := func(n int) *int {
		if n < 0 {
			return nil
		}
		return &n
	}
	out := queueJSON{q.Name, number(q.Ready), number(q.Unacked), number(q.Consumers), nil, number(dead)}
	if !q.Oldest.IsZero() {
		out.Oldest = &q.Oldest
	}
	return out
}
