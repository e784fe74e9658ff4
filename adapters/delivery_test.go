package adapters

import (
	"testing"
)

func TestOutcomeString(t *testing.T) {
	for outcome, want := range map[Outcome]string{Ack: "ack", Requeue: "requeue", Reject: "reject", 9: "outcome(9)"} {
		if got := outcome.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
