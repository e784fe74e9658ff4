package conformance

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

// labelKey is the label of a case's goroutines, which a goroutine inherits from
// the one that starts it.
const labelKey = "conformance"

// inHook marks the label while a hook runs: what a broker starts then is not
// the adapter's.
const inHook = " in a hook"

// label labels this goroutine, and those that it will start.
func (t *trial) label(mark string) {
	pprof.SetGoroutineLabels(pprof.WithLabels(t.ctx, pprof.Labels(labelKey, t.suffix+mark)))
}

// apart returns a harness whose hooks start goroutines that do not count as the
// case's.
func (t *trial) apart(h *Harness) *Harness {
	in := *h
	if h.Restart != nil {
		in.Restart = func(ctx context.Context) error {
			t.label(inHook)
			defer t.label("")
			return h.Restart(ctx)
		}
	}
	pair := func(begin func(context.Context) (func() error, error)) func(context.Context) (func() error, error) {
		return func(ctx context.Context) (func() error, error) {
			t.label(inHook)
			defer t.label("")
			return begin(ctx)
		}
	}
	if h.Freeze != nil {
		in.Freeze = pair(func(ctx context.Context) (func() error, error) { return h.Freeze(ctx) })
	}
	if h.Block != nil {
		in.Block = pair(func(ctx context.Context) (func() error, error) { return h.Block(ctx) })
	}
	return &in
}

// leaks looks for goroutines of the case that do not end, after some time to
// do so.
func (t *trial) leaks() {
	var left []string
	for range 500 {
		if left = t.goroutines(""); left == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.errorf("goroutines are left after all clients were closed:\n%s", strings.Join(left, "\n"))
}

// goroutines returns the stacks of the case's goroutines with that mark, but
// for its own.
func (t *trial) goroutines(mark string) (stacks []string) {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	want := fmt.Sprintf("%q:%q", labelKey, t.suffix+mark)
	for stack := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(stack, want) && !strings.Contains(stack, "conformance.(*trial).executeWithin") {
			stacks = append(stacks, readable(stack))
		}
	}
	return stacks
}

// readable makes a stack of the goroutine profile one line a function, without
// addresses and folders.
func readable(stack string) string {
	count, frames, _ := strings.Cut(stack, " @")
	lines := []string{count + " in"}
	for line := range strings.Lines(frames) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "#" {
			function, _, _ := strings.Cut(f[2], "+0x")
			lines = append(lines, frame(function, f[3]))
		}
	}
	return strings.Join(lines, "\n")
}

// callers returns the stack of the function that panicked, for a deferred one
// that has recovered.
func callers() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var lines []string
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			lines = append(lines, frame(f.Function, fmt.Sprintf("%s:%d", f.File, f.Line)))
		}
		if !more {
			return strings.Join(lines, "\n")
		}
	}
}

func frame(function, where string) string {
	return fmt.Sprintf("  %s (%s)", path.Base(function), path.Base(where))
}
