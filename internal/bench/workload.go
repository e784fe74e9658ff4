package main

import (
	"context"
	"fmt"
	"math"
	"strings"
)

// A Workload is something to do, that two sides do in turn.
type Workload struct {
	Name     string // group/what
	Baseline string // whom ours is compared with
	Ours     Side
	Theirs   Side
	Target   Target
	Limit    bool // the baseline is not what others do, but what can be had at all
	Quick    bool // one of the main ones
	Warmup   int  // messages of the warm-up; 0: 1000, or Messages; -1: none, for it would take too long
	Messages int  // of each run; 0: as many as take long enough
	Pairs    int  // where 4, or 6 with a target, are not what is needed for so much; 0: they are
	Latency  bool // what one message takes means something here

	InProcess bool // it takes no broker

	// Broker starts another broker than RabbitMQ, for all pairs.
	Broker func(context.Context) (*otherBroker, error)

	// Prepare makes at the broker what both sides use, once for all pairs.
	Prepare func(ctx context.Context, url string) (undo func() error, err error)
}

// otherBroker is one that is no RabbitMQ.
type otherBroker struct {
	url   string
	pid   int
	close func() error
}

// A Side does a workload in its own way: it prepares, calls r.Start, passes
// r.Messages messages, calls r.Stop, and cleans up.
type Side func(ctx context.Context, r *Run) error

// Group is the first part of the workload's name: what is on one plot.
func (w *Workload) Group() string {
	group, _, _ := strings.Cut(w.Name, "/")
	return group
}

// key tells rows apart.
func (w *Workload) key() string { return w.Name + " / " + w.Baseline }

// A Target is what the ratios to the baseline should be; 0 is none.
type Target struct {
	Rate   float64 // at least
	CPU    float64 // at most, of CPU per message
	Broker float64 // at most, of the broker's CPU per message
	P50    float64 // at most, of the median latency

	// At most, of ours, whatever the ratio: time, allocations and bytes for a message.
	Micros, Allocs, Bytes float64
}

func (t Target) String() string {
	var parts []string
	for _, p := range []struct {
		format string
		value  float64
	}{{">= %gx", t.Rate}, {"CPU <= %gx", t.CPU}, {"broker CPU <= %gx", t.Broker}, {"p50 <= %gx", t.P50}, {"<= %g us", t.Micros}, {"<= %g allocations", t.Allocs}, {"<= %g B", t.Bytes}} {
		if p.value != 0 {
			parts = append(parts, fmt.Sprintf(p.format, p.value))
		}
	}
	return strings.Join(parts, ", ")
}

// Met reports whether a result meets the target.
func (t Target) Met(r *Result) bool {
	return (t.Rate == 0 || r.Ratio >= t.Rate) && (t.CPU == 0 || r.CPURatio <= t.CPU) && (t.Broker == 0 || r.BrokerRatio > 0 && r.BrokerRatio <= t.Broker) && (t.P50 == 0 || r.P50Ratio <= t.P50) &&
		(t.Micros == 0 || 1e6/r.Ours.Rate <= t.Micros) &&
		(t.Allocs == 0 || math.Round(r.Ours.Allocs) <= t.Allocs) && (t.Bytes == 0 || r.Ours.Bytes <= t.Bytes)
}

// workloads is the table of all, group by group.
func workloads() []Workload {
	var all []Workload
	for _, group := range [][]Workload{
		publishing(), consuming(), handling(), endToEnd(), fanout(), topics(), calling(), delayed(), failing(), declaring(), starting(), subscribing(),
		inProcess(), chains(), observed(), ordered(), onNATS(), onKafka(),
	} {
		all = append(all, group...)
	}
	return all
}
