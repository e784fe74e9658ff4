package patterns

import (
	"math"
	"testing"
	"time"
)

func TestRetryWaits(t *testing.T) {
	for _, x := range []struct {
		policy RetryPolicy
		want   time.Duration
	}{
		{RetryPolicy{Attempts: 1}, 0},
		{RetryPolicy{}, 16500 * time.Millisecond},
		{RetryPolicy{Attempts: 6, Min: time.Second, Max: 3 * time.Second}, 13200 * time.Millisecond}, // 1, 2, 3, 3, 3
		{RetryPolicy{Attempts: math.MaxInt, Min: time.Hour}, math.MaxInt64},
	} {
		if got := x.policy.withDefaults().waits(); got != x.want {
			t.Errorf("%+v: %v, want %v", x.policy, got, x.want)
		}
	}
}

func TestOrderedHoldTime(t *testing.T) {
	c := consumeConfig{workers: 4, timeout: time.Minute, order: orderBy[int](func(int) string { return "" })}
	if got, want := c.holdTime(10), 12*time.Minute; got != want { // overtaken: one attempt at a time
		t.Errorf("%v, want %v", got, want)
	}
	c.retry.InProcess = true
	if got, want := c.holdTime(10), 11*(5*time.Minute+16500*time.Millisecond)+time.Minute; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
