package conformancetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/conformance"
)

// TestReportHasEachColumn: the report has each adapter of ours, RabbitMQ's on each version with
// each type of queue, and no rule fails there; and the peers, with a note for each failure.
func TestReportHasEachColumn(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/conformance/report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m conformance.Matrix
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	passed := map[string]bool{}
	for _, r := range m {
		passed[r.Adapter] = r.Passed()
		for _, result := range r.Results {
			if result.Outcome == conformance.Fail && r.Notes[result.ID] == "" {
				t.Errorf("no note explains why %s fails %s", r.Adapter, result.ID)
			}
		}
	}
	for _, peer := range []string{"gochannel", "watermill-amqp", "watermill-nats", "watermill-kafka"} {
		if _, is := passed[peer]; !is {
			t.Errorf("there is no column %q: run make conformance", peer)
		}
	}
	columns := []string{"memory", "JetStream embedded", "JetStream server", "JetStream cluster", "Kafka"}
	for _, version := range amqptest.Versions() {
		for _, queues := range []string{"classic", "quorum"} {
			columns = append(columns, fmt.Sprintf("RabbitMQ %s %s", version, queues))
		}
	}
	for _, column := range columns {
		if ok, is := passed[column]; !is {
			t.Errorf("there is no column %q: run make conformance", column)
		} else if !ok {
			t.Errorf("rules fail in the column %q", column)
		}
	}
}
