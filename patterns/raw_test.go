package patterns_test

import (
	"testing"

	watermill "github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// publishRaw publishes as a foreign program would, past the patterns.
func publishRaw(t testing.TB, bus *patterns.Bus, to adapters.Endpoint, props adapters.Properties, payload string) {
	t.Helper()
	p := adapters.Publication{To: to, Properties: props, Mandatory: true}
	must(t, bus.Driver().Publish(bounded(t), p, watermill.NewMessage("foreign", []byte(payload))))
}

func rawMessage(payload []byte) *watermill.Message {
	return &watermill.Message{UUID: "raw", Payload: payload}
}
