package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"
)

// A Run is one side of one pair, in a process of its own.
type Run struct {
	URL      string // of the broker
	Name     string // for queues: no other run has it
	Messages int    // to be passed
	Broker   []int  // its processes, if they are ours

	// Began is when the process was started, for what begins with it.
	Began time.Time

	// Latencies has a place for what each message took, for workloads where that
	// means something. Each place is written by one goroutine.
	Latencies []time.Duration

	// Idle says that next to nothing happens: heap and goroutines are looked at rarely, for that
	// would be most of what is measured.
	Idle bool

	profile io.Writer // of the CPU, or nil
	before  usage
	peak    *peak
	sample  Sample
}

// A Sample is what a run measured.
type Sample struct {
	Messages   int     `json:"messages"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"messages_per_second"`
	CPU        float64 `json:"cpu_us"`                  // per message, as are
	Broker     float64 `json:"broker_cpu_us,omitempty"` // of the broker's process
	Allocs     float64 `json:"allocs"`
	Bytes      float64 `json:"bytes"`
	P50        float64 `json:"p50_us,omitempty"`
	P99        float64 `json:"p99_us,omitempty"`
	PeakHeap   float64 `json:"peak_heap_bytes"`
	Memory     float64 `json:"memory_bytes"` // that the process had from the system at the end
	Goroutines float64 `json:"goroutines"`   // at the peak
}

// Start begins what is measured.
func (r *Run) Start() error {
	runtime.GC()
	r.peak = r.watchPeak()
	if r.profile != nil {
		if err := pprof.StartCPUProfile(r.profile); err != nil {
			return err
		}
	}
	broker, err := r.brokerCPU() // outside of what is measured, as in Stop
	if err != nil {
		return err
	}
	r.before = use()
	r.before.broker = broker
	return nil
}

// StartWithProcess has what is measured begin with the process itself.
func (r *Run) StartWithProcess() error {
	broker, err := r.brokerCPU() // it has not heard of us yet
	if err != nil {
		return err
	}
	r.peak = r.watchPeak()
	r.before = usage{at: r.Began, broker: broker}
	return nil
}

// Stop ends it.
func (r *Run) Stop() {
	after := use()
	after.broker, _ = r.brokerCPU() // as Start could
	if r.profile != nil {
		pprof.StopCPUProfile()
	}
	n, seconds := float64(r.Messages), after.at.Sub(r.before.at).Seconds()
	r.sample = Sample{
		Messages: r.Messages,
		Seconds:  seconds,
		Rate:     n / seconds,
		CPU:      float64((after.cpu - r.before.cpu).Microseconds()) / n,
		Broker:   micros(after.broker-r.before.broker) / n,
		Allocs:   float64(after.allocs-r.before.allocs) / n,
		Bytes:    float64(after.bytes-r.before.bytes) / n,
	}
	r.sample.PeakHeap, r.sample.Goroutines = r.peak.stop()
	r.sample.Memory = memoryInUse()
	if slices.Sort(r.Latencies); len(r.Latencies) > 0 {
		r.sample.P50 = micros(percentile(r.Latencies, 50))
		r.sample.P99 = micros(percentile(r.Latencies, 99))
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// percentile is the smallest of the sorted list that so many percent do not
// exceed.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)-1)*percent/100]
}

// usage is what the process has used up so far.
type usage struct {
	at            time.Time
	cpu, broker   time.Duration
	allocs, bytes uint64
}

// brokerCPU returns what the broker has used up, 0 if that cannot be known: of a broker that is not
// ours, or on another system than Linux.
func (r *Run) brokerCPU() (all time.Duration, err error) {
	for _, pid := range r.Broker {
		used, err := cpuOf(pid)
		if errors.Is(err, errors.ErrUnsupported) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		all += used
	}
	return all, nil
}

// memoryInUse is what the process has from the system and has not given back.
func memoryInUse() float64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return float64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

func use() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		panic(err) // it has no other reason than wrong arguments
	}
	return usage{at: time.Now(), cpu: time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), allocs: m.Mallocs, bytes: m.TotalAlloc}
}

// peak watches heap and goroutines from beside.
type peak struct {
	halt, done       chan struct{}
	heap, goroutines uint64
}

func (r *Run) watchPeak() *peak {
	p := &peak{halt: make(chan struct{}), done: make(chan struct{})}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	often := 5 * time.Millisecond
	if r.Idle {
		often = time.Second
	}
	tick := time.NewTicker(often)
	go func() {
		defer close(p.done)
		defer tick.Stop()
		for {
			metrics.Read(samples)
			p.heap = max(p.heap, samples[0].Value.Uint64())
			p.goroutines = max(p.goroutines, samples[1].Value.Uint64())
			select {
			case <-tick.C:
			case <-p.halt:
				return
			}
		}
	}()
	return p
}

func (p *peak) stop() (heap, goroutines float64) {
	close(p.halt)
	<-p.done
	return float64(p.heap), float64(p.goroutines - 1) // itself
}

// runTimeout is far more than any run takes.
const runTimeout = 4 * time.Minute

// child does one side of a workload, and writes what it measured as a line of
// JSON.
func child(ctx context.Context, w *Workload, ours bool, r *Run, profile string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		r.profile = f
	}
	if w.Latency {
		r.Latencies = make([]time.Duration, r.Messages)
	}
	side := w.Theirs
	if ours {
		side = w.Ours
	}
	if err := side(ctx, r); err != nil {
		return err
	}
	if r.sample.Messages == 0 {
		return fmt.Errorf("%s measured nothing", w.key())
	}
	return json.NewEncoder(out).Encode(r.sample)
}
