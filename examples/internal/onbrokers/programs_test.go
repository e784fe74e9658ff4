package onbrokers

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// programs is the folder with the examples, built.
type programs string

func build(t *testing.T) programs {
	t.Helper()
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", folder, "./...")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the examples: %v\n%s", err, out)
	}
	return programs(folder)
}

// patience is how long a program may take, on a machine that has much else to
// do.
const patience = 180 * time.Second

// run runs an example and returns what it printed.
func (p programs) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return p.start(t, name, args...).wait(t)
}

// printed is what examples printed in the process, by their command lines.
var (
	printed   = map[string]string{}
	printedMu sync.Mutex
)

// inProcess returns what an example prints on the broker in the process, which is run once.
func (p programs) inProcess(t *testing.T, name string, args ...string) string {
	t.Helper()
	line := strings.Join(append([]string{name}, args...), " ")
	printedMu.Lock()
	defer printedMu.Unlock()
	if _, ran := printed[line]; !ran {
		printed[line] = p.run(t, name, args...)
	}
	return printed[line]
}

// A process is an example under way.
type process struct {
	cmd    *exec.Cmd
	out    output
	errors bytes.Buffer // once it has ended
	ended  chan struct{}
	err    error // of Wait, then
}

func (p programs) start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	e := &process{cmd: exec.CommandContext(ctx, filepath.Join(string(p), name), args...), ended: make(chan struct{})}
	e.out.changed = make(chan struct{})
	e.cmd.Stdout, e.cmd.Stderr = &e.out, &e.errors
	e.cmd.WaitDelay = time.Second
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.ended)
		e.err = e.cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-e.ended
	})
	return e
}

// wait returns what the example printed, once it has ended well.
func (e *process) wait(t *testing.T) string {
	t.Helper()
	<-e.ended
	if e.err != nil {
		t.Fatalf("%s: %v\n%s%s", e, e.err, e.out.text(), e.errors.String())
	}
	return e.out.text()
}

// interrupt is Ctrl-C.
func (e *process) interrupt(t *testing.T) string {
	t.Helper()
	if err := e.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	return e.wait(t)
}

// until waits until the example has printed something.
func (e *process) until(t *testing.T, printed string) {
	t.Helper()
	for {
		more := e.out.next()
		if strings.Contains(e.out.text(), printed) {
			return
		}
		select {
		case <-more:
		case <-e.ended: // also when its time is up
			if !strings.Contains(e.out.text(), printed) {
				t.Fatalf("%s did not print %q:\n%s%s", e, printed, e.out.text(), e.errors.String())
			}
		}
	}
}

func (e *process) String() string {
	return strings.Join(append([]string{filepath.Base(e.cmd.Path)}, e.cmd.Args[1:]...), " ")
}

// output is what a process has printed so far.
type output struct {
	mu      sync.Mutex
	all     bytes.Buffer
	changed chan struct{} // closed when there is more
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.all.Write(b)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

func (o *output) next() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}
