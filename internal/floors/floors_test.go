// Package floors has no code, only the test that the house stands: an import
// goes down a floor or stays in its room, never up, never sideways.
package floors

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module    = "github.com/motifmq/motif"
	watermill = "github.com/ThreeDotsLabs/watermill"
	amqp091   = "github.com/rabbitmq/amqp091-go"
)

// floorOf has the floors of the rooms, which are packages with all below
// them. A "*" is any one name, and each match is a room of its own. The first
// that fits counts.
var floorOf = []struct {
	room  string
	floor int
}{
	{"adapters/kit", 0},           // what every adapter writes, on the seam alone
	{"adapters/amqp/amqptest", 1}, // for users' tests, on RabbitMQ
	{"adapters/*", 1},
	{"patterns/patternstest", 2}, // for users' tests, on the in-process broker where none is given
	{"patterns", 1},
	{"middleware", 2},
	{"deadletters", 2},
	{"topology", 2},
	{"outbox", 2},
	{"conformance", 2},
	{"internal/conformancetest", 3},   // harnesses for all adapters
	{"internal/interop", 3},           // meets peers, and runs the suite on them and on all adapters
	{"internal/bench", 3},             // measures all
	{"internal/model", 2},             // compares two adapters
	{"internal/docs", 3},              // compiles the programs of the docs, which use everything
	{"examples/internal/demotest", 2}, // what their tests share
	{"examples/internal", 2},          // what the examples share, a step below them
	{"examples/*", 3},
	{"cmd/*", 3},
	{"internal/*", 1}, // it uses the seam at most; who may use it says usersOf
}

// The seam is one package: what is below it is the adapters' rooms.
const seam, seamFloor = "adapters", 0

// nested are the modules below the root's. Those below internal are our own tests and tools, and
// may use all; so may the examples, which are users; the others are for users.
var nested = []string{"adapters/jetstream", "adapters/kafka", "examples", "internal/bench", "internal/interop", "middleware/otel", "middleware/prometheus", "outbox", "patterns/charset", "patterns/cron", "patterns/protobuf", "patterns/zstd"}

// usersOf says for each room below internal which rooms may import it. Those
// called internal/...test need no entry: test files may, and each other.
var usersOf = map[string][]string{}

// forTests are the rooms that test files may import from any floor.
var forTests = []string{
	"adapters/memory",    // the broker that tests run on: also those of patterns, which must know no adapter otherwise
	"adapters/watermill", // the door through which watermill's own suite gets to an adapter
	"conformance",        // by which an adapter's own tests prove it
	"patterns",           // for an adapter's and a middleware's test from end to end
	"middleware",         // for an outbox's test, which ends in an inbox
	"deadletters",        // by which an adapter's own tests prove that its dead letters can be looked after
}

// testOnly are the imports, with all below them, that would bring test flags
// or test code into a user's program.
var testOnly = []string{"testing", "github.com/stretchr/testify", watermill + "/pubsub/tests"}

// kits are the rooms that are for users' tests, as net/http/httptest is. They may import what tests
// do, and only tests import them.
var kits = []string{"patterns/patternstest", "adapters/amqp/amqptest"}

// An edge is one import of one file.
type edge struct {
	file    string // below the module's root, with slashes
	imports string
}

func (e edge) test() bool { return strings.HasSuffix(e.file, "_test.go") }

func TestImportsGoDownOrStay(t *testing.T) {
	edges := readEdges(t, root)
	if !slices.Contains(edges, edge{"adapters/driver.go", watermill + "/message"}) {
		t.Fatalf("the seam's import of watermill is not among the %d imports found: the search is broken", len(edges))
	}
	for _, e := range edges {
		if v := violation(e); v != "" {
			t.Error(v)
		}
	}
}

// readEdges reads every Go file below root, in all modules, whatever its build constraints.
func readEdges(t *testing.T, root string) []edge {
	t.Helper()
	var edges []edge
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && file != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imports, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			edges = append(edges, edge{filepath.ToSlash(below), imports})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return edges
}

