package memory

import (
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

// delays is the messages that wait to be routed.
type delays struct {
	broker *Broker

	mu      sync.Mutex
	waiting heap[*delayed]
	seq     uint64
	timer   *time.Timer
	routing bool // some are being routed, after which the timer is set
	stopped bool
}

// fullPause is how long a message waits once more if its queue was full when it was due.
const fullPause = time.Second

type delayed struct {
	record record
	to     adapters.Endpoint
	due    time.Duration // on the broker's clock
	seq    uint64
}

// before orders by time, and keeps the order of what is due at the same moment.
func (d *delayed) before(o *delayed) bool { //nolint:unused // heap does
	return d.due < o.due || d.due == o.due && d.seq < o.seq
}

func (d *delays) add(to adapters.Endpoint, r record, wait time.Duration) {
	defer d.broker.idle.note()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	x := &delayed{record: r, to: to, due: d.broker.clock.after(wait), seq: d.seq}
	d.waiting.push(x)
	if d.waiting[0] == x {
		d.armTimer()
	}
}

// armTimer sets the timer for the first message. The lock is held.
func (d *delays) armTimer() {
	if len(d.waiting) == 0 || d.routing || d.stopped {
		return
	}
	wait := d.waiting[0].due - d.broker.clock.now()
	if d.timer == nil {
		d.timer = time.AfterFunc(wait, d.routeDue)
	} else {
		d.timer.Reset(wait)
	}
}

// routeDue routes what is due, one message after the other.
func (d *delays) routeDue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.routing {
		return
	}
	d.routing = true
	for len(d.waiting) > 0 && d.waiting[0].due <= d.broker.clock.now() {
		first := d.waiting.pop()
		d.mu.Unlock()
		// Its publisher was told long ago that the message is stored.
		refused, _ := d.broker.route(first.to, &first.record)
		for _, q := range refused {
			d.add(adapters.Endpoint{Kind: adapters.Queue, Name: q.name}, first.record, fullPause)
		}
		d.mu.Lock()
	}
	d.routing = false
	d.armTimer()
	d.broker.idle.note()
}

// filter removes the messages that are not to be kept.
func (d *delays) filter(keep func(*delayed) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.waiting
	d.waiting = nil
	d.broker.idle.note()
	for _, x := range old {
		if keep(x) {
			d.waiting.push(x)
		}
	}
}

// cancel removes the messages to an endpoint that have an id, and reports whether there were any.
func (d *delays) cancel(to adapters.Endpoint, id string) (found bool) {
	d.filter(func(x *delayed) bool {
		is := x.to == to && x.record.uuid == id
		found = found || is
		return !is
	})
	return found
}

func (d *delays) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	d.waiting = nil
	d.broker.idle.note()
	if d.timer != nil {
		d.timer.Stop()
	}
}
