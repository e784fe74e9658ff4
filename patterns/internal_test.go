package patterns

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

func TestRetryBackoff(t *testing.T) {
	p := RetryPolicy{Min: time.Second, Max: time.Minute}
	for attempt, want := range map[int]time.Duration{
		-1: time.Second, 0: time.Second, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second,
		7: time.Minute, 62: time.Minute, 64: time.Minute, 1000: time.Minute,
	} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			d := p.backoff(attempt)
			least, most = min(least, d), max(most, d)
		}
		if least < want || most > want+want/10 || most-least < want/20 {
			t.Errorf("after attempt %d it waits %v to %v, want %v and up to a tenth more", attempt, least, most, want)
		}
	}
	p = RetryPolicy{Min: time.Second, Max: math.MaxInt64}
	for attempt := range 100 {
		if d := p.backoff(attempt); d < time.Second {
			t.Errorf("after attempt %d it waits %v", attempt, d)
		}
	}
}

func TestClip(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "abc": "abc", "abcd": "abcd", "abcde": "abcd", "aéé": "aé", "aaaé": "aaa", "a\xffb": "ab",
		strings.Repeat("é", 9): "éé",
	} {
		if got := clip(s, 4); got != want || !utf8.ValidString(got) {
			t.Errorf("clip(%q) = %q, want %q", s, got, want)
		}
	}
}

// Nothing is remembered of calls that are over, and not everything of those
// that were cancelled.
func TestCallsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New()
		defer broker.Close()
		bus := New(broker.Connect())
		rpc := NewRPC[int, int](bus, "f")
		sub, err := rpc.Serve(t.Context(), func(ctx context.Context, n int) (int, error) {
			if n == 1 {
				<-ctx.Done()
			}
			return n, ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			ctx, giveUp := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, giveUp)
			_, _ = rpc.Call(ctx, n)
		}
		if _, err := NewRPC[int, int](bus, "nobody").Call(t.Context(), 1); err == nil {
			t.Error("nobody answered")
		}
		for i := range 3 * rememberCancelled {
			p := adapters.Publication{To: rpc.cancel, Properties: adapters.Properties{CorrelationID: fmt.Sprint(i)}}
			if err := bus.driver.Publish(t.Context(), p, bus.message("", nil, nil)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := len(sub.processor.(*callServer).running); n != 0 {
			t.Errorf("%d calls are taken to be running", n)
		}
		if n := len(sub.processor.(*callServer).cancelled); n != rememberCancelled {
			t.Errorf("%d cancelled calls are remembered", n)
		}
		if _, last := sub.processor.(*callServer).cancelled[fmt.Sprint(3*rememberCancelled-1)]; !last {
			t.Error("the last one is not")
		}
		if r := &bus.replies; len(r.pending) != 0 || len(r.callSlots) != 0 || len(r.cancelSlots) != 0 {
			t.Errorf("%d calls wait, %d have a place, %d are being cancelled", len(r.pending), len(r.callSlots), len(r.cancelSlots))
		}
		if err := bus.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(bus.subscriptions); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

func TestDeclaredQueuesAreForgottenInTime(t *testing.T) {
	bus := New(memory.New().Connect())
	for i := range maxDeclared {
		bus.declared[declared{name: fmt.Sprint(i)}] = nil
	}
	if err := NewWorkQueue[int](bus, "one more").Send(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := len(bus.declared); n != 1 {
		t.Errorf("%d queues are remembered", n)
	}
	if err := bus.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
