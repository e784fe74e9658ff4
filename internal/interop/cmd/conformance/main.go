// Command conformance runs the conformance suite on each adapter that we
// compare, RabbitMQ's on each version of RabbitMQ, and writes the matrix: as text, JSON, one
// HTML page, and in short into the docs. It fails if one of our own adapters fails.
//
// Adapters that are modules of their own bring their reports: those of our own tests, as JSON.
//
//	conformance -out docs/conformance -page docs/writing-an-adapter.md jetstream.json kafka.json
//	conformance -adapter "RabbitMQ 4.3 quorum"     only this one, or several with commas, as text
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance"
	"github.com/motifmq/motif/internal/conformancetest"
	"github.com/motifmq/motif/internal/interop/peers"
	"github.com/motifmq/motif/internal/kafkatest"
)

func main() {
	out := flag.String("out", "", "write report.txt, report.json and index.html into this `folder`")
	page := flag.String("page", "", "put the table into this `file`, between its marks")
	only := flag.String("adapter", "", "run on this `adapter` only, or on these, with commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *out, *page, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, only, out, page string, files []string) (err error) {
	others, err := read(files)
	if err != nil {
		return err
	}
	columns, closeNodes, err := adapters(ctx)
	defer func() { err = errors.Join(err, closeNodes()) }()
	if err != nil {
		return err
	}
	var matrix conformance.Matrix
	var failed []string
	add := func(r conformance.Report, ours bool) {
		fmt.Println(r.Summary())
		if ours && !r.Passed() {
			failed = append(failed, r.Adapter)
		}
		matrix = append(matrix, r)
	}
	for _, a := range columns {
		if !a.Ours { // all of ours are before them
			for _, r := range others {
				add(r, true)
			}
			others = nil
		}
		if only != "" && !slices.Contains(strings.Split(only, ","), a.Name) {
			continue
		}
		r, err := a.Check(ctx)
		if err != nil {
			return err
		}
		add(r, a.Ours)
		for _, s := range a.Unexplained(r) {
			fmt.Println("  " + s)
		}
	}
	if len(matrix) == 0 {
		return fmt.Errorf("there is no adapter %q", only)
	}
	if out == "" {
		err = matrix.WriteText(os.Stdout)
	} else {
		err = write(matrix, out, page)
	}
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("rules are violated by %s", strings.Join(failed, ", "))
	}
	return err
}

// read returns the reports in files, in that order.
func read(files []string) (all conformance.Matrix, err error) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var m conformance.Matrix
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, m...)
	}
	return all, nil
}

// adapters are the columns: our adapters, RabbitMQ's in each version, and the peers, which have the
// newest. They use nodes, one a version and one of NATS and of Kafka, until these are closed.
func adapters(ctx context.Context) (columns []conformancetest.Adapter, closeNodes func() error, err error) {
	var nodes []io.Closer
	var newest *amqptest.Node
	closeNodes = func() (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.Close())
		}
		return err
	}
	columns = append(columns, conformancetest.Memory())
	for _, version := range amqptest.Versions() {
		node, err := amqptest.Start(ctx, amqptest.Options{Version: version, Management: true})
		if err != nil {
			return nil, closeNodes, err
		}
		nodes, newest = append(nodes, node), node
		columns = append(columns, conformancetest.RabbitMQ(node, amqp.Classic), conformancetest.RabbitMQ(node, amqp.Quorum))
	}
	nats, err := peers.StartNATS()
	if err != nil {
		return nil, closeNodes, err
	}
	nodes = append(nodes, nats)
	kafka, err := kafkatest.Start(ctx)
	if err != nil {
		return nil, closeNodes, err
	}
	nodes = append(nodes, kafka)
	return append(columns, peers.GoChannel(), peers.WatermillAMQP(newest), peers.WatermillNATS(nats), peers.WatermillKafka(kafka)), closeNodes, nil
}

// write writes the matrix without what is another in each run and says nothing
// about an adapter: how long each case took.
func write(matrix conformance.Matrix, out, page string) error {
	for i := range matrix {
		r := &matrix[i]
		r.Began, r.Took = r.Began.UTC().Truncate(24*time.Hour), r.Took.Round(time.Second)
		for j := range r.Results {
			r.Results[j].Took = 0
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, format := range map[string]func(io.Writer) error{
		"report.txt": matrix.WriteText, "report.json": matrix.WriteJSON, "index.html": matrix.WriteHTML,
	} {
		var b bytes.Buffer
		if err := format(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(out, name), b.Bytes(), 0o644); err != nil { //nolint:gosec // for everybody
			return err
		}
	}
	if page == "" {
		return nil
	}
	return conformancetest.UpdateTable(page, matrix)
}
