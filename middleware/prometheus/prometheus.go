// Package prometheus has a bus measured for Prometheus, without OpenTelemetry:
//
//	metrics := prometheus.New()
//	registry.MustRegister(metrics)
//	bus, err := patterns.Open(ctx, url, metrics.Instrument())
//
// docs/observability.md lists the metrics, and dashboard.json beside this package shows them in
// Grafana. Labels have few values: the names of queues, exchanges and groups (the first 1000 of a
// Collector, then "_OTHER"), what became of a message, and the kind of an error as
// [middleware.ErrorType] has it.
package prometheus

import (
	"sync"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/motifmq/motif/patterns"
)

// Collector is the metrics of one bus or several. It is a [prom.Collector], safe for concurrent
// use.
type Collector struct {
	sent            *prom.CounterVec
	publishDuration *prom.HistogramVec
	settled         *prom.CounterVec
	handlerDuration *prom.HistogramVec
	timeInQueue     *prom.HistogramVec
	redelivered     *prom.CounterVec
	callDuration    *prom.HistogramVec
	serveDuration   *prom.HistogramVec
	buses           buses

	mu    sync.RWMutex
	names map[string]struct{} // that are labels
}

var (
	// durations are the boundaries in seconds that OpenTelemetry's conventions recommend.
	durations = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

	// ages are those of the time in a queue, which may be days.
	ages = []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600}
)

// New returns a Collector of no bus yet.
func New() *Collector {
	counter := func(name, help string, labels ...string) *prom.CounterVec {
		return prom.NewCounterVec(prom.CounterOpts{Name: name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64, labels ...string) *prom.HistogramVec {
		return prom.NewHistogramVec(prom.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	c := &Collector{
		sent: counter("motif_messages_sent_total",
			"Messages that were published, or whose publish failed.", "operation", "destination", "error"),
		publishDuration: seconds("motif_publish_duration_seconds",
			"Time to publish, until the broker has confirmed it.", durations, "operation", "destination"),
		settled: counter("motif_messages_settled_total",
			"Tries of messages, by what became of them.", "source", "group", "result"),
		handlerDuration: seconds("motif_handler_duration_seconds",
			"Time in handlers and middleware.", durations, "source", "group"),
		timeInQueue: seconds("motif_message_time_in_queue_seconds",
			"Time from publishing to the handler, of messages delivered for the first time.", ages, "source", "group"),
		redelivered: counter("motif_messages_redelivered_total",
			"Messages that may have been delivered before, to a worker that was lost or shut down.", "source", "group"),
		callDuration: seconds("motif_call_duration_seconds",
			"Time of calls, until their reply was there.", durations, "function", "error"),
		serveDuration: seconds("motif_serve_duration_seconds",
			"Time in the handlers of calls.", durations, "function", "error"),
		names: map[string]struct{}{},
	}
	c.buses.init(c.label)
	return c
}

// Instrument returns an option for [patterns.New] and [patterns.Open]. One Collector may have
// several buses. Given first, what the middleware of other options takes is counted as handlers'.
func (c *Collector) Instrument() patterns.BusOption {
	return patterns.BusOptions(
		patterns.OnNew(c.buses.add),
		patterns.OnPublish(c.publish),
		patterns.OnSettle(c.settle),
	)
}

func (c *Collector) vectors() []prom.Collector {
	return []prom.Collector{
		c.sent, c.publishDuration, c.settled, c.handlerDuration, c.timeInQueue, c.redelivered, c.callDuration, c.serveDuration,
	}
}

// Describe implements [prom.Collector].
func (c *Collector) Describe(to chan<- *prom.Desc) {
	for _, v := range c.vectors() {
		v.Describe(to)
	}
	c.buses.describe(to)
}

// Collect implements [prom.Collector].
func (c *Collector) Collect(to chan<- prom.Metric) {
	for of := range c.buses.collect(to) {
		c.settledFromZero(of)
	}
	for _, v := range c.vectors() {
		v.Collect(to)
	}
}

// results are all that may become of a message.
var results = [...]patterns.Result{
	patterns.ResultAcknowledged, patterns.ResultSkipped, patterns.ResultRetried, patterns.ResultDeadLettered,
	patterns.ResultDropped, patterns.ResultRequeued, patterns.ResultStale,
}

// settledFromZero has the counts of a subscription begin at 0: of one that is first seen at 1
// Prometheus knows no increase, and an alert would miss the first dead letter.
func (c *Collector) settledFromZero(of subscription) {
	for _, result := range results {
		c.settled.WithLabelValues(of.source, of.group, string(result))
	}
}

const (
	maxNames = 1000
	other    = "_OTHER"
)

// label returns a name, unless too many are labels already.
func (c *Collector) label(name string) string {
	c.mu.RLock()
	_, known := c.names[name]
	full := len(c.names) >= maxNames
	c.mu.RUnlock()
	switch {
	case known:
		return name
	case full:
		return other
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[name] = struct{}{}
	return name
}
