// Command conformance runs the conformance suite on each adapter that we
// compare, RabbitMQ's on each version of RabbitMQ, and writes the matrix: as text, JSON, one
// HTML page, and in short into the docs. It fails if one of our own adapters fails.
//
//	conformance -out docs/conformance -page docs/writing-an-adapter.md
//	conformance -adapter "RabbitMQ 4.3 quorum"     only this one, as text
//	conformance -adapter kafka -out docs/conformance -page docs/writing-an-adapter.md
//
// The last one keeps what the report says of all others.
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
)

func main() {
	out := flag.String("out", "", "write report.txt, report.json and index.html into this `folder`")
	page := flag.String("page", "", "put the table into this `file`, between its marks")
	only := flag.String("adapter", "", "run on this `adapter` only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *out, *page); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, only, out, page string) (err error) {
	columns, closeNodes, err := adapters(ctx, only)
	defer func() { err = errors.Join(err, closeNodes()) }()
	if err != nil {
		return err
	}
	var matrix conformance.Matrix
	var failed []string
	for _, a := range columns {
		if only != "" && only != a.Name {
			continue
		}
		r, err := a.Check(ctx)
		if err != nil {
			return err
		}
		fmt.Println(r.Summary())
		if a.Ours && !r.Passed() {
			failed = append(failed, a.Name)
		}
		for _, s := range a.Unexplained(r) {
			fmt.Println("  " + s)
		}
		matrix = append(matrix, r)
	}
	if len(matrix) == 0 {
		return fmt.Errorf("there is no adapter %q", only)
	}
	if only != "" && out != "" {
		if matrix, err = merged(matrix[0], out); err != nil {
			return err
		}
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

// adapters are the columns: our adapters, RabbitMQ's in each version, and the peers,
// which have the newest. They use nodes, one a version, until these are closed.
func adapters(ctx context.Context, only string) (columns []conformancetest.Adapter, closeNodes func() error, err error) {
	var nodes []*amqptest.Node
	closeNodes = func() (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.Close())
		}
		return err
	}
	modules := conformancetest.Modules()
	if slices.ContainsFunc(modules, func(a conformancetest.Adapter) bool { return a.Name == only }) {
		return modules, closeNodes, nil // which need none of the nodes
	}
	columns = append(columns, conformancetest.Memory())
	for _, version := range amqptest.Versions() {
		node, err := amqptest.Start(ctx, amqptest.Options{Version: version, Management: true})
		if err != nil {
			return nil, closeNodes, err
		}
		nodes = append(nodes, node)
		columns = append(columns, conformancetest.RabbitMQ(node, amqp.Classic), conformancetest.RabbitMQ(node, amqp.Quorum))
	}
	newest := nodes[len(nodes)-1]
	columns = append(columns, modules...)
	return append(columns, peers.GoChannel(), peers.WatermillAMQP(newest)), closeNodes, nil
}

// merged returns the matrix of an earlier run with one column anew, or new: before the peers then.
func merged(r conformance.Report, out string) (matrix conformance.Matrix, err error) {
	data, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err == nil {
		err = json.Unmarshal(data, &matrix)
	}
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(matrix, func(old conformance.Report) bool { return old.Adapter == r.Adapter })
	if at >= 0 {
		matrix[at] = r
		return matrix, nil
	}
	at = slices.IndexFunc(matrix, func(old conformance.Report) bool { return old.Adapter == peers.GoChannel().Name })
	if at < 0 {
		at = len(matrix)
	}
	return slices.Insert(matrix, at, r), nil
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
