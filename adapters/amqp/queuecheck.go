package amqp

import (
	"context"
	"sync"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// A queue that may be new is asked for a message, on a connection that carries nothing else: if it
// answers, it works, and nobody has to wait for as long as it might take. If it does not work yet
// that costs the connection, and nothing more. An empty queue has no message to give; one that came
// in that moment goes back, before anybody consumes who waited for the answer.

const (
	maxChecks = 32              // at a time; whoever finds as many waits for settlingTime instead
	checkIdle = 5 * time.Second // after which the connection is closed
	checkRest = time.Minute     // after a login that failed, as where a user may have so many connections
)

// checker has the connection on which queues are asked, which is made when it is needed.
type checker struct {
	slots chan struct{}

	mu    sync.Mutex
	sup   *supervisor // nil if there is none
	users int
	idle  *time.Timer // ends it, once it has no users
	rest  time.Time   // until when there is to be none
	back  map[checked]struct{}
}

// checked is a message that a queue gave when it was asked, and that has not come again since.
type checked struct{ queue, id string }

const maxChecked = 1024 // how many are remembered

// settle waits until a queue that may be new works.
func (conn *connection) settle(ctx context.Context, queue string) error {
	t := time.NewTimer(conn.settlingTime())
	defer t.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	works := make(chan struct{})
	conn.supervisor.driver.tasks.Go(func() {
		if conn.supervisor.driver.works(ctx, queue) {
			close(works)
		}
	})
	select {
	case <-works:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-conn.ctx.Done():
		return context.Cause(conn.ctx)
	}
	return nil
}

// works reports whether it is certain that a queue works.
func (d *Driver) works(ctx context.Context, queue string) bool {
	c := &d.checker
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return false
	}
	sup := c.use(d)
	if sup == nil {
		return false
	}
	defer c.release()
	conn, err := sup.connection(ctx)
	if err != nil {
		return false
	}
	return nil == conn.withKeptChannel(ctx, func(ch *amqp091.Channel) error {
		m, ok, err := ch.Get(queue, false)
		if !ok {
			return err
		}
		c.note(checked{queue, m.MessageId})
		if err := m.Nack(false, true); err != nil {
			return err
		}
		return ch.Qos(1, 0, false) // once that is answered, whoever consumes does so after the nack
	})
}

// note notes that a message goes back.
func (c *checker) note(m checked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back == nil || len(c.back) >= maxChecked {
		c.back = make(map[checked]struct{})
	}
	c.back[m] = struct{}{}
}

// forget reports whether a message that has come went back before.
func (c *checker) forget(m checked) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, was := c.back[m]
	delete(c.back, m)
	return was
}

// correctReturns corrects how often a message has come back, which is to be without a check: before
// 4.3 the broker counts that, too. Where the queue counts, a message that is marked redelivered and
// has no count is a dead letter of one that was.
func (d *Driver) correctReturns(out *adapters.Delivery, queue string, counts bool) {
	switch {
	case out.Returned < 0 && counts:
		out.Returned = 0
	case out.Returned > 0 && d.checker.forget(checked{queue, out.Message.UUID}):
		out.Returned--
	}
}

// use returns the supervisor of the connection, or nil if there is to be none. Its user calls
// release.
func (c *checker) use(d *Driver) *supervisor {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.rest) {
		return nil
	}
	c.users++
	if c.idle != nil {
		c.idle.Stop()
	}
	if c.sup == nil || c.sup.ctx.Err() != nil {
		sup := newSupervisor(d, "check")
		d.tasks.Go(func() { c.connect(sup) })
		c.sup = sup
	}
	return c.sup
}

// connect makes the connection, and returns when it has ended. Nothing is said of it: it carries
// nothing, and that it is lost is an answer.
func (c *checker) connect(sup *supervisor) {
	defer sup.stop()
	conn, err := sup.connect(sup.ctx)
	sup.setCurrent(conn, err)
	if err == nil {
		_ = conn.watch()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = time.Now().Add(checkRest)
}

func (c *checker) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users--; c.users == 0 {
		c.idle = time.AfterFunc(checkIdle, c.end)
	}
}

// end closes the connection, unless somebody uses it.
func (c *checker) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == 0 && c.sup != nil {
		c.sup.stop()
		c.sup = nil
	}
}

// close keeps nothing for later.
func (c *checker) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		c.idle.Stop()
	}
}
