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

// The report has our adapter on each version of RabbitMQ with each type of queue, and those that
// are modules, and no rule fails there.
func TestReportHasEachVersion(t *testing.T) {
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
	}
	var columns []string
	for _, version := range amqptest.Versions() {
		for _, queues := range []string{"classic", "quorum"} {
			columns = append(columns, fmt.Sprintf("RabbitMQ %s %s", version, queues))
		}
	}
	for _, module := range Modules() {
		columns = append(columns, module.Name)
	}
	for _, column := range columns {
		if ok, is := passed[column]; !is {
			t.Errorf("there is no column %q: run make conformance", column)
		} else if !ok {
			t.Errorf("rules fail in the column %q", column)
		}
	}
}
