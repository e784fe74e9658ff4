package amqp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// fakeChannel is what RabbitMQ does with acknowledgements: it looks for the
// tag among the unacknowledged, and closes the channel if it is not there.
type fakeChannel struct {
	unacked []uint64 // in order
	acked   []uint64
	nacked  []uint64
	frames  int
	closed  error
}

func (c *fakeChannel) deliver(tags ...uint64) { c.unacked = append(c.unacked, tags...) }

func (c *fakeChannel) take(tag uint64, multiple bool) []uint64 {
	c.frames++
	i := slices.Index(c.unacked, tag)
	if i < 0 {
		c.closed = fmt.Errorf("unknown delivery tag %d", tag)
		return nil
	}
	from := i
	if multiple {
		from = 0
	}
	taken := slices.Clone(c.unacked[from : i+1])
	c.unacked = slices.Delete(c.unacked, from, i+1)
	return taken
}

func (c *fakeChannel) Ack(tag uint64, multiple bool) error {
	c.acked = append(c.acked, c.take(tag, multiple)...)
	return nil
}

func (c *fakeChannel) Nack(tag uint64, multiple, _ bool) error {
	c.nacked = append(c.nacked, c.take(tag, multiple)...)
	return nil
}

// TestLedgerAtRandom settles deliveries in random order with random outcomes,
// and checks that the broker hears what was meant, all of it, and nothing else.
func TestLedgerAtRandom(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			prefetch := 1 + r.IntN(20)
			ch := &fakeChannel{}
			l := newLedger(ch, prefetch)
			var inHand, acked, nacked []uint64
			next := uint64(1)
			room := func() bool {
				l.mu.Lock() // the timer may be at work
				defer l.mu.Unlock()
				return len(ch.unacked) < prefetch
			}
			for range 500 {
				switch n := r.IntN(10); {
				case n < 5 && room():
					ch.deliver(next)
					if !l.handOut() {
						t.Fatal("take refused")
					}
					inHand = append(inHand, next)
					next++
				case n < 9 && len(inHand) > 0:
					i := r.IntN(len(inHand))
					tag := inHand[i]
					inHand = slices.Delete(inHand, i, i+1)
					o := adapters.Ack
					if r.IntN(4) == 0 {
						o = adapters.Requeue
						nacked = append(nacked, tag)
					} else {
						acked = append(acked, tag)
					}
					if err := l.settle(tag, o, r.IntN(3) == 0); err != nil {
						t.Fatal(err)
					}
				default:
					time.Sleep([]time.Duration{0, ackDelay, runDelay}[r.IntN(3)])
					synctest.Wait()
				}
				if ch.closed != nil {
					t.Fatalf("seed %d: the broker closed the channel: %v", seed, ch.closed)
				}
			}
			time.Sleep(runDelay)
			synctest.Wait()
			slices.Sort(inHand)
			slices.Sort(acked)
			slices.Sort(ch.acked)
			slices.Sort(nacked)
			slices.Sort(ch.nacked)
			if !slices.Equal(ch.unacked, inHand) || !slices.Equal(ch.acked, acked) || !slices.Equal(ch.nacked, nacked) {
				t.Fatalf("seed %d: in hand %v, broker has %v\nacked %v, broker %v\nnacked %v, broker %v",
					seed, inHand, ch.unacked, acked, ch.acked, nacked, ch.nacked)
			}
			l.close(errAllSettled)
		})
	}
}

func TestLedgerAcksInRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // however slow the machine is, no time passes
		ch := &fakeChannel{}
		l := newLedger(ch, 100)
		for tag := range uint64(1000) {
			ch.deliver(tag + 1)
			l.handOut()
			_ = l.settle(tag+1, adapters.Ack, false)
		}
		l.close(errAllSettled)
		if ch.frames > 1000/50+1 {
			t.Errorf("%d frames for 1000 acknowledgements with prefetch 100, want one per 50", ch.frames)
		}
	})
}

// A run is one frame, however long it is, also of a subscription that was stopped.
func TestLedgerAcksARunAtOnce(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ch := &fakeChannel{}
			l := newLedger(ch, 100)
			for tag := range uint64(100) {
				ch.deliver(tag + 1)
				l.handOut()
			}
			if stopped {
				l.stop()
			}
			for tag := range uint64(100) {
				_ = l.settle(tag+1, adapters.Ack, tag < 99)
			}
			l.mu.Lock()
			if ch.frames != 1 || len(ch.acked) != 100 {
				t.Errorf("stopped: %v: %d frames acknowledge %d of 100 messages, want one for all", stopped, ch.frames, len(ch.acked))
			}
			l.mu.Unlock()
			l.close(errAllSettled)
		})
	}
}

