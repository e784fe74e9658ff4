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

// TestRemovedItemsLeadNowhere: who keeps a message that was handled does not keep all that came
// after it.
func TestRemovedItemsLeadNowhere(t *testing.T) {
	o := &ordered{last: make(map[string]*orderedItem)}
	items := []*orderedItem{{key: "a"}, {key: "a"}, {key: "b"}}
	for _, it := range items {
		o.held.append(it)
		o.queue(it)
	}
	for _, it := range items {
		o.drop(it)
		o.release(it)
	}
	for i, it := range items {
		if it.prev != nil || it.next != nil || it.after != nil {
			t.Errorf("item %d leads to others", i)
		}
	}
	if o.held.first != nil || o.held.last != nil || len(o.last) != 0 {
		t.Errorf("%+v is left", o.held)
	}
}
