package faults

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/motifmq/motif/conformance/trial"
	"github.com/motifmq/motif/patterns"
)

// keysVar tells a worker to work on a queue with partitions.
const keysVar = "MOTIF_FAULTS_KEYS"

const partitionCount, prefetch = 3, 16

// byKey makes the partitions of a queue whose messages are as "k3:7", the eighth of a key.
func byKey() patterns.WorkQueueOption { return patterns.Partitions(partitionCount, keyOf) }

func keyOf(text string) string { return text[:strings.IndexByte(text, ':')] }

// keyReport is what a worker tells of a message, and waits until it was heard.
type keyReport struct {
	Event string // ready, begin, done, failed, stopped
	Text  string
}

// workByKey works until it is told to stop, by an 's' or the end of what it reads.
func workByKey(url, queue string) error {
	ctx := context.Background()
	bus, err := patterns.Open(ctx, url)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	heard, over := make(chan struct{}), make(chan struct{})
	go func() {
		answers := bufio.NewReader(os.Stdin)
		for {
			switch c, err := answers.ReadByte(); {
			case err != nil:
				os.Exit(1)
			case c == 's':
				close(over)
			default:
				heard <- struct{}{}
			}
		}
	}()
	tell := func(event, text string) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(keyReport{event, text})
		<-heard
	}
	_, err = patterns.NewWorkQueue[string](bus, queue, byKey()).Work(ctx, func(ctx context.Context, text string) error {
		tell("begin", text)
		select {
		case <-time.After(rand.N(10 * time.Millisecond)): // the work
		case <-ctx.Done():
			tell("failed", text)
			return ctx.Err()
		}
		if rand.IntN(20) == 0 {
			tell("failed", text)
			return errors.New("failed")
		}
		tell("done", text)
		return nil
	}, patterns.Workers(4), patterns.Prefetch(prefetch), patterns.Retry(patterns.RetryPolicy{Attempts: 1000, Min: time.Millisecond, Max: 10 * time.Millisecond}))
	if err != nil {
		return err
	}
	tell("ready", "")
	<-over
	err = bus.Close(ctx)
	tell("stopped", "")
	return err
}

// keysAcross checks the order of keys as several processes tell of it. A message may be handled
// again, and later than those behind it. But before one begins for the first time, all those before
// it have been done.
type keysAcross struct {
	mu      sync.Mutex
	running map[string]string // by process and key
	begun   map[string]int    // how many of a key
	done    map[string]bool
	by      map[int]int // how many each process did
	again   int
	wrong   []string
	news    chan struct{}
}

func newKeysAcross() *keysAcross {
	return &keysAcross{running: map[string]string{}, begun: map[string]int{}, done: map[string]bool{}, by: map[int]int{}, news: make(chan struct{}, 1)}
}

func (o *keysAcross) hear(process int, r keyReport) {
	defer func() {
		select {
		case o.news <- struct{}{}:
		default:
		}
	}()
	if r.Text == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key := keyOf(r.Text)
	in := fmt.Sprint(process, " ", key)
	switch r.Event {
	case "begin":
		if other, ok := o.running[in]; ok {
			o.wrong = append(o.wrong, fmt.Sprintf("%s begins while %s runs, in process %d", r.Text, other, process))
		}
		o.running[in] = r.Text
		n, _ := strconv.Atoi(r.Text[len(key)+1:])
		for m := o.begun[key]; m < n; m++ {
			o.wrong = append(o.wrong, fmt.Sprintf("%s begins in process %d, and %d has not", r.Text, process, m))
		}
		if n >= o.begun[key] && n > 0 && !o.done[fmt.Sprint(key, ":", n-1)] {
			o.wrong = append(o.wrong, fmt.Sprintf("%s begins in process %d, and the one before is not done", r.Text, process))
		}
		o.begun[key] = max(o.begun[key], n+1)
	case "done":
		delete(o.running, in)
		if o.done[r.Text] {
			o.again++
		}
		o.done[r.Text] = true
		o.by[process]++
	case "failed":
		delete(o.running, in)
	}
}

// await waits for something, as long as anything is told.
func (o *keysAcross) await(t *testing.T, what string, over func() bool) {
	t.Helper()
	for {
		o.mu.Lock()
		isOver := over()
		o.mu.Unlock()
		if isOver {
			return
		}
		select {
		case <-o.news:
		case <-time.After(trial.Patience):
			t.Fatalf("waited in vain until %s: %v did so many", what, o.by)
		}
	}
}

// keyWorker is a process.
type keyWorker struct {
	number         int
	cmd            *exec.Cmd
	in             io.Writer
	ready, stopped chan struct{} // closed when it says so
	gone           chan struct{}
}

