package jetstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// A pull asks for messages. Once the server has sent so many, or the time is over, the next one is
// sent: never two at a time, or a busy subscription would have more turns than an idle one.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second  // how often the server says that it still knows of a pull
	pullSilence   = 15 * time.Second // after which it does not
)

// attachment is a subscription's consuming in one session, of one queue.
type attachment struct {
	sub     *subscription
	session *session
	queue   *queue

	ctx context.Context // of its messages: ends with the session, or when over is set
	end context.CancelCauseFunc

	gone  chan struct{} // the queue is, or does not answer
	leave func()        // closes gone

	// Guarded by the subscription's mutex:
	inbox  *nats.Subscription
	asked  int       // what is left of the pull
	heard  time.Time // from the server
	closed bool      // nothing is fetched any more
	over   bool      // another attachment has taken its place
	gets   bool      // it is for what Get took
}

// attach begins to consume in a session. What was held before goes back.
func (s *subscription) attach(ctx context.Context, session *session) error {
	q, err := s.declare(ctx, session)
	if err != nil {
		return err
	}
	at := &attachment{sub: s, session: session, queue: q, gone: make(chan struct{}), heard: time.Now()}
	at.leave = sync.OnceFunc(func() { close(at.gone) })
	inbox, err := session.nc.Subscribe(newInbox(), at.take)
	if err != nil {
		return session.sendError(err)
	}
	_ = inbox.SetPendingLimits(-1, -1) // the prefetch is the limit
	at.ctx, at.end = context.WithCancelCause(context.Background())
	session.add(at)
	s.mu.Lock()
	at.inbox = inbox
	old := s.at
	s.at = at
	if old != nil {
		old.session.drop(old)
		old.end(adapters.ErrSessionLost) // before anybody is told that a message is stale
		old.over = true
	}
	lost := s.takeAll(nil)
	s.mu.Unlock()
	if old != nil {
		_ = old.inbox.Unsubscribe()
		s.giveBack(ctx, session, q, lost)
	}
	s.mu.Lock()
	at.pull()
	s.mu.Unlock()
	return nil
}

// pull asks for as many messages as there is room for, unless some that were asked for may still
// come, or more wait here than that: a pull for each message would cost the server as much as the
// message. The subscription's mutex is held.
func (at *attachment) pull() {
	s := at.sub
	room := s.source.Prefetch - len(s.held)
	if at.closed || s.at != at || s.err != nil || at.asked > 0 || room <= 0 || len(s.ready) > room {
		return
	}
	question := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, room, pullExpires, pullHeartbeat)
	if at.session.nc.PublishRequest(nextSubject(at.queue), at.inbox.Subject, question) == nil {
		at.asked = room
		at.heard = time.Now()
	}
}

func nextSubject(q *queue) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + q.stream() + "." + q.consumer()
}

// take gets what the server sends: messages, and what becomes of a pull.
func (at *attachment) take(m *nats.Msg) {
	s := at.sub
	s.mu.Lock()
	defer s.mu.Unlock()
	at.heard = time.Now()
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 {
		switch status {
		case "100": // a heartbeat
			return
		case "408": // its time is over
			at.asked = 0
			at.pull()
		default: // the consumer is gone, or its leader is: look, and begin anew
			at.leave()
		}
		return
	}
	h, err := at.newDelivery(m)
	if err != nil {
		return // no message of a consumer
	}
	at.asked = max(at.asked-1, 0)
	switch {
	case s.at != at || at.closed: // it came too late
		_ = at.session.nc.Publish(h.reply, ackRequeue)
	case h.isExpired():
		s.held[h] = struct{}{}
		h.expire()
	default:
		s.held[h] = struct{}{}
		s.ready = append(s.ready, h)
		s.come.Signal()
		at.pull()
	}
}

// drain ends fetching: what is on its way comes, and goes back.
func (at *attachment) drain(ctx context.Context) {
	if at.inbox == nil {
		return // of what Get took
	}
	done := make(chan struct{})
	at.inbox.SetClosedHandler(func(string) { close(done) })
	if at.inbox.Drain() != nil {
		return // with the session
	}
	select {
	case <-done:
	case <-at.session.ctx.Done():
	case <-ctx.Done():
	}
}