// violation returns what is wrong with an import, as a sentence, or "".
func violation(e edge) string {
	from, fromFloor := place(path.Dir(e.file))
	if from == "" {
		return fmt.Sprintf("%s is on no floor: give its folder one in internal/floors.", e.file)
	}
	if !within(e.imports, module) {
		return foreignViolation(e, from)
	}
	pkg := strings.TrimPrefix(strings.TrimPrefix(e.imports, module), "/")
	to, toFloor := place(pkg)
	says := fmt.Sprintf("%s imports %s, ", e.file, pkg)
	fromModule, toModule := moduleOf(path.Dir(e.file)), moduleOf(pkg)
	switch {
	case to == "":
		return says + "which is on no floor: give it one in internal/floors."
	case fromModule != toModule && toModule != "" && !within(fromModule, "internal") && !within(fromModule, "examples"):
		return says + "which is a module of its own, so that only users depend on it."
	case fromModule != "" && toModule == "" && !within(fromModule, "internal") && fromModule != "examples" && within(to, "internal"):
		return says + "which a stranger could not: a module of its own proves that what is public is enough."
	case to == from:
		return ""
	case slices.Contains(kits, to) && (e.test() || isTestRoom(from)):
		return ""
	case slices.Contains(kits, to):
		return says + "which is for test files only."
	case isTestRoom(to):
		if e.test() || isTestRoom(from) || slices.Contains(kits, from) {
			return ""
		}
		return says + "which is for test files only."
	case within(to, "internal"):
		if slices.Contains(usersOf[to], from) {
			return ""
		}
		return says + fmt.Sprintf("but %s is not among its users in internal/floors.", from)
	case toFloor < fromFloor, to == seam, e.test() && slices.Contains(forTests, to):
		return ""
	case toFloor > fromFloor:
		return says + fmt.Sprintf("which goes up from floor %d to %d: an import goes down a floor or stays in its room.", fromFloor, toFloor)
	}
	return says + fmt.Sprintf("which goes sideways on floor %d: an import goes down a floor or stays in its room.", toFloor)
}

// foreignViolation is about what does not belong to this module.
func foreignViolation(e edge, from string) string {
	says := fmt.Sprintf("%s imports %s, ", e.file, e.imports)
	isTestOnly := slices.ContainsFunc(testOnly, func(t string) bool { return within(e.imports, t) })
	standard := !strings.Contains(strings.Split(e.imports, "/")[0], ".")
	switch {
	case isTestRoom(from):
		return ""
	case moduleOf(path.Dir(e.file)) == "" && !standard && !within(e.imports, watermill) && e.imports != amqp091:
		return says + "which all users of the library would get: it takes a module of its own."
	case e.test():
		return ""
	case from == "conformance":
		if standard || within(e.imports, watermill) && !isTestOnly {
			return ""
		}
		return says + "but the suite should cost a stranger's adapter nothing besides watermill, for its messages."
	case isTestOnly && !slices.Contains(kits, from):
		return says + "which belongs into test files, conformance and internal/...test only."
	case e.imports == amqp091 && from != "adapters/amqp" && !within(from, "examples"):
		return says + "but only adapters/amqp speaks AMQP."
	}
	return ""
}

// place returns the room of a package below the module's root and its floor,
// or "" if it has none.
func place(pkg string) (room string, floor int) {
	if pkg == seam {
		return seam, seamFloor
	}
	for _, f := range floorOf {
		names := strings.Split(pkg, "/")
		if n := strings.Count(f.room, "/") + 1; len(names) >= n {
			room := strings.Join(names[:n], "/")
			if ok, _ := path.Match(f.room, room); ok {
				return room, f.floor
			}
		}
	}
	return "", 0
}

// isTestRoom reports whether a room is for tests, or is a module of our own tools.
func isTestRoom(room string) bool {
	return (within(room, "internal") || within(room, "examples/internal")) &&
		(strings.HasSuffix(room, "test") || slices.Contains(nested, room))
}

// moduleOf returns the nested module that a package below the root is in, or "".
func moduleOf(pkg string) string {
	if i := slices.IndexFunc(nested, func(m string) bool { return within(pkg, m) }); i >= 0 {
		return nested[i]
	}
	return ""
}

// within reports whether pkg is folder or below it.
func within(pkg, folder string) bool { return strings.HasPrefix(pkg+"/", folder+"/") }

