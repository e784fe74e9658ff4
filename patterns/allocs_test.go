package patterns_test

import (
	"context"
	"testing"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// TestHandlingAllocates: what a message costs from Send to its handler and its acknowledgement does
// not grow unnoticed. Its delivery alone is 250 bytes, if it is ever captured.
func TestHandlingAllocates(t *testing.T) {
	for name, opts := range map[string][]patterns.WorkOption{
		"in any order": nil,
		"in order":     {patterns.OrderBy(func([]byte) string { return "key" })},
	} {
		t.Run(name, func(t *testing.T) {
			bus := patterns.New(memory.New().Connect(), patterns.WithCodec(patterns.Bytes{}))
			defer bus.Close(t.Context())
			queue := patterns.NewWorkQueue[[]byte](bus, "orders")
			handled := make(chan struct{})
			if _, err := queue.Work(t.Context(), func(context.Context, []byte) error { handled <- struct{}{}; return nil }, opts...); err != nil {
				t.Fatal(err)
			}
			body := make([]byte, 100)
			n := testing.AllocsPerRun(1000, func() {
				if err := queue.Send(t.Context(), body); err != nil {
					t.Fatal(err)
				}
				<-handled
			})
			if n > 10 { // 9 without the race detector
				t.Errorf("%v allocations", n)
			}
		})
	}
}
