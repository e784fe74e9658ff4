package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Result is what the pairs of one workload came to.
type Result struct {
	Workload string  `json:"workload"`
	Baseline string  `json:"baseline"`
	Ratio    float64 `json:"ratio"`               // of messages per second; the median of the pairs, as
	CPURatio float64 `json:"cpu_ratio"`           // of CPU per message
	P50Ratio float64 `json:"p50_ratio,omitempty"` // of the median latency
	Min      float64 `json:"ratio_min"`
	Max      float64 `json:"ratio_max"`
	Pairs    int     `json:"pairs"`
	Took     float64 `json:"took_seconds"`    // all pairs, and the warm-up
	Limit    bool    `json:"limit,omitempty"` // the baseline is what can be had at all
	Target   string  `json:"target,omitempty"`
	Met      *bool   `json:"met,omitempty"`
	Ours     Sample  `json:"ours"` // the median of each figure
	Theirs   Sample  `json:"theirs"`

	// BrokerRatio is of the broker's CPU per message.
	BrokerRatio float64 `json:"broker_cpu_ratio,omitempty"`

	target Target
}

// plan says how much to measure.
type plan struct {
	pairs    int
	duration time.Duration // of each measurement, about
	rounds   int           // for each size of a curve
	quick    bool
	profiles string // where to write profiles to, or ""
	broker   []int  // the processes of the broker, if they are ours
	progress func(format string, args ...any)
}

// measure runs the pairs of a workload.
func (p *plan) measure(ctx context.Context, w *Workload, url string) (result *Result, err error) {
	start := time.Now()
	if w.Broker != nil {
		other, failed := w.Broker(ctx)
		if failed != nil {
			return nil, failed
		}
		defer func() { err = errors.Join(err, other.close()) }()
		here := *p
		here.broker, url, p = []int{other.pid}, other.url, &here
	}
	if w.InProcess {
		here := *p
		here.broker, p = nil, &here
	}
	if w.Prepare != nil {
		undo, err := w.Prepare(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
		defer undo() //nolint:errcheck // the broker goes with all that is in it
	}
	p.progress("warm-up")
	nOurs, err := p.warmUp(ctx, w, url, true)
	if err != nil {
		return nil, err
	}
	nTheirs, err := p.warmUp(ctx, w, url, false)
	if err != nil {
		return nil, err
	}
	var a, b []Sample
	pairs := p.pairsOf(w)
	for i := range pairs {
		ours, err := p.runSide(ctx, w, url, true, nOurs, p.profile(w, "ours", pairs-1-i))
		if err != nil {
			return nil, err
		}
		theirs, err := p.runSide(ctx, w, url, false, nTheirs, p.profile(w, "theirs", pairs-1-i))
		if err != nil {
			return nil, err
		}
		a, b = append(a, ours), append(b, theirs)
		p.progress("%d of %d: %.2fx", i+1, pairs, ours.Rate/theirs.Rate)
	}
	result = compare(w, a, b)
	result.Took = time.Since(start).Seconds()
	return result, nil
}

// pairsOf returns how often each side of a workload runs.
func (p *plan) pairsOf(w *Workload) int {
	switch {
	case w.Pairs > 0 && p.pairs == defaultPairs:
		return w.Pairs
	case w.Pairs == 0 && (w.Target != (Target{}) || w.Limit) && !p.quick:
		return p.pairs + 2 // where a little more or less matters
	}
	return p.pairs
}

// warmUp runs a side until it has worked long enough to tell how many messages
// take as long as a measurement should.
func (p *plan) warmUp(ctx context.Context, w *Workload, url string, ours bool) (int, error) {
	if w.Warmup < 0 {
		return w.Messages, nil
	}
	n := cmp.Or(w.Messages, w.Warmup, 1000)
	for {
		s, err := p.runSide(ctx, w, url, ours, n, "")
		if err != nil {
			return 0, err
		}
		if w.Messages > 0 {
			return n, nil
		}
		enough := max(10, int(s.Rate*p.duration.Seconds()))
		if enough < 8*n {
			return enough, nil
		}
		n = enough
	}
}

// profile is the file for the profile of a pair's side: that of the last pair,
// if any.
func (p *plan) profile(w *Workload, side string, left int) string {
	if p.profiles == "" || left > 0 {
		return ""
	}
	name := strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(w.Name + "-" + w.Baseline + "-" + side)
	return filepath.Join(p.profiles, name+".pprof")
}

// runSide runs one side of a workload in a process of its own.
func (p *plan) runSide(ctx context.Context, w *Workload, url string, ours bool, n int, profile string) (s Sample, err error) {
	err = p.start(ctx, url, ours, &s, "-workload", w.key(), "-messages", strconv.Itoa(n), "-cpuprofile", profile)
	return s, err
}

// start starts this program for one side of something, and reads the line that
// it writes.
func (p *plan) start(ctx context.Context, url string, ours bool, result any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout+10*time.Second)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	side := "theirs"
	if ours {
		side = "ours"
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-side", side}, args...)...)
	cmd.Env = append(os.Environ(), brokerPids+"="+strings.Trim(fmt.Sprint(p.broker), "[]"),
		"AMQP_URL="+url, // it may have a password, which the arguments would show
		began+"="+strconv.FormatInt(time.Now().UnixNano(), 10))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", side, err, said.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return fmt.Errorf("%s wrote %q: %w", side, out.String(), err)
	}
	return nil
}

