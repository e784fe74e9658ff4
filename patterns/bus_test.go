package patterns_test

import (
	"testing"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

func TestOnNew(t *testing.T) {
	var made *patterns.Bus
	closed := 0
	option := patterns.OnNew(func(b *patterns.Bus) func() {
		made = b
		return func() { closed++ }
	})
	bus := patterns.New(memory.New().Connect(), option, patterns.OnNew(func(*patterns.Bus) func() { return nil }))
	if made != bus || closed != 0 {
		t.Errorf("made %p, is %p, closed %d times", made, bus, closed)
	}
	must(t, bus.Close(t.Context()))
	must(t, bus.Close(t.Context()))
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	made = nil
	patterns.New(nil, option)
	if made != nil {
		t.Error("called with a bus that cannot be used")
	}
}