// A run is one frame, however slow the machine is; one that is not ended is sent soon, and one that
// is ended as soon as what is in no run.
func TestLedgerTellsOfARunSoon(t *testing.T) {
	for _, tt := range []struct {
		name   string
		inRun  []bool
		pauses time.Duration // after each but the last
		after  time.Duration // the last
	}{
		{"a run", []bool{true, true, true, false}, 10 * ackDelay, ackDelay},
		{"one that stays a run", []bool{true, true}, 10 * ackDelay, runDelay - 10*ackDelay},
		{"one of no run before", []bool{false, true, false}, 0, ackDelay},
		{"alone", []bool{true}, 0, runDelay},
		{"behind one of no run, which it does not hold up", []bool{false, true}, 0, ackDelay},
		{"two batches, of which one has ended", []bool{true, false, true}, 0, ackDelay},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ch := &fakeChannel{}
				l := newLedger(ch, 100)
				defer l.close(errAllSettled)
				want := []uint64{}
				for i, inRun := range tt.inRun {
					tag := uint64(i + 1)
					want = append(want, tag)
					ch.deliver(tag)
					l.handOut()
					if i > 0 {
						time.Sleep(tt.pauses)
					}
					_ = l.settle(tag, adapters.Ack, inRun)
				}
				time.Sleep(tt.after - time.Nanosecond)
				synctest.Wait()
				l.mu.Lock()
				if ch.frames != 0 {
					t.Errorf("%v are acknowledged early", ch.acked)
				}
				l.mu.Unlock()
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				if !slices.Equal(ch.acked, want) || ch.frames != 1 {
					t.Errorf("acked %v in %d frames, want %v in one", ch.acked, ch.frames, want)
				}
			})
		})
	}
}

func TestLedgerTellsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ch := &fakeChannel{}
		l := newLedger(ch, 100)
		for tag := range uint64(5) {
			ch.deliver(tag + 1)
			l.handOut()
		}
		_ = l.settle(1, adapters.Ack, false)
		_ = l.settle(2, adapters.Ack, false)
		_ = l.settle(4, adapters.Ack, false)
		l.mu.Lock()
		if ch.frames != 0 {
			t.Errorf("%d frames at once", ch.frames)
		}
		l.mu.Unlock()
		time.Sleep(ackDelay)
		synctest.Wait()
		if !slices.Equal(ch.acked, []uint64{1, 2, 4}) || ch.frames != 2 {
			t.Errorf("acked %v in %d frames", ch.acked, ch.frames)
		}
		l.close(errAllSettled)
	})
}

// TestLedgerWithoutRoom: with no place left at the broker's side there is
// nothing to wait for.
func TestLedgerWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // however slow the machine is, no time passes
		ch := &fakeChannel{}
		l := newLedger(ch, 1)
		ch.deliver(1)
		l.handOut()
		_ = l.settle(1, adapters.Ack, false)
		if len(ch.acked) != 1 {
			t.Error("prefetch 1: not acknowledged at once")
		}

		ch = &fakeChannel{}
		l = newLedger(ch, 10)
		for tag := range uint64(10) {
			ch.deliver(tag + 1)
			l.handOut()
		}
		l.flushed = time.Now()
		_ = l.settle(1, adapters.Ack, false)
		if len(ch.acked) != 0 {
			t.Error("acknowledged at once")
		}
		l.flushIfStarving() // nine in hand, one acknowledged: the broker can send nothing
		if len(ch.acked) != 1 {
			t.Error("idle, and still not acknowledged")
		}
		l.close(errAllSettled)
	})
}

// TestLedgerAcksEarlyWhenShort: where the workers may soon have used up what was sent ahead, the
// broker is not kept waiting for half of the prefetch. Where there is plenty, it is.
func TestLedgerAcksEarlyWhenShort(t *testing.T) {
	const messages, each = 1000, 50 * time.Microsecond
	late, early := int(messages*each/ackDelay), int(messages*each/(ackDelay/4))
	for _, tt := range []struct{ workers, prefetch, frames int }{
		{1, 100, late},
		{8, 1000, late},
		{8, 16, early},
		{8, 15, early},
	} {
		synctest.Test(t, func(t *testing.T) {
			ch := &fakeChannel{}
			l := newLedger(ch, tt.prefetch)
			for tag := range messages + tt.workers {
				time.Sleep(each)
				l.mu.Lock()
				ch.deliver(uint64(tag + 1))
				l.mu.Unlock()
				l.handOut()
				if done := tag + 1 - tt.workers; done > 0 {
					_ = l.settle(uint64(done), adapters.Ack, false)
				}
			}
			l.mu.Lock()
			if ch.frames < tt.frames*9/10 || ch.frames > tt.frames*11/10 {
				t.Errorf("%d workers, prefetch %d: %d frames, want about %d", tt.workers, tt.prefetch, ch.frames, tt.frames)
			}
			l.mu.Unlock()
			l.close(errAllSettled)
		})
	}
}

func TestLedgerEnds(t *testing.T) {
	ch := &fakeChannel{}
	l := newLedger(ch, 10)
	ch.deliver(1, 2)
	l.handOut()
	l.handOut()
	drained := 0
	l.drained = func() { drained++ }
	if !l.stop() {
		t.Error("stop: nothing in hand")
	}
	if l.handOut() {
		t.Error("take after stop")
	}
	_ = l.settle(2, adapters.Ack, false)
	if len(ch.acked) != 1 {
		t.Error("stopped, and not acknowledged at once")
	}
	_ = l.settle(1, adapters.Reject, false)
	if drained != 1 {
		t.Errorf("drained %d times", drained)
	}
	lost := errors.New("lost")
	l.close(errAllSettled) // as for a queue that was deleted
	l.close(lost)
	l.close(errAllSettled)
	if err := l.settle(3, adapters.Ack, false); !errors.Is(err, lost) || ch.frames != 2 {
		t.Errorf("settle after the end: %v, %d frames", err, ch.frames)
	}
}
