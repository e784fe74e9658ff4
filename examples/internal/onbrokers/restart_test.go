package onbrokers

import (
	"context"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// testRestart restarts the broker under those examples that are about it.
func (p programs) testRestart(t *testing.T) {
	node := amqptest.Private(t, amqptest.Options{})
	urls := map[string]string{}
	for _, queueType := range queueTypes {
		v, err := node.AddVHost(t.Context(), queueType)
		if err != nil {
			t.Fatal(err)
		}
		urls[queueType] = of(queueType, v.URL)
	}
	inProcess := p.run(t, "durable")
	sent, checked, ok := strings.Cut(inProcess, "restarted the broker\n")
	if !ok {
		t.Fatalf("durable printed:\n%s", inProcess)
	}

	takeouts := map[string]*process{}
	for queueType, url := range urls {
		durable := p.start(t, "durable", "-broker", url)
		if <-durable.ended; durable.err == nil || !strings.Contains(durable.errors.String(), "run -role send, restart it, run -role check") {
			t.Errorf("durable, where it cannot restart the broker: %v, %s", durable.err, durable.errors.String())
		}
		for range 2 { // the second begins anew
			if got := p.run(t, "durable", "-broker", url, "-role", "send"); got != sent {
				t.Errorf("%s: durable sent:\n%s\nwant:\n%s", queueType, got, sent)
			}
		}
		takeouts[queueType] = p.start(t, "takeout", "-broker", url, "-fail", "merchant")
	}
	for _, takeout := range takeouts {
		takeout.until(t, "s  answered ") // the first time, after a second or so
	}
	restart(t, node)

	const summary = "takeout: orders=300 rider=300 merchant=300 ledger=300 lost=0 "
	for queueType, takeout := range takeouts {
		if out := takeout.wait(t); !strings.Contains(out, summary) {
			t.Errorf("%s: takeout printed no %s:\n%s", queueType, summary, out)
		}
	}
	for queueType, url := range urls {
		want := checked
		if queueType == "default" { // a quorum queue keeps what is transient, too
			want = strings.Replace(want, "declaring", "still there: cache hint\ndeclaring", 1)
		}
		if got := p.run(t, "durable", "-broker", url, "-role", "check"); got != want {
			t.Errorf("%s: durable after the restart:\n%s\nwant:\n%s", queueType, got, want)
		}
	}
}

func restart(t *testing.T, node *amqptest.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := node.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := node.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}
