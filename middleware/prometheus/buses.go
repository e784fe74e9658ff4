package prometheus

import (
	"slices"
	"sync"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/motifmq/motif/patterns"
)

// buses are read when metrics are collected, for what they know themselves.
type buses struct {
	lost, timedOut, late, unsent  *prom.Desc
	busy, workers                 *prom.Desc
	up, down, blocked, reconnects *prom.Desc
	label                         func(string) string

	mu     sync.Mutex
	open   []*patterns.Bus
	closed totals // of buses that are
}

// totals are counts that must not fall when a bus is closed.
type totals struct {
	lost, timedOut, late, unsent uint64
	reconnects                   map[string]uint64 // by the connection's role
}

func (b *buses) init(label func(string) string) {
	desc := func(name, help string, labels ...string) *prom.Desc { return prom.NewDesc(name, help, labels, nil) }
	b.label = label
	b.lost = desc("motif_messages_lost_total", "Messages that came back because a worker was lost.")
	b.timedOut = desc("motif_messages_timed_out_total", "Messages that the broker took back, for they were held too long.")
	b.late = desc("motif_replies_late_total", "Replies to calls that nobody waited for any more.")
	b.unsent = desc("motif_replies_lost_total", "Replies that could not be sent to their caller.")
	b.busy = desc("motif_workers_busy", "Workers that have a message in hand.", "source", "group")
	b.workers = desc("motif_workers", "Workers of subscriptions that have not ended.", "source", "group")
	b.up = desc("motif_connections_up", "Connections to the broker that are up.", "role")
	b.down = desc("motif_connections_down", "Connections to the broker that are being made.", "role")
	b.blocked = desc("motif_connections_blocked", "Connections on which the broker takes no messages.", "role")
	b.reconnects = desc("motif_reconnects_total", "Connections that were made again.", "role")
}

func (b *buses) describe(to chan<- *prom.Desc) {
	for _, d := range []*prom.Desc{b.lost, b.timedOut, b.late, b.unsent, b.busy, b.workers, b.up, b.down, b.blocked, b.reconnects} {
		to <- d
	}
}

// add implements the function of [patterns.OnNew].
func (b *buses) add(bus *patterns.Bus) (closed func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = append(b.open, bus)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open = slices.DeleteFunc(b.open, func(one *patterns.Bus) bool { return one == bus })
		b.closed.add(bus.Stats(), bus.Health())
	}
}

func (t *totals) add(s patterns.Stats, h patterns.Health) {
	t.lost += s.Lost
	t.timedOut += s.TimedOut
	t.late += s.LateReplies
	t.unsent += s.LostReplies
	if t.reconnects == nil {
		t.reconnects = map[string]uint64{}
	}
	for _, c := range h.Connections {
		t.reconnects[c.Role] += max(c.Generation, 1) - 1
	}
}

// subscription is what the gauges of workers are about.
type subscription struct{ source, group string }

// collect sends what the buses know, and returns the workers of the subscriptions that have not
// ended.
func (b *buses) collect(to chan<- prom.Metric) (workers map[subscription]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := totals{b.closed.lost, b.closed.timedOut, b.closed.late, b.closed.unsent, map[string]uint64{}}
	for role, n := range b.closed.reconnects {
		all.reconnects[role] = n
	}
	busy := map[subscription]int{}
	workers = map[subscription]int{}
	up, down, blocked := map[string]int{}, map[string]int{}, map[string]int{}
	for _, bus := range b.open {
		h := bus.Health()
		all.add(bus.Stats(), h)
		for _, s := range h.Subscriptions {
			if s.State == patterns.StateEnded {
				continue
			}
			of := subscription{b.label(s.Name), ""}
			if s.Group != "" {
				of.group = b.label(s.Group)
			}
			busy[of] += s.InHand
			workers[of] += s.Workers
		}
		for _, c := range h.Connections {
			up[c.Role] += count(c.Up)
			down[c.Role] += count(!c.Up)
			blocked[c.Role] += count(c.Blocked)
		}
	}
	send := func(d *prom.Desc, kind prom.ValueType, value float64, labels ...string) {
		to <- prom.MustNewConstMetric(d, kind, value, labels...)
	}
	send(b.lost, prom.CounterValue, float64(all.lost))
	send(b.timedOut, prom.CounterValue, float64(all.timedOut))
	send(b.late, prom.CounterValue, float64(all.late))
	send(b.unsent, prom.CounterValue, float64(all.unsent))
	for of, n := range workers {
		send(b.workers, prom.GaugeValue, float64(n), of.source, of.group)
		send(b.busy, prom.GaugeValue, float64(busy[of]), of.source, of.group)
	}
	for role, n := range up {
		send(b.up, prom.GaugeValue, float64(n), role)
		send(b.down, prom.GaugeValue, float64(down[role]), role)
		send(b.blocked, prom.GaugeValue, float64(blocked[role]), role)
	}
	for role, n := range all.reconnects {
		send(b.reconnects, prom.CounterValue, float64(n), role)
	}
	return workers
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
