package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/motifmq/motif/internal/rabbitmqtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	quick    bool
	run      string
	pairs    int
	out      string
	profiles string
	list     bool
}

func run(ctx context.Context) error {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "only the main workloads, shorter")
	flag.StringVar(&o.run, "run", "", "only what matches this `regexp`")
	flag.IntVar(&o.pairs, "pairs", 5, "how many `times` each side runs")
	flag.StringVar(&o.out, "out", "", "the `folder` for results and plots; without it the table is all")
	flag.StringVar(&o.profiles, "profiles", "", "a `folder` for CPU profiles of each side's last run")
	flag.BoolVar(&o.list, "list", false, "list the workloads")

	// One side of a pair: what the program starts itself with.
	side := flag.String("side", "", "run one `side` only, ours or theirs, and write what it measured")
	name := flag.String("workload", "", "of which `workload`")
	messages := flag.Int("messages", 2000, "how `many`")
	profile := flag.String("cpuprofile", "", "where to write a profile")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("what is %q?", flag.Arg(0))
	}
	if *side != "" {
		for _, w := range workloads() {
			if w.key() == *name {
				r := &Run{URL: os.Getenv("AMQP_URL"), Name: "bench-" + strconv.Itoa(os.Getpid()), Messages: *messages}
				return child(ctx, &w, *side == "ours", r, *profile, os.Stdout)
			}
		}
		return fmt.Errorf("no workload %q", *name)
	}
	return bench(ctx, o)
}

// bench runs the chosen workloads one after another.
func bench(ctx context.Context, o options) (err error) {
	chosen, err := choose(o)
	if err != nil {
		return err
	}
	if o.list {
		for _, w := range chosen {
			fmt.Println(w.key(), " ", w.Target)
		}
		return nil
	}
	url := os.Getenv("AMQP_URL")
	if url == "" {
		node, err := rabbitmqtest.Start(ctx, rabbitmqtest.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, node.Close()) }()
		url = node.URL
	}
	p := plan{pairs: o.pairs, duration: 700 * time.Millisecond, profiles: o.profiles}
	if o.quick {
		p.duration = 300 * time.Millisecond
	}
	var results []*Result
	var failures []error
	for i, w := range chosen {
		p.progress = func(format string, args ...any) {
			say("[%d/%d] %s: "+format, append([]any{i + 1, len(chosen), w.key()}, args...)...)
		}
		result, err := p.measure(ctx, &w, url)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", w.key(), err))
			continue
		}
		results = append(results, result)
	}
	hush()
	table(os.Stdout, results)
	return errors.Join(failures...)
}

func choose(o options) ([]Workload, error) {
	re, err := regexp.Compile(o.run)
	if err != nil {
		return nil, err
	}
	var chosen []Workload
	for _, w := range workloads() {
		if re.MatchString(w.key()) && (!o.quick || w.Quick) {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no workload matches %q", o.run)
	}
	return chosen, nil
}
