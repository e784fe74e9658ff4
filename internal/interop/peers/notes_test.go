package peers

import (
	"slices"
	"testing"

	"github.com/motifmq/motif/conformance"
)

func TestNotesAreAboutCases(t *testing.T) {
	for _, notes := range []map[string]string{
		goChannelNotes, goChannelSometimes, watermillAMQPNotes, watermillAMQPSometimes,
		watermillNATSNotes, watermillNATSSometimes, watermillKafkaNotes, watermillKafkaSometimes,
	} {
		for id := range notes {
			if !slices.ContainsFunc(conformance.Cases(), func(c conformance.Case) bool { return c.ID == id }) {
				t.Errorf("there is no case %s", id)
			}
		}
	}
}
