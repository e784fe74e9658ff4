package amqp

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff(t *testing.T) {
	b := backoff{min: 100 * time.Millisecond, max: time.Second}
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if got := b.wait(); got < want/2 || got > want {
			t.Errorf("wait of %v, want %v to %v", got, want/2, want)
		}
	}
	b.reset()
	if got := b.wait(); got > 100*time.Millisecond {
		t.Errorf("wait of %v after reset", got)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !sleep(t.Context(), time.Hour) || time.Since(start) != time.Hour {
			t.Error("did not sleep")
		}
	})
}
