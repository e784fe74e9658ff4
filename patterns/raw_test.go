package patterns_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// publishRaw publishes as a foreign program would, past the patterns.
func publishRaw(t testing.TB, bus *patterns.Bus, to adapters.Endpoint, props adapters.Properties, payload string) {
	t.Helper()
	p := adapters.Publication{To: to, Properties: props, Mandatory: true}
	must(t, bus.Driver().Publish(bounded(t), p, message.NewMessage("foreign", []byte(payload))))
}