// compare makes the result of pairs.
func compare(w *Workload, ours, theirs []Sample) *Result {
	ratios := func(of func(Sample) float64) (lowest, middle, highest float64) {
		var all []float64
		for i := range ours {
			all = append(all, of(ours[i])/of(theirs[i]))
		}
		slices.Sort(all)
		return all[0], median(all), all[len(all)-1]
	}
	r := &Result{Workload: w.Name, Baseline: w.Baseline, Limit: w.Limit, Pairs: len(ours), Ours: middle(ours), Theirs: middle(theirs)}
	r.Min, r.Ratio, r.Max = ratios(func(s Sample) float64 { return s.Rate })
	_, r.CPURatio, _ = ratios(func(s Sample) float64 { return s.CPU })
	if r.Ours.Broker > 0 && r.Theirs.Broker > 0 {
		_, r.BrokerRatio, _ = ratios(func(s Sample) float64 { return s.Broker })
	}
	if w.Latency {
		_, r.P50Ratio, _ = ratios(func(s Sample) float64 { return s.P50 })
	}
	if w.Target != (Target{}) {
		met := w.Target.Met(r)
		r.Target, r.Met, r.target = w.Target.String(), &met, w.Target
	}
	return r
}

// middle has the median of each figure.
func middle(samples []Sample) Sample {
	of := func(figure func(Sample) float64) float64 {
		var all []float64
		for _, s := range samples {
			all = append(all, figure(s))
		}
		slices.Sort(all)
		return median(all)
	}
	return Sample{
		Messages:   int(of(func(s Sample) float64 { return float64(s.Messages) })),
		Seconds:    of(func(s Sample) float64 { return s.Seconds }),
		Rate:       of(func(s Sample) float64 { return s.Rate }),
		CPU:        of(func(s Sample) float64 { return s.CPU }),
		Broker:     of(func(s Sample) float64 { return s.Broker }),
		Allocs:     of(func(s Sample) float64 { return s.Allocs }),
		Bytes:      of(func(s Sample) float64 { return s.Bytes }),
		P50:        of(func(s Sample) float64 { return s.P50 }),
		P99:        of(func(s Sample) float64 { return s.P99 }),
		PeakHeap:   of(func(s Sample) float64 { return s.PeakHeap }),
		Memory:     of(func(s Sample) float64 { return s.Memory }),
		Goroutines: of(func(s Sample) float64 { return s.Goroutines }),
	}
}

// median of a sorted list.
func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
