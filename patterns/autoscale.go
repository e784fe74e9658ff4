package patterns

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// growAfter is how long workers have to have been busy before there are more.
	growAfter = 100 * time.Millisecond

	// shrinkAfter is how long workers have to have been too many before there are fewer.
	shrinkAfter = time.Minute
)

// WorkersBetween has a subscription handle between least and most messages at a time, as many as
// its backlog needs. It begins with the least. While its workers were busy for more than nine
// tenths of the last 100 ms, because messages wait for them, there are more: one, then two more,
// four, and so on. Those that were not needed at any one time in a minute end, but for one in nine,
// at least one. This is known from what the workers do, and the broker is not asked. Handlers that
// take no longer than it takes to receive a message do not get more workers, which would not help.
//
// [Prefetch] is the most without it, and cannot be less: until there are more workers, messages
// that other processes could have may wait in this one. [SubscriptionHealth] says how many workers
// there are. WorkersBetween cannot be combined with [Workers], and [Subscription.SetWorkers] is
// refused. So is WorkersBetween of batches, which grow with the backlog by themselves.
func WorkersBetween(least, most int) ConsumeOption {
	return ConsumeOption{func(c *consumeConfig) error {
		if least < 1 || most < least {
			return invalid("WorkersBetween(%d, %d), at least 1 is needed, and the most cannot be less than the least", least, most)
		}
		return setOnce("WorkersBetween", &c.between, bounds{least, most})
	}}
}

// bounds are those of a number of workers.
type bounds struct{ min, max int }

// scaler changes how many workers a subscription has. It has no goroutine of its own, and timers
// that run only while messages come, or while there are more workers than the least.
type scaler struct {
	s        *Subscription
	min, max int
	began    time.Time // all times are since then, in nanoseconds

	looks  atomic.Bool  // grow is to be called
	since  atomic.Int64 // what it is to look at began then
	waited atomic.Int64 // how long workers have waited for messages since then, together
	busy   atomic.Int64 // how many have one
	peak   atomic.Int64 // most of them at a time since shrink was called

	mu        sync.Mutex
	step      int         // how many more there were the last time
	growth    *time.Timer // calls grow
	shrinking bool        // shrink is to be called
	shrinkage *time.Timer // which this does
}

func newScaler(s *Subscription, o bounds) *scaler {
	a := &scaler{s: s, min: o.min, max: o.max, began: time.Now()}
	a.growth, a.shrinkage = time.AfterFunc(math.MaxInt64, a.grow), time.AfterFunc(math.MaxInt64, a.shrink)
	a.stop()
	s.onEnd(a.stop)
	return a
}

func (a *scaler) stop() bool {
	a.growth.Stop()
	return a.shrinkage.Stop()
}

func (a *scaler) now() int64 { return max(1, int64(time.Since(a.began))) } // 0 is for who does not wait

// waits notes that w begins to wait for a message.
func (a *scaler) waits(w *worker) {
	if w.waitsSince.CompareAndSwap(0, a.now()) && w.counted {
		w.counted = false
		a.busy.Add(-1)
	}
}

// received notes that w has one.
func (a *scaler) received(w *worker) {
	now := a.now()
	if since := w.waitsSince.Swap(0); since > 0 {
		a.waited.Add(max(0, now-max(since, a.since.Load())))
	}
	w.counted = true
	busy := a.busy.Add(1)
	for peak := a.peak.Load(); busy > peak && !a.peak.CompareAndSwap(peak, busy); peak = a.peak.Load() {
	}
	a.look(now)
}

// look has grow called after a time, unless it is going to be.
func (a *scaler) look(now int64) {
	if !a.looks.Load() && a.looks.CompareAndSwap(false, true) {
		a.since.Store(now)
		a.waited.Store(0)
		a.growth.Reset(growAfter)
	}
}

// grow makes more workers, if those that there are were busy. If one of them waits for a message
// it is that message that has grow called again.
func (a *scaler) grow() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, since, waited := a.now(), a.since.Load(), a.waited.Load()
	a.looks.Store(false) // before it looks who waits: whose message comes after that begins again
	n, waiting := 0, false
	for _, w := range a.s.currentWorkers() {
		if w.retired.Load() {
			continue
		}
		n++
		if from := w.waitsSince.Load(); from > 0 {
			waiting = true
			waited += max(0, now-max(from, since))
		}
	}
	isBusy := waited*10 < int64(n)*(now-since)
	switch {
	case n >= a.max, a.s.draining.Load():
		return
	case isBusy:
		a.step = min(max(1, 2*a.step), a.max-n)
		a.resize(n, n+a.step)
	default:
		a.step = 0
	}
	if isBusy || !waiting {
		a.look(now)
	}
}

// shrink ends the workers that were not needed since it was called last.
func (a *scaler) shrink() {
	a.mu.Lock()
	defer a.mu.Unlock()
	needed := int(a.peak.Swap(a.busy.Load()))
	n := a.s.workerCount()
	to := min(n, max(a.min, needed+1+needed/8))
	a.shrinking = false
	a.resize(n, to)
}

// resize makes n workers as many as there are to be.
func (a *scaler) resize(n, to int) {
	if to != n {
		if a.s.resize(to) != nil { // it is over
			return
		}
		a.s.bus.log.Debug("motif: another number of workers", "queue", a.s.queue, "from", n, "to", to)
	}
	if to > a.min && !a.shrinking {
		a.shrinking = true
		a.peak.Store(a.busy.Load())
		a.shrinkage.Reset(shrinkAfter)
	}
}
