package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
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
	page     string
	list     bool
	version  string
	nodes    int
}

const defaultPairs = 4

func run(ctx context.Context) error {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "only the main workloads, shorter")
	flag.StringVar(&o.run, "run", "", "only what matches this `regexp`")
	flag.IntVar(&o.pairs, "pairs", defaultPairs, "how many `times` each side runs")
	flag.StringVar(&o.version, "rabbitmq", "", "the `version` of RabbitMQ, such as 4.3; without it MOTIF_RABBITMQ, or the newest")
	flag.IntVar(&o.nodes, "nodes", 1, "how many `nodes` the broker has; with 3 each quorum queue is on all of them")
	flag.StringVar(&o.out, "out", "", "the `folder` for results and plots; without it the tables are all")
	flag.StringVar(&o.page, "page", "", "the `place` of a table of ratios to be replaced, FILE#TARGET")
	flag.StringVar(&o.profiles, "profiles", "", "a `folder` for CPU profiles of each side's last run")
	flag.BoolVar(&o.list, "list", false, "list what there is to measure")

	// What the program starts itself with.
	var c childOptions
	flag.StringVar(&c.side, "side", "", "run one `side` only, ours or theirs, and write what it measured")
	flag.StringVar(&c.workload, "workload", "", "of which `workload`")
	flag.IntVar(&c.messages, "messages", 2000, "how `many`")
	flag.StringVar(&c.profile, "cpuprofile", "", "where to write a profile")
	flag.StringVar(&c.curve, "curve", "", "or of which `curve`")
	flag.IntVar(&c.size, "size", 1, "and its `size`")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("what is %q?", flag.Arg(0))
	case o.nodes < 1:
		return fmt.Errorf("a broker of %d nodes", o.nodes)
	case c.side == serveSide:
		return serveNATS()
	case c.side != "":
		return c.run(ctx)
	}
	return bench(ctx, o)
}

// serveSide has the program be a server of NATS.
const serveSide = "serve"

// Environment variables for a process that measures: the processes of the broker, and when it was
// itself started.
const (
	brokerPids = "MOTIF_BENCH_BROKER"
	began      = "MOTIF_BENCH_BEGAN"
)

// childOptions say what a process has to measure alone.
type childOptions struct {
	side, workload string
	messages       int
	profile        string
	curve          string
	size           int
}

func (c *childOptions) run(ctx context.Context) error {
	r := &Run{URL: os.Getenv("AMQP_URL"), Name: "bench-" + strconv.Itoa(os.Getpid()), Messages: c.messages}
	for _, text := range strings.Fields(os.Getenv(brokerPids)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		r.Broker = append(r.Broker, pid)
	}
	if ns, err := strconv.ParseInt(os.Getenv(began), 10, 64); err == nil {
		r.Began = time.Unix(0, ns)
	}
	for _, w := range workloads() {
		if w.key() == c.workload {
			return child(ctx, &w, c.side == "ours", r, c.profile, os.Stdout)
		}
	}
	for _, curve := range curves() {
		if curve.Name == c.curve {
			return growChild(ctx, &curve, c.side == "ours", r, c.size, os.Stdout)
		}
	}
	return fmt.Errorf("no workload %q, no curve %q", c.workload, c.curve)
}

// bench measures what is chosen, one after another.
func bench(ctx context.Context, o options) (err error) {
	chosen, grown, err := choose(o)
	if err != nil {
		return err
	}
	if o.list {
		for _, w := range chosen {
			fmt.Println(w.key(), "  ", w.Target)
		}
		for _, c := range grown {
			fmt.Println(c.Name, "/", c.Baseline)
		}
		return nil
	}
	url, pids := os.Getenv("AMQP_URL"), []int(nil)
	if url == "" && needBroker(chosen, grown) {
		say("starting RabbitMQ")
		nodes, err := amqptest.StartCluster(ctx, amqptest.Options{Version: o.version}, o.nodes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, nodes[0].Close()) }()
		url = nodes[0].URL
		for _, node := range nodes {
			pids = append(pids, node.Pid())
		}
	}
	report := &Report{Machine: describeMachine(url)}
	if len(pids) > 1 {
		report.Machine.Broker += fmt.Sprintf(", a cluster of %d nodes", len(pids))
	}
	p := plan{pairs: o.pairs, duration: 500 * time.Millisecond, rounds: 2, profiles: o.profiles, quick: o.quick, broker: pids}
	if o.quick {
		p.duration = 160 * time.Millisecond
	}
	err = p.all(ctx, report, chosen, grown, url)
	hush()
	report.Print(os.Stdout)
	if o.out != "" {
		err = errors.Join(err, report.Write(o.out))
	}
	if o.page != "" && err == nil {
		err = report.updatePage(o.page)
	}
	return err
}

// all measures everything. One that fails is in the error, and stops none.
func (p *plan) all(ctx context.Context, report *Report, chosen []Workload, grown []Curve, url string) error {
	var failures []error
	measure := func(i int, name string, one func() error) {
		p.progress = func(format string, args ...any) {
			say("[%d/%d] %s: "+format, append([]any{i + 1, len(chosen) + len(grown), name}, args...)...)
		}
		if ctx.Err() != nil {
			return
		}
		if err := one(); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", name, err))
		}
	}
	for i, w := range chosen {
		measure(i, w.key(), func() error {
			result, err := p.measure(ctx, &w, url)
			if err == nil {
				report.Results = append(report.Results, result)
			}
			return err
		})
	}
	for i, c := range grown {
		measure(len(chosen)+i, c.Name, func() error {
			growths, err := p.grow(ctx, &c, url)
			report.Growths = append(report.Growths, growths...)
			return err
		})
	}
	return errors.Join(append(failures, ctx.Err())...)
}

func choose(o options) (chosen []Workload, grown []Curve, err error) {
	re, err := regexp.Compile(o.run)
	if err != nil {
		return nil, nil, err
	}
	for _, w := range workloads() {
		if re.MatchString(w.key()) && (!o.quick || w.Quick) {
			chosen = append(chosen, w)
		}
	}
	for _, c := range curves() {
		if re.MatchString(c.Name) && !o.quick {
			grown = append(grown, c)
		}
	}
	if len(chosen)+len(grown) == 0 {
		return nil, nil, fmt.Errorf("nothing matches %q", o.run)
	}
	return chosen, grown, nil
}

func needBroker(chosen []Workload, grown []Curve) bool {
	return slices.ContainsFunc(chosen, func(w Workload) bool { return !w.InProcess && w.Broker == nil }) ||
		slices.ContainsFunc(grown, func(c Curve) bool { return !c.InProcess })
}