func startKeyWorker(t *testing.T, number int, url, queue string, order *keysAcross) *keyWorker {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &keyWorker{number: number, cmd: exec.CommandContext(context.Background(), program), ready: make(chan struct{}), stopped: make(chan struct{}), gone: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), urlVar+"="+url, keysVar+"="+queue)
	if os.Getenv("MOTIF_FAULTS_LOG") != "" {
		w.cmd.Stderr = os.Stderr
	}
	in, err := w.cmd.StdinPipe()
	w.in = in
	out, failed := w.cmd.StdoutPipe()
	if err := cmp.Or(err, failed); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.gone)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r keyReport
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				t.Errorf("process %d said %q: %v", number, lines.Text(), err)
				continue
			}
			switch r.Event {
			case "ready":
				close(w.ready)
			case "stopped":
				close(w.stopped)
			}
			order.hear(number, r)
			_, _ = w.in.Write([]byte{'.'})
		}
		_ = w.cmd.Wait() // it was killed
	}()
	t.Cleanup(w.kill)
	return w
}

func (w *keyWorker) await(t *testing.T, what string, said <-chan struct{}) {
	t.Helper()
	select {
	case <-said:
	case <-w.gone:
		t.Fatalf("process %d has ended before it is %s", w.number, what)
	case <-time.After(trial.Patience):
		t.Fatalf("process %d is not %s", w.number, what)
	}
}

func (w *keyWorker) kill() {
	_ = w.cmd.Process.Kill()
	<-w.gone
}

// TestPartitionsAcrossProcesses: one process is killed -9 and another stands still for longer than
// its session lasts, both while they hold partitions; the broker is killed -9; and one is replaced
// as in a rolling deploy. Each key keeps its order, and nothing is lost.
func TestPartitionsAcrossProcesses(t *testing.T) {
	t.Parallel()
	const keys, most, queue = 12, 60, "parted"
	n := startNode(t)
	order := newKeysAcross()
	number := 0
	start := func() *keyWorker {
		number++
		return startKeyWorker(t, number, n.URL(), queue, order)
	}
	works := func(w *keyWorker) {
		t.Helper()
		order.mu.Lock()
		before := order.by[w.number]
		order.mu.Unlock()
		order.await(t, fmt.Sprint("process ", w.number, " works"), func() bool { return order.by[w.number] > before+2 })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*trial.Patience)
	defer cancel()
	bus, err := patterns.Open(ctx, n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close(context.Background())
	jobs := patterns.NewWorkQueue[string](bus, queue, byKey())
	halt, sent := make(chan struct{}), make(chan int, 1)
	go func() {
		i := 0
		defer func() { sent <- i }()
		for ; ctx.Err() == nil; i++ {
			for ahead := most; ahead >= most; {
				select {
				case <-time.After(time.Millisecond):
				case <-halt:
					return
				}
				order.mu.Lock()
				ahead = i - len(order.done)
				order.mu.Unlock()
			}
			text := fmt.Sprintf("k%d:%d", i%keys, i/keys)
			for jobs.Send(ctx, text, patterns.MessageID(text)) != nil && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond) // the broker is away
			}
		}
	}()

	killed, frozen := start(), start()
	killed.await(t, "ready", killed.ready)
	frozen.await(t, "ready", frozen.ready)
	works(killed)
	works(frozen) // it has got its share
	rest := start()
	rest.await(t, "ready", rest.ready)
	works(rest)
	if err := frozen.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	killed.kill()
	order.mu.Lock()
	before := make(map[string]int)
	for key, n := range order.begun {
		before[key] = n
	}
	order.mu.Unlock()
	order.await(t, "all keys go on", func() bool {
		for i := range keys {
			key := fmt.Sprint("k", i)
			if order.begun[key] < before[key]+3 {
				return false
			}
		}
		return true
	})
	if err := frozen.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	works(frozen)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	works(rest)
	last := start()
	last.await(t, "ready", last.ready)
	_, _ = rest.in.Write([]byte{'s'})
	rest.await(t, "stopped", rest.stopped)
	works(last)

	close(halt)
	all := <-sent
	order.await(t, "all are done", func() bool { return len(order.done) == all })
	order.mu.Lock()
	defer order.mu.Unlock()
	for _, text := range order.wrong[:min(len(order.wrong), 10)] {
		t.Error(text)
	}
	if most := 10 * partitionCount * prefetch; order.again > most { // what was in hand ten times
		t.Errorf("%d were handled again: more than one process has a partition", order.again)
	}
	t.Logf("%d messages: lost 0, handled again %d, out of order %d; by process %v", all, order.again, len(order.wrong), order.by)
}
