package faults

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

// Rows run beside each other, so that goroutines are told apart by a label,
// which a goroutine inherits from the one that starts it.
const labelKey = "row"

func label(name string) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels(labelKey, name)))
}

// notOurs are goroutines that a row starts and its drivers have nothing to do
// with. What the tests' broker leaves behind is looked for at the very end.
var notOurs = []string{
	"adapters/amqp/amqptest.",
	"faults.leaked", // who looks
}

// leaked returns the stacks of a row's goroutines that do not end, after some
// time to do so.
func leaked(name string) string {
	var stacks []string
	for range 600 {
		if stacks = labelled(name); stacks == nil {
			return ""
		}
		time.Sleep(50 * time.Millisecond)
	}
	return strings.Join(stacks, "\n\n")
}

func labelled(name string) (stacks []string) {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	want := fmt.Sprintf("%q:%q", labelKey, name)
next:
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if !strings.Contains(stack, want) {
			continue
		}
		for _, other := range notOurs {
			if strings.Contains(stack, other) {
				continue next
			}
		}
		stacks = append(stacks, stack)
	}
	return stacks
}
