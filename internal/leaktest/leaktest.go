// Package leaktest fails tests that leave goroutines behind.
package leaktest

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines have to end, beginning anew whenever there are fewer. Only a leak
// takes so long.
const patience = 10 * time.Second

// Main runs a program's tests, and fails if goroutines are left after them, save those that have a
// function of ignored in their stacks, which are names as in "example.com/pkg.(*Type).method". It
// is for TestMain, and does not return.
func Main(m *testing.M, ignored ...string) {
	code := m.Run()
	if code == 0 {
		if err := Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find returns nil once no goroutines are left but the caller's and those that have a function of
// ignored in their stacks, and after some seconds an error that has the stacks of what is left.
func Find(ignored ...string) error { return find(nil, patience, ignored) }

// Goroutines are some that were there at a moment.
type Goroutines []string

// Current returns the goroutines that there are now.
func Current() Goroutines {
	var ids Goroutines
	for _, s := range others() {
		ids = append(ids, s.id)
	}
	return ids
}

// Verify fails a test if goroutines are there that were not when g was made, and do not end.
func (g Goroutines) Verify(t testing.TB) {
	t.Helper()
	if err := find(g, patience, nil); err != nil {
		t.Error(err)
	}
}

func find(known Goroutines, patience time.Duration, ignored []string) error {
	deadline, fewest := time.Now().Add(patience), math.MaxInt
	for ; ; time.Sleep(10 * time.Millisecond) {
		var left []string
		for _, s := range others() {
			if !slices.Contains(known, s.id) && !s.isRuntimes() && !slices.ContainsFunc(ignored, s.has) {
				left = append(left, s.text)
			}
		}
		if left == nil {
			return nil
		}
		if len(left) < fewest && fewest < math.MaxInt {
			deadline = time.Now().Add(patience)
		}
		fewest = min(fewest, len(left))
		if time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines are left:\n\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// stack is a goroutine's, as the runtime writes it: a line with its id and state, then two lines
// for each function, the innermost first.
type stack struct{ id, text string }

func (s stack) has(function string) bool { return strings.Contains(s.text, "\n"+function+"(") }

// isRuntimes reports whether the goroutine is one of the testing package, waiting for a test to
// end, or of os/signal, which never ends.
func (s stack) isRuntimes() bool {
	state, functions, _ := strings.Cut(s.text, "\n")
	innermost := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(functions, name+"(") })
	}
	return strings.Contains(state, "[chan receive") &&
		innermost("testing.(*T).Run", "testing.(*T).Parallel", "testing.runFuzzing", "testing.runFuzzTests") ||
		innermost("os/signal.signal_recv", "os/signal.loop") || s.has("runtime.ensureSigM.func1")
}

// others returns the stacks of all goroutines but this one, which comes first.
func others() []stack {
	buffer := make([]byte, 1<<16)
	n := runtime.Stack(buffer, true)
	for n == len(buffer) {
		buffer = make([]byte, 2*len(buffer))
		n = runtime.Stack(buffer, true)
	}
	var stacks []stack
	for _, text := range bytes.Split(bytes.TrimSpace(buffer[:n]), []byte("\n\n"))[1:] {
		id, _, _ := strings.Cut(strings.TrimPrefix(string(text), "goroutine "), " ")
		stacks = append(stacks, stack{id, string(text)})
	}
	return stacks
}
