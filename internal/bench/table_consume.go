package main

import (
	"fmt"
	"time"

	"github.com/motifmq/motif/patterns"
)

// consuming is about taking messages from a queue in which they wait, and
// acknowledging each after its handler, which has nothing to do.
func consuming() []Workload {
	var all []Workload
	for _, prefetch := range []int{1, 64, 256} {
		w := Workload{
			Name: fmt.Sprintf("consume/prefetch %d", prefetch), Baseline: rawClient + ", ack each",
			Ours: motifHandle(1, prefetch, 0), Theirs: rawHandle(1, prefetch, 0),
		}
		if prefetch == 256 {
			w.Quick, w.Target = true, Target{Rate: 1.3, CPU: 0.8}
		}
		all = append(all, w)
	}
	return append(all, Workload{
		Name: "consume/prefetch 256", Baseline: watermillAMQP,
		Ours: motifHandle(1, 256, 0), Theirs: watermillHandle(1, 256, 0),
	})
}

// handling is about handlers that take their time.
func handling() []Workload {
	var all []Workload
	for _, took := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		for _, workers := range []int{1, 8, 64} {
			name := fmt.Sprintf("handle/%v, %d workers", took, workers)
			prefetch := 2 * workers // the next message is there when one is done
			w := Workload{
				Name: name, Baseline: fmt.Sprintf("%s, %d goroutines", rawClient, workers),
				Ours: motifHandle(workers, prefetch, took), Theirs: rawHandle(workers, prefetch, took),
			}
			if took > 0 {
				w.Warmup = 50 * workers
			}
			if took == time.Millisecond && workers < 64 {
				w.Target, w.Pairs = Target{Rate: 1}, 9 // which differ more than elsewhere
			}
			if took == 5*time.Millisecond && workers == 64 {
				w.Quick, w.Target = true, Target{Rate: 0.98}
			}
			all = append(all, w)
		}
	}
	for _, peer := range []Workload{
		{Baseline: watermillAMQP + " Router", Theirs: watermillHandle(1, 128, 5*time.Millisecond), Target: Target{Rate: 35}, Quick: true},
		{Baseline: watermillAMQP + " Router, 64 handlers", Theirs: watermillHandle(64, 2, 5*time.Millisecond)},
	} {
		peer.Name, peer.Warmup = "handle/5ms, 64 workers", 100
		peer.Ours = motifHandle(64, 128, 5*time.Millisecond)
		all = append(all, peer)
	}
	return all
}

// chains is about the cost of middleware.
func chains() []Workload {
	var all []Workload
	for _, length := range []int{5, 10} {
		w := Workload{
			Name: fmt.Sprintf("middleware/chain of %d", length), Baseline: "no middleware",
			Ours: motifHandle(1, 256, 0, patterns.WithMiddleware(chain(length)...)), Theirs: motifHandle(1, 256, 0),
		}
		if length == 5 {
			w.Quick, w.Target = true, Target{Rate: 0.97}
		}
		all = append(all, w)
	}
	return all
}
