package amqp

import (
	"time"
)

// patience is how long one answer may hold up those behind it.
const patience = 20 * time.Millisecond

// completer calls back for asynchronous publishes as their answers come, in
// the order of the publishes as a rule: then one goroutine is enough, and it finds most
// answers there already. What takes longer, as with a queue that has lost its majority,
// gets a goroutine of its own, of which there are no more than publishes in flight.
type completer struct {
	flying chan landing
	halt   chan struct{}
}

type landing struct {
	inFlight
	since time.Time
	done  func(error)
}

func (c *completer) init(most int) {
	c.flying = make(chan landing, most) // a place for each, so that add never blocks
	c.halt = make(chan struct{})
}

func (c *completer) add(f inFlight, done func(error)) {
	c.flying <- landing{f, time.Now(), done}
}

// stop ends run. Nothing is in flight any more.
func (c *completer) stop() { close(c.halt) }

func (c *completer) run(d *Driver) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		var l landing
		select {
		case l = <-c.flying:
		case <-c.halt:
			return
		}
		select {
		case <-l.confirm.Done():
			l.complete(d)
			continue
		default:
		}
		timer.Reset(patience - time.Since(l.since))
		select {
		case <-l.confirm.Done():
			l.complete(d)
		case <-timer.C:
			go func() { // Close waits for its place in flight
				<-l.confirm.Done()
				l.complete(d)
			}()
		}
	}
}

func (l *landing) complete(d *Driver) {
	l.done(l.outcome())
	<-d.inFlight
}
