package patterns

import (
	"testing"

	"github.com/google/uuid"
)

func TestIDsAreUUIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := newID()
		if u, err := uuid.Parse(id); err != nil || u.Version() != 4 || u.Variant() != uuid.RFC4122 || u.String() != id || seen[id] {
			t.Fatalf("%q: %v", id, err)
		}
		seen[id] = true
	}
}
