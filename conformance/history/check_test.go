package history

import (
	"errors"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

// A script makes a history by hand.
type script struct{ *Log }

func (s script) publish(id string, outcome Op, to adapters.Endpoint, key string) script {
	e := Event{Op: PublishInvoke, Client: "p", ID: id, Attempt: 1, To: to, Key: key, Publish: s.Number()}
	s.Add(e)
	e.Op = outcome
	s.Add(e)
	return s
}

func (s script) sent(id string) script { return s.publish(id, PublishOK, onQueue("q"), "") }

// delivered adds a delivery and, unless it is "in hand", what became of it.
func (s script) delivered(id string, session uint64, redelivered bool, then string) script {
	e := Event{Op: Deliver, Client: "c", ID: id, Attempt: 1, Queue: "q", Session: session, Redelivered: redelivered, Delivery: s.Number()}
	s.Add(e)
	switch then {
	case "ack":
		e.Op = Settled
	case "requeue":
		e.Op, e.Outcome = Settled, adapters.Requeue
	case "stale":
		e.Op, e.Err = Unsettled, adapters.ErrStaleDelivery
	default:
		return s
	}
	s.Add(e)
	return s
}

func (s script) lost(session uint64) script {
	s.Add(Event{Op: SessionEnd, Client: "c", Queue: "q", Session: session, Err: adapters.ErrSessionLost})
	return s
}

func (s script) event(e Event) script { s.Add(e); return s }

func onQueue(name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: name}
}

func TestCheckerFinds(t *testing.T) {
	topic := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	const none = Kind("")
	for name, c := range map[string]struct {
		make func(script) script
		want Kind
	}{
		"all well": {func(s script) script { return s.sent("a").delivered("a", 1, false, "ack") }, none},
		"redelivered after a lost session": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "stale").delivered("a", 2, true, "ack").lost(1)
		}, none},
		"requeued": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "requeue").delivered("a", 1, true, "ack")
		}, none},
		"left in the queue": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "requeue").event(Event{Op: Left, ID: "a", Attempt: 1, Queue: "q"})
		}, none},
		"unknown and there": {func(s script) script {
			return s.publish("a", PublishUnknown, onQueue("q"), "").delivered("a", 1, false, "ack")
		}, none},
		"unknown and not there": {func(s script) script { return s.publish("a", PublishUnknown, onQueue("q"), "") }, none},
		"unknown, sent again, there twice": {func(s script) script {
			return s.publish("a", PublishUnknown, onQueue("q"), "").sent("a").delivered("a", 1, false, "ack").delivered("a", 1, false, "ack")
		}, none},
		"acknowledged too late for the broker to hear it": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "ack").lost(1).delivered("a", 2, true, "ack")
		}, none},
		"dead letter of the broker's": {func(s script) script {
			s = s.event(Event{Op: Bind, To: onQueue("q"), Queue: "q", Dead: "d"}).sent("a")
			return s.event(Event{Op: Left, ID: "a", Attempt: 1, Queue: "d"})
		}, none},
		"first delivery again after a crash": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "in hand").event(Event{Op: Crash}).lost(1).delivered("a", 2, false, "ack")
		}, none},
		"no binding, no copy": {func(s script) script { return s.publish("a", PublishOK, topic, "x.y") }, none},
		"unknown while unbound, sent again once bound": {func(s script) script {
			fanout := adapters.Endpoint{Kind: adapters.Fanout, Name: "all"}
			s = s.event(Event{Op: Bind, To: fanout, Queue: "q"}).event(Event{Op: Unbind, To: fanout, Queue: "q"})
			s = s.publish("a", PublishUnknown, fanout, "").delivered("a", 1, false, "ack")
			s = s.event(Event{Op: Bind, To: fanout, Queue: "q"}).publish("a", PublishOK, fanout, "")
			return s.delivered("a", 1, false, "ack")
		}, none},
		"back in time": {func(s script) script {
			return s.event(Event{Op: Returned, Call: "Publish", Over: grace - time.Millisecond, Err: errors.New("late")})
		}, none},

		"confirmed and lost": {func(s script) script { return s.sent("a") }, Lost},
		"lost in one of two queues": {func(s script) script {
			s = s.event(Event{Op: Bind, To: topic, Queue: "q", Keys: []string{"x.*"}})
			s = s.event(Event{Op: Bind, To: topic, Queue: "r", Keys: []string{"#.y"}})
			return s.publish("a", PublishOK, topic, "x.y").delivered("a", 1, false, "ack")
		}, Lost},
		"acknowledged by the wrong one": {func(s script) script { return s.sent("a").delivered("a", 1, false, "stale").lost(1) }, WrongAck},
		"requeued and gone":             {func(s script) script { return s.sent("a").delivered("a", 1, false, "requeue") }, WrongAck},
		"in the hand of who died":       {func(s script) script { return s.sent("a").delivered("a", 1, false, "in hand") }, WrongAck},
		"empty message":                 {func(s script) script { return s.delivered("", 1, false, "ack") }, Phantom},
		"never sent":                    {func(s script) script { return s.delivered("b", 1, false, "ack") }, Unexpected},
		"never sent, and left":          {func(s script) script { return s.event(Event{Op: Left, ID: "b", Attempt: 1, Queue: "q"}) }, Unexpected},
		"sent to another queue": {func(s script) script {
			return s.publish("a", PublishUnknown, onQueue("other"), "").delivered("a", 1, false, "ack")
		}, Misrouted},
		"failed and there": {func(s script) script {
			return s.publish("a", PublishFail, onQueue("q"), "").delivered("a", 1, false, "ack")
		}, Ghost},
		"twice for the first time": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "requeue").delivered("a", 1, false, "ack")
		}, Unexplained},
		"again after its ack": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "ack").delivered("a", 1, true, "ack")
		}, Resurrected},
		"to two at a time": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "in hand").delivered("a", 2, true, "ack")
		}, Resurrected},
		"again after its ack, and closed long after": {func(s script) script {
			s = s.sent("a").delivered("a", 1, false, "ack").delivered("a", 1, true, "ack")
			s.start = s.start.Add(-time.Hour)
			return s.event(Event{Op: SessionEnd, Session: 1, Err: adapters.ErrClosed})
		}, Resurrected},
		"back too late": {func(s script) script {
			return s.event(Event{Op: Returned, Call: "Publish", Over: grace + time.Millisecond})
		}, Overdue},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.make(script{New()})
			v := s.Check()
			switch {
			case c.want == none && len(v.Violations) > 0:
				t.Errorf("found %v, want nothing", v.Violations)
			case c.want != none && !v.Has(c.want):
				t.Errorf("found %v, want it to be %s", v.Violations, c.want)
			case len(v.Violations) > 1:
				t.Errorf("found %v, want one violation", v.Violations)
			}
		})
	}
}

