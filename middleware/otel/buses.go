package otel

import (
	"context"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/motifmq/motif/patterns"
)

// buses are read whenever metrics are collected, for what they know themselves.
type buses struct {
	meter metric.Meter

	mu         sync.Mutex
	registered bool
	open       []*patterns.Bus
	closed     totals // of buses that are
}

// totals are counts that must not fall when a bus is closed.
type totals struct {
	lost, timedOut, late, unsent int64
	reconnects                   map[string]int64 // by the connection's role
}

func (t *totals) add(s patterns.Stats, h patterns.Health) {
	t.lost += int64(s.Lost)          //nolint:gosec // counts
	t.timedOut += int64(s.TimedOut)  //nolint:gosec // counts
	t.late += int64(s.LateReplies)   //nolint:gosec // counts
	t.unsent += int64(s.LostReplies) //nolint:gosec // counts
	if t.reconnects == nil {
		t.reconnects = map[string]int64{}
	}
	for _, c := range h.Connections {
		t.reconnects[c.Role] += int64(max(c.Generation, 1) - 1) //nolint:gosec // a count
	}
}

func (b *buses) init(meter metric.Meter) { b.meter = meter }

// observe has a bus read until it is closed.
func (b *buses) observe(bus *patterns.Bus, d *destinations) (closed func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, bus)
	if !b.registered {
		b.registered = true
		report(b.register(d))
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open = slices.DeleteFunc(b.open, func(one *patterns.Bus) bool { return one == bus })
		b.closed.add(bus.Stats(), bus.Health())
	}
}

// observables are the instruments that are read.
type observables struct {
	lost, timedOut, late, unsent, reconnects  metric.Int64ObservableCounter
	busy, workers, connections, down, blocked metric.Int64ObservableUpDownCounter
}

func (b *buses) register(d *destinations) error {
	var all []metric.Observable
	counter := func(name, unit, about string) metric.Int64ObservableCounter {
		c, err := b.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		report(err)
		all = append(all, c)
		return c
	}
	level := func(name, unit, about string) metric.Int64ObservableUpDownCounter {
		c, err := b.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
		report(err)
		all = append(all, c)
		return c
	}
	o := observables{
		lost:        counter(metricLost, "{message}", "Messages that came back because a worker was lost."),
		timedOut:    counter(metricTimedOut, "{message}", "Messages that the broker took back, for they were held too long."),
		late:        counter(metricLateReplies, "{reply}", "Replies to calls that nobody waited for any more."),
		unsent:      counter(metricLostReplies, "{reply}", "Replies that could not be sent to their caller."),
		reconnects:  counter(metricReconnects, "{connection}", "Connections that were made again."),
		busy:        level(metricBusy, "{worker}", "Workers that have a message in hand."),
		workers:     level(metricWorkers, "{worker}", "Workers of subscriptions that have not ended."),
		connections: level(metricConnections, "{connection}", "Connections to the broker that are up."),
		down:        level(metricConnectionsDown, "{connection}", "Connections to the broker that are being made."),
		blocked:     level(metricBlocked, "{connection}", "Connections on which the broker takes no messages."),
	}
	_, err := b.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		b.read(&o, to, d)
		return nil
	}, all...)
	return err
}

// read observes what the buses know.
func (b *buses) read(o *observables, to metric.Observer, d *destinations) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := totals{b.closed.lost, b.closed.timedOut, b.closed.late, b.closed.unsent, map[string]int64{}}
	for role, n := range b.closed.reconnects {
		all.reconnects[role] = n
	}
	busy, workers := map[*attributes]int64{}, map[*attributes]int64{}
	up, down, blocked := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, bus := range b.open {
		h := bus.Health()
		all.add(bus.Stats(), h)
		for _, s := range h.Subscriptions {
			if s.State == patterns.StateEnded {
				continue
			}
			of := d.at(point{operation: operation{name: "process", kind: typeProcess, destination: s.Name, group: s.Group}})
			busy[of] += int64(s.InHand)
			workers[of] += int64(s.Workers)
		}
		for _, c := range h.Connections {
			up[c.Role] += count(c.Up)
			down[c.Role] += count(!c.Up)
			blocked[c.Role] += count(c.Blocked)
		}
	}
	to.ObserveInt64(o.lost, all.lost)
	to.ObserveInt64(o.timedOut, all.timedOut)
	to.ObserveInt64(o.late, all.late)
	to.ObserveInt64(o.unsent, all.unsent)
	for of, n := range workers {
		to.ObserveInt64(o.workers, n, metric.WithAttributeSet(of.set))
		to.ObserveInt64(o.busy, busy[of], metric.WithAttributeSet(of.set))
	}
	role := func(name string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(keyRole.String(name)))
	}
	for name, n := range up {
		to.ObserveInt64(o.connections, n, role(name))
		to.ObserveInt64(o.down, down[name], role(name))
		to.ObserveInt64(o.blocked, blocked[name], role(name))
	}
	for name, n := range all.reconnects {
		to.ObserveInt64(o.reconnects, n, role(name))
	}
}

func count(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
