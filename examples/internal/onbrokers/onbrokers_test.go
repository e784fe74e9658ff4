// Package onbrokers has no code, only the test that the examples do on other brokers what they do
// on the in-process broker, by -broker alone, or say what these cannot do.
package onbrokers

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) { amqptest.Main(m) }

// TestExamples builds every example once, and runs them as a user does.
func TestExamples(t *testing.T) {
	p := build(t)
	t.Run("rabbitmq", func(t *testing.T) {
		t.Parallel()
		t.Run("same", p.testSame)
		t.Run("roles", p.testRoles)
		t.Run("restart", p.testRestart)
		t.Run("service", p.testService)
	})
	t.Run("jetstream", p.testJetStream)
	t.Run("kafka", p.testKafka)
}

// queueTypes are how queues are declared: quorum queues where that is of use,
// or classic ones.
var queueTypes = []string{"default", "classic"}

// of returns a broker's URL with the type of queues.
func of(queueType, url string) string {
	if queueType == "default" {
		return url
	}
	return url + "?queue_type=" + queueType
}

// runs has the arguments for those examples that are run with other ones than
// none.
var runs = map[string][][]string{
	"boundedqueue":  {{"-full", "hold"}, {"-full", "refuse"}},
	"takeout":       {{"-scale", "0.2", "-fail", "merchant", "-with", "coupons"}},
	"customadapter": nil, // is about a broker of its own, and shows what that refuses
	"durable":       nil, // wants a restart, see testRestart
	"observability": nil, // has a test of its own on RabbitMQ
	"quickstart":    nil, // the README's program: its broker is in its text
	"service":       nil, // works until Ctrl-C, see testService
}

// testSame compares what is printed with what the in-process broker makes of
// it, twice: what the first run leaves behind is not in the way of the second.
func (p programs) testSame(t *testing.T) {
	for _, queueType := range queueTypes {
		t.Run(queueType, func(t *testing.T) {
			p.each(t, of(queueType, amqptest.URL(t)), p.same)
		})
	}
}

// each calls a function for each way in which examples are run.
func (p programs) each(t *testing.T, url string, test func(t *testing.T, url, name string, args []string)) {
	t.Helper()
	for _, name := range p.names(t) {
		arguments, special := runs[name]
		if !special {
			arguments = [][]string{nil}
		}
		for _, args := range arguments {
			t.Run(strings.Join(append([]string{name}, args...), " "), func(t *testing.T) { test(t, url, name, args) })
		}
	}
}

func (p programs) same(t *testing.T, url, name string, args []string) {
	t.Helper()
	want := measured(name, p.inProcess(t, name, args...))
	for range 2 {
		if got := measured(name, p.run(t, name, append([]string{"-broker", url}, args...)...)); got != want {
			t.Errorf("on the broker:\n%s\nin process:\n%s", got, want)
		}
	}
}

// measured takes out of an output what an example says is measured.
func measured(name, out string) string {
	patterns := map[string]string{
		// The slow one gets another when the fast one has not done the rest by then,
		// which a busy machine lets it do: anything but half and half.
		"fairdispatch": `, in \S+|handled  [1-9], fast 1[1-9]`,
		"takeout":      `(?m)^ +\d+\.\ds  .*\n|^.* is back after .*\n.*\n|(?s:\nservice  .*\n\n)|customer_wait.*|(?m)^This broker carries no calls.*\n`,
	}
	if p, ok := patterns[name]; ok {
		return regexp.MustCompile(p).ReplaceAllString(out, "")
	}
	return out
}

// names lists the examples.
func (p programs) names(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(string(p))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	folders, err := filepath.Glob("../../*/main.go")
	if err != nil || len(folders) != len(names) || !slices.Contains(names, "hello") {
		t.Fatalf("built %v, of %v (%v)", names, folders, err)
	}
	return names
}
