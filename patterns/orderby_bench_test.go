package patterns_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/motifmq/motif/patterns"
)

// BenchmarkOrderByKey handles messages of 1,000 keys on 64 workers, with and without order.
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
			must(b, sub.Stop(b.Context()))
		})
	}
}
