//go:build unix

package patterns_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/motifmq/motif/patterns"
)

// BenchmarkOrderByKey handles messages of 1,000 keys on 64 workers, with and without order. On a
// busy machine the CPU time says more than the clock.
func BenchmarkOrderByKey(b *testing.B) {
	for name, opts := range map[string][]patterns.WorkOption{
		"ordered": {patterns.OrderBy(byKey)},
		"none":    nil,
	} {
		b.Run(name, func(b *testing.B) {
			bus, _ := newBus(b)
			jobs := patterns.NewWorkQueue[step](bus, "jobs")
			for n := range b.N {
				if _, err := jobs.SendAsync(b.Context(), step{fmt.Sprint("key", n%1000), n / 1000}); err != nil {
					b.Fatal(err)
				}
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan struct{})
			b.ReportAllocs()
			before := cpuTime(b)
			b.ResetTimer()
			sub, err := jobs.Work(b.Context(), func(context.Context, step) error {
				if left.Add(-1) == 0 {
					close(done)
				}
				return nil
			}, append(opts, patterns.Workers(64), patterns.Prefetch(256))...)
			if err != nil {
				b.Fatal(err)
			}
			<-done
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			must(b, sub.Stop(b.Context()))
		})
	}
}

// cpuTime is what this process has used, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
