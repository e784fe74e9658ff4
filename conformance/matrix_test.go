package conformance

import (
	"os"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// The matrix is that of adapters, which other modules cannot read.
func TestMatrixIsTheOneOfAdapters(t *testing.T) {
	original, err := os.ReadFile("../adapters/testdata/topic_matrix_3.10.8.txt")
	if err != nil {
		t.Fatal(err)
	}
	if matrixText != string(original) {
		t.Error("testdata/topic_matrix_3.10.8.txt differs from the one of adapters")
	}
}

func TestMatrixIsRead(t *testing.T) {
	rows, keys := matrix()
	if len(rows) != 38 || len(keys) != 24 {
		t.Fatalf("%d patterns and %d keys, want 38 and 24", len(rows), len(keys))
	}
	matches := 0
	for _, r := range rows {
		for _, key := range r.matches {
			matches++
			if !adapters.MatchTopic(r.pattern, key) {
				t.Errorf("%q does not match %q", r.pattern, key)
			}
		}
	}
	if matches != 229 {
		t.Errorf("%d matches, want 229", matches)
	}
}