func TestViolation(t *testing.T) {
	usersOf["internal/backoff"] = []string{"patterns"}
	defer delete(usersOf, "internal/backoff")

	const allowed = ""
	for _, c := range []struct{ file, imports, want string }{
		// Down a floor, or in the room.
		{"patterns/bus.go", module + "/adapters", allowed},
		{"patterns/bus.go", module + "/patterns/codec", allowed},
		{"patterns/codec/json.go", module + "/patterns", allowed},
		{"adapters/memory/broker.go", module + "/adapters", allowed},
		{"adapters/memory/x/y/z.go", module + "/adapters/memory", allowed},
		{"conformance/run.go", module + "/adapters", allowed},
		{"conformance/run.go", module + "/adapters/memory", allowed},
		{"examples/takeout/main.go", module + "/patterns", allowed},
		{"examples/takeout/main.go", module + "/adapters/amqp", allowed},
		{"examples/takeout/main.go", amqp091, allowed},
		{"examples/takeout/main.go", module + "/examples/internal/demo", allowed},
		{"examples/takeout/main_test.go", module + "/examples/internal/demotest", allowed},
		{"examples/takeout/main.go", module + "/examples/internal/demotest", "is for test files only"},

		{"adapters/kit/batch.go", module + "/adapters", allowed},
		{"adapters/memory/publish.go", module + "/adapters/kit", allowed},
		{"examples/customadapter/dir.go", module + "/adapters/kit", allowed},

		// Up.
		{"adapters/kit/batch.go", module + "/adapters/memory", "goes up from floor 0 to 1"},
		{"adapters/open.go", module + "/adapters/kit", "goes sideways on floor 0"},
		{"adapters/open.go", module + "/adapters/memory", "goes up from floor 0 to 1"},
		{"adapters/open.go", module + "/patterns", "goes up from floor 0 to 1"},
		{"patterns/bus.go", module + "/conformance", "goes up from floor 1 to 2"},
		{"conformance/run.go", module + "/examples/news", "which is a module of its own"},
		{"adapters/memory/broker_test.go", module + "/examples/news", "which is a module of its own"},

		// Sideways.
		{"adapters/amqp/driver.go", module + "/adapters/memory", "goes sideways on floor 1"},
		{"adapters/watermill/driver.go", module + "/adapters/amqp/marshal", "goes sideways on floor 1"},
		{"patterns/bus.go", module + "/adapters/memory", "goes sideways on floor 1"},
		{"patterns/codec/json.go", module + "/adapters/amqp", "goes sideways on floor 1"},
		{"adapters/memory/broker.go", module + "/patterns", "goes sideways on floor 1"},
		{"middleware/log.go", module + "/patterns", allowed},
		{"examples/internal/demo/demo.go", module + "/examples/news", "goes up from floor 2 to 3"},
		{"examples/takeout/main.go", module + "/examples/news", "goes sideways on floor 3"},

		// Test files may do more, not all.
		{"patterns/bus_test.go", module + "/adapters/memory", allowed},
		{"patterns/bus_test.go", module + "/adapters/amqp", "goes sideways on floor 1"},
		{"adapters/topic_test.go", module + "/adapters/memory", allowed},
		{"adapters/amqp/driver_test.go", module + "/conformance", allowed},
		{"adapters/amqp/driver_test.go", module + "/patterns", allowed},
		{"internal/interop/suite_test.go", module + "/adapters/watermill", allowed},
		{"adapters/amqp/driver.go", module + "/adapters/watermill", "goes sideways on floor 1"},
		{"adapters/amqp/driver_test.go", module + "/adapters/amqp/amqptest", allowed},
		{"patterns/bus_test.go", "testing", allowed},
		{"patterns/patternstest/run.go", "testing", allowed},
		{"patterns/patternstest/run.go", module + "/adapters/memory", allowed},
		{"patterns/patternstest/run.go", module + "/adapters/amqp", allowed},
		{"patterns/bus.go", module + "/patterns/patternstest", "is for test files only"},
		{"examples/takeout/main.go", module + "/patterns/patternstest", "is for test files only"},
		{"examples/takeout/main_test.go", module + "/patterns/patternstest", allowed},
		{"patterns/bus_test.go", amqp091, allowed},

		// internal.
		{"patterns/bus.go", module + "/internal/backoff", allowed},
		{"middleware/retry.go", module + "/internal/backoff", "middleware is not among its users"},
		{"patterns/bus.go", module + "/internal/other", "patterns is not among its users"},
		{"patterns/bus.go", module + "/adapters/amqp/amqptest", "is for test files only"},
		{"internal/leaktest/node.go", module + "/internal/proctest", allowed},
		{"internal/leaktest/node.go", module + "/adapters", allowed},
		{"internal/leaktest/node.go", module + "/conformance", "goes up from floor 1 to 2"},
		{"internal/leaktest/node.go", "testing", allowed},
		{"internal/leaktest/node.go", amqp091, allowed},

		// What is not ours.
		{"patterns/bus.go", "context", allowed},
		{"patterns/bus.go", watermill + "/message", allowed},
		{"patterns/bus.go", amqp091, "only adapters/amqp speaks AMQP"},
		{"adapters/memory/broker.go", amqp091, "only adapters/amqp speaks AMQP"},
		{"adapters/amqp/driver.go", amqp091, allowed},
		{"adapters/amqp/driver.go", "testing", "belongs into test files"},
		{"adapters/memory/fault.go", "testing/synctest", "belongs into test files"},
		{"adapters/memory/fault.go", "go.uber.org/goleak", "it takes a module of its own"},
		{"adapters/memory/fault_test.go", "go.uber.org/goleak", "it takes a module of its own"},
		{"patterns/bus.go", "golang.org/x/text/encoding", "it takes a module of its own"},
		{"patterns/bus_test.go", "google.golang.org/protobuf/proto", "it takes a module of its own"},
		{"examples/news/main.go", "golang.org/x/sync/errgroup", allowed},
		{"patterns/bus.go", "testingground", allowed},
		{"conformance/run.go", "testing", allowed},
		{"conformance/run.go", watermill + "/message", allowed},
		{"conformance/run.go", watermill + "/pubsub/tests", "nothing besides watermill"},
		{"conformance/run.go", amqp091, "nothing besides watermill"},
		{"conformance/run.go", "github.com/stretchr/testify/require", "it takes a module of its own"},

		// Modules below the root's.
		{"patterns/zstd/zstd.go", "github.com/klauspost/compress/zstd", allowed},
		{"patterns/zstd/zstd.go", module + "/patterns", allowed},
		{"patterns/zstd/zstd_test.go", module + "/adapters/memory", allowed},
		{"patterns/zstd/zstd.go", module + "/adapters/memory", "goes sideways on floor 1"},
		{"patterns/zstd/zstd.go", "testing", "belongs into test files"},
		{"patterns/zstd/zstd_test.go", module + "/internal/leaktest", "which a stranger could not"},
		{"patterns/zstd/zstd_test.go", module + "/patterns/charset", "which is a module of its own"},
		{"patterns/bus_test.go", module + "/patterns/protobuf", "which is a module of its own"},
		{"examples/news/main.go", module + "/patterns/protobuf", allowed},
		{"examples/internal/demo/demo.go", module + "/adapters/kafka", allowed},
		{"examples/customadapter/main_test.go", module + "/internal/leaktest", allowed},
		{"examples/customadapter/main.go", module + "/internal/leaktest", "is for test files only"},
		{"middleware/otel/otel.go", module + "/middleware", allowed},
		{"middleware/otel/otel.go", module + "/middleware/prometheus", "which is a module of its own"},
		{"middleware/log.go", "go.opentelemetry.io/otel", "it takes a module of its own"},
		{"internal/interop/peers/peers.go", module + "/internal/conformancetest", allowed},
		{"internal/interop/peers/peers.go", "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp", allowed},
		{"internal/bench/main.go", module + "/patterns/zstd", allowed},
		{"internal/leaktest/node.go", module + "/internal/interop/peers", "which is a module of its own"},

		// No floor at all.
		{"util/strings.go", "strings", "util/strings.go is on no floor"},
		{"motif.go", "strings", "motif.go is on no floor"},
		{"examples/main.go", "strings", "examples/main.go is on no floor"},
		{"patterns/bus.go", module + "/util", "imports util, which is on no floor"},
		{"patterns/bus.go", module, "which is on no floor"},
	} {
		got := violation(edge{c.file, c.imports})
		if c.want == allowed && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s imports %s: %q, want %q", c.file, c.imports, got, c.want)
		}
	}
}
