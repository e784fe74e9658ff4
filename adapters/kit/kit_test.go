package kit_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

func messages(ids ...string) (msgs []*message.Message) {
	for _, id := range ids {
		msgs = append(msgs, message.NewMessage(id, nil))
	}
	return append(msgs, nil)
}

// wantFailed checks err to be a PublishError with these messages, by index, and no others.
func wantFailed(t *testing.T, err error, want map[int]error, ids ...string) {
	t.Helper()
	failed, ok := errors.AsType[*adapters.PublishError](err)
	if !ok || len(failed.Failed) != len(want) {
		t.Fatalf("%v, want %d failures", err, len(want))
	}
	for i, f := range failed.Failed {
		if !errors.Is(f.Err, want[f.Index]) || f.UUID != ids[i] || i > 0 && failed.Failed[i-1].Index >= f.Index {
			t.Errorf("failure %d is %+v, want %v of %q", i, f, want[f.Index], ids[i])
		}
	}
}

func TestPublishEach(t *testing.T) {
	err := kit.PublishEach(messages("a", "b", "c"), func(m *message.Message) error {
		if m != nil && m.UUID == "b" {
			return adapters.ErrNacked
		}
		return adapters.ValidateMessage(m)
	})
	wantFailed(t, err, map[int]error{1: adapters.ErrNacked, 3: adapters.ErrInvalid}, "b", "")
	if err := kit.PublishEach(messages("a"), func(*message.Message) error { return nil }); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		msgs := []*message.Message{{UUID: "a"}, {UUID: "b"}} // on the stack
		_ = kit.PublishEach(msgs, func(m *message.Message) error { return nil })
	}); n != 0 {
		t.Errorf("%v allocations where nothing fails", n)
	}
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := kit.NewBatch(messages("a", "b", "c", "d"))
		go func() {
			b.Resolve(3, adapters.ErrNacked)
			b.Resolve(1, adapters.ErrUnroutable)
			b.Resolve(1, nil) // the first counts
			b.Resolve(0, nil)
			b.Resolve(4, nil)
		}()
		synctest.Wait()
		wantFailed(t, b.Err(), map[int]error{1: adapters.ErrUnroutable, 3: adapters.ErrNacked}, "b", "d")
		select {
		case <-b.Resolved():
			t.Error("resolved while one is pending")
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.Wait(ctx)
		wantFailed(t, err, map[int]error{1: adapters.ErrUnroutable, 2: adapters.ErrUnconfirmed, 3: adapters.ErrNacked}, "b", "c", "d")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not say why", err)
		}
		<-b.Resolved()
		b.Resolve(2, nil) // too late
		wantFailed(t, b.Wait(t.Context()), map[int]error{1: adapters.ErrUnroutable, 2: adapters.ErrUnconfirmed, 3: adapters.ErrNacked}, "b", "c", "d")
	})
	if err := kit.NewBatch(nil).Wait(t.Context()); err != nil {
		t.Errorf("of no messages: %v", err)
	}
}

// TestCall: each result is returned, or undone, whatever comes first.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		for _, c := range []struct {
			name        string
			takes       time.Duration
			err         error // of the operation
			closes      bool  // the tasks are closed after a second, or ctx ends
			want        error
			undone, got int
		}{
			{"in time", time.Second / 2, nil, false, nil, 0, 7},
			{"fails in time", time.Second / 2, failed, false, failed, 0, 0},
			{"too late", time.Minute, nil, false, context.DeadlineExceeded, 7, 0},
			{"fails too late", time.Minute, failed, false, context.DeadlineExceeded, 0, 0},
			{"closed", time.Minute, nil, true, adapters.ErrClosed, 7, 0},
		} {
			tasks, undone := kit.NewTasks(), new(atomic.Int64)
			ctx, cancel := context.WithCancel(t.Context())
			if c.closes {
				time.AfterFunc(time.Second, func() { tasks.Close() })
			} else {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			got, err := kit.Call(ctx, tasks, func() (int, error) {
				time.Sleep(c.takes)
				if c.err != nil {
					return 0, c.err
				}
				return 7, nil
			}, func(v int) { undone.Add(int64(v)) })
			if got != c.got || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s: %d, %v", c.name, got, err)
			}
			tasks.Close()
			tasks.Wait()
			if int(undone.Load()) != c.undone {
				t.Errorf("%s: undone %d", c.name, undone.Load())
			}
			cancel()
			if _, err := kit.Call(t.Context(), tasks, func() (int, error) { return 1, nil }, func(int) {}); !errors.Is(err, adapters.ErrClosed) {
				t.Errorf("%s: called after Close: %v", c.name, err)
			}
		}
	})
}

// TestCallRaces: when the result and the end of ctx come together it is one or the other.
func TestCallRaces(t *testing.T) {
	for range 1000 {
		tasks, undone := kit.NewTasks(), new(atomic.Bool)
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, err := kit.Call(ctx, tasks, func() (int, error) { return 7, nil }, func(int) { undone.Store(true) })
		tasks.Close()
		tasks.Wait()
		if (err != nil) != undone.Load() {
			t.Fatalf("error %v, undone: %v", err, undone.Load())
		}
	}
}

func TestTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks, ended := kit.NewTasks(), new(atomic.Bool)
		if !tasks.Go(func() { time.Sleep(time.Minute); ended.Store(true) }) {
			t.Fatal("not started")
		}
		if !tasks.Close() || tasks.Close() {
			t.Error("Close does not know whether it is the first")
		}
		<-tasks.Closed()
		if tasks.Go(func() {}) {
			t.Error("started after Close")
		}
		if tasks.Wait(); !ended.Load() {
			t.Error("Wait did not wait")
		}
	})
}

func TestBackoff(t *testing.T) {
	b := kit.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		want *= time.Millisecond
		if got := b.Next(); got < want/2 || got > want {
			t.Errorf("wait of %v, want %v to %v", got, want/2, want)
		}
	}
	if b.Reset(); b.Next() > 100*time.Millisecond {
		t.Error("a long wait after Reset")
	}
}