func TestCheckerFindsWhoHangs(t *testing.T) {
	h := New()
	back := h.Call(t.Context(), "c", "Publish")
	if v := h.Check(); !v.Has(Hung) {
		t.Errorf("found %v, want it to be %s", v.Violations, Hung)
	}
	back(nil)
	if v := h.Check(); len(v.Violations) > 0 {
		t.Errorf("found %v, want nothing", v.Violations)
	}
}

func TestCheckerCounts(t *testing.T) {
	s := script{New()}.sent("a").sent("b").publish("c", PublishUnknown, onQueue("q"), "").publish("d", PublishFail, onQueue("q"), "")
	s = s.delivered("a", 1, false, "stale").lost(1).delivered("a", 2, true, "ack").delivered("c", 2, false, "ack")
	v := Check(s.Events(), nil)
	v.Violations, v.Gap = nil, 0
	if want := (Verdict{Attempted: 4, Confirmed: 2, Unknown: 1, Delivered: 3, Duplicated: 1, Lost: 1}); v.String() != want.String() {
		t.Errorf("got %s, want %s", v, want)
	}
}

func TestLogKnowsWhatIsOpen(t *testing.T) {
	s := script{New()}.sent("a").sent("b").delivered("a", 1, false, "ack")
	if s.Open() != 1 {
		t.Errorf("%d messages are open, want 1", s.Open())
	}
	if s = s.delivered("b", 1, false, "requeue"); s.Open() != 1 {
		t.Errorf("%d messages are open after a requeue, want 1", s.Open())
	}
	if s = s.delivered("b", 1, true, "ack"); s.Open() != 0 {
		t.Errorf("%d messages are open, want 0", s.Open())
	}
}
