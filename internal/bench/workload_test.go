package main

import "testing"

// TestTargetOfOurs: what is asked of ours alone holds whatever the ratio, and an allocation now and
// then is none.
func TestTargetOfOurs(t *testing.T) {
	target := Target{Micros: 10, Allocs: 4, Bytes: 420}
	for _, tt := range []struct {
		rate, allocs, bytes float64
		met                 bool
	}{
		{200_000, 4.2, 420, true},
		{90_000, 4, 420, false},
		{200_000, 5, 420, false},
		{200_000, 4, 421, false},
	} {
		r := &Result{Ours: Sample{Rate: tt.rate, Allocs: tt.allocs, Bytes: tt.bytes}}
		if met := target.Met(r); met != tt.met {
			t.Errorf("%s: %v messages a second, %v allocations, %v B: met %v", target, tt.rate, tt.allocs, tt.bytes, met)
		}
	}
}
