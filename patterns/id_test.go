package patterns

import (
	"regexp"
	"testing"
)

func TestIDs(t *testing.T) {
	form, seen := regexp.MustCompile(`^[a-z2-7]{26}$`), make(map[string]bool)
	varied := make([]map[byte]bool, 26)
	for range 1000 {
		id := newID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("%q", id)
		}
		seen[id] = true
		for i := range varied {
			if varied[i] == nil {
				varied[i] = make(map[byte]bool)
			}
			varied[i][id[i]] = true
		}
	}
	for i, digits := range varied {
		want := 32
		if i%13 == 12 { // what is left of 64 bits
			want = 16
		}
		if len(digits) != want {
			t.Errorf("digit %d has %d values, not %d", i, len(digits), want)
		}
	}
}
