package history

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// A script makes a history by hand.
type script struct{ *Log }

func (s script) publish(id string, outcome Op, to adapters.Endpoint, key string) script {
	return s.publishEvent(Event{ID: id, To: to, Key: key}, outcome)
}

func (s script) publishEvent(e Event, outcome Op) script {
	e.Op, e.Client, e.Attempt, e.Publish = PublishInvoke, "p", 1, s.Number()
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

// received adds a first delivery to who asked for it when there were so many events.
func (s script) received(id string, session uint64, asked int) script {
	return s.event(Event{Op: Deliver, Client: "c", ID: id, Attempt: 1, Queue: "q", Session: session, Delivery: s.Number(), Begun: asked})
}

func (s script) lost(session uint64) script {
	s.Add(Event{Op: SessionEnd, Client: "c", Queue: "q", Session: session, Err: adapters.ErrSessionLost})
	return s
}

func (s script) event(events ...Event) script {
	for _, e := range events {
		s.Add(e)
	}
	return s
}

// bound adds a queue with these properties.
func (s script) bound(queue string, spec adapters.QueueSpec) script {
	return s.event(Event{Op: Bind, To: onQueue(queue), Queue: queue, Spec: spec})
}

func left(id, queue string) Event { return Event{Op: Left, ID: id, Attempt: 1, Queue: queue} }

// rejected adds a delivery that is rejected.
func (s script) rejected(id string) script {
	e := Event{Op: Deliver, Client: "c", ID: id, Queue: "q", Session: 1, Delivery: s.Number()}
	s.Add(e)
	e.Op, e.Outcome = Settled, adapters.Reject
	return s.event(e)
}

const none = Kind("")

// histories are right, or wrong in exactly one way.
type histories map[string]struct {
	make func(script) script
	want Kind
}

// TestDoubleOfDelayed: what was delayed when the broker crashed, or while it recovered, may be
// there twice.
func TestDoubleOfDelayed(t *testing.T) {
	for name, tt := range map[string]struct{ delayed, before bool }{
		"delayed":                   {delayed: true},
		"delayed after the crash":   {delayed: true, before: true},
		"not delayed":               {},
		"published after the crash": {before: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script{New()}
				crash := func(when bool) {
					if when {
						s.event(Event{Op: Crash})
						time.Sleep(2 * grace) // until then anything may come again
					}
				}
				crash(tt.before)
				s.publishEvent(Event{ID: "a", To: onQueue("q"), Delayed: tt.delayed}, PublishOK)
				crash(!tt.before)
				s.delivered("a", 1, false, "ack").delivered("a", 1, false, "ack")
				if v := s.Check(); v.Has(Resurrected) == tt.delayed || len(v.Violations) > 1 {
					t.Errorf("found %v", v.Violations)
				}
			})
		})
	}
}

func (h histories) check(t *testing.T) {
	t.Helper()
	for name, c := range h {
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
			if lost := c.want == Lost || c.want == WrongAck; lost != (v.Lost > 0) {
				t.Errorf("%d are lost", v.Lost)
			}
		})
	}
}

func onQueue(name string) adapters.Endpoint {
	return adapters.Endpoint{Kind: adapters.Queue, Name: name}
}

func TestCheckerFinds(t *testing.T) {
	topic := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	fanout := adapters.Endpoint{Kind: adapters.Fanout, Name: "all"}
	histories{
		"all well": {func(s script) script { return s.sent("a").delivered("a", 1, false, "ack") }, none},
		"redelivered after a lost session": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "stale").delivered("a", 2, true, "ack").lost(1)
		}, none},
		"requeued": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "requeue").delivered("a", 1, true, "ack")
		}, none},
		"left in the queue": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "requeue").event(left("a", "q"))
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
			return s.bound("q", adapters.QueueSpec{DeadLetter: "d"}).sent("a").event(left("a", "d"))
		}, none},
		"first delivery again after a crash": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "in hand").event(Event{Op: Crash}).lost(1).delivered("a", 2, false, "ack")
		}, none},
		"acknowledged to one that crashed, in a session that goes on": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "ack").event(Event{Op: Crash}).delivered("a", 1, true, "ack")
		}, none},
		"written down when it had come again": {func(s script) script {
			s = s.sent("a")
			asked := len(s.Events())
			return s.delivered("a", 2, true, "ack").received("a", 1, asked).lost(1)
		}, none},
		"too late to be acknowledged, in a session whose end nobody has noted yet": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "stale").delivered("a", 2, true, "ack")
		}, none},
		"delayed, and double without a crash": {func(s script) script {
			s = s.publishEvent(Event{ID: "a", To: onQueue("q"), Delayed: true}, PublishOK)
			return s.delivered("a", 1, true, "ack").delivered("a", 1, true, "ack")
		}, Resurrected},
		"no binding, no copy": {func(s script) script { return s.publish("a", PublishOK, topic, "x.y") }, none},
		"unknown while unbound, sent again once bound": {func(s script) script {
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
		"never sent, and left":          {func(s script) script { return s.event(left("b", "q")) }, Unexpected},
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
		"again, and then as if for the first time": {func(s script) script {
			s = s.sent("a").delivered("a", 2, true, "ack")
			return s.received("a", 1, len(s.Events())).lost(1)
		}, Resurrected},
		"again, and then with a beginning that is not in the history": {func(s script) script {
			return s.sent("a").delivered("a", 2, true, "ack").received("a", 1, 99).lost(1)
		}, Resurrected},
		"to two at a time": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "in hand").delivered("a", 2, true, "ack")
		}, Resurrected},
		"again after its ack, and closed long after": {func(s script) script {
			s = s.sent("a").delivered("a", 1, false, "ack").delivered("a", 1, true, "ack")
			s.start = s.start.Add(-time.Hour)
			return s.event(Event{Op: SessionEnd, Session: 1, Err: adapters.ErrClosed})
		}, Resurrected},
		"again after its ack, long after a crash": {func(s script) script {
			s = s.event(Event{Op: Crash}).sent("a")
			s.start = s.start.Add(-time.Hour)
			return s.delivered("a", 1, false, "ack").delivered("a", 1, true, "ack")
		}, Resurrected},
		"again after its ack, before a crash": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "ack").delivered("a", 1, true, "ack").event(Event{Op: Crash})
		}, Resurrected},
		"back too late": {func(s script) script {
			return s.event(Event{Op: Returned, Call: "Publish", Over: grace + time.Millisecond})
		}, Overdue},
	}.check(t)
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
	s = s.publish("e", PublishUnknown, onQueue("q"), "").sent("e") // confirmed in the end, so not recovered
	s = s.delivered("a", 1, false, "stale").lost(1).delivered("a", 2, true, "ack").delivered("c", 2, false, "ack")
	s = s.delivered("d", 2, false, "ack").delivered("e", 2, false, "ack")
	v := Check(s.Events(), nil)
	if !v.Has(Lost) || !v.Has(Ghost) || len(v.Violations) != 2 {
		t.Errorf("found %v", v.Violations)
	}
	v.Violations = nil
	if want := (Verdict{Counts: Counts{Attempted: 6, Confirmed: 3, Unknown: 2, Delivered: 5, Duplicated: 1, Lost: 1}, Recovered: 1}); v.String() != want.String() {
		t.Errorf("got %s, want %s", v, want)
	}
}

func TestCheckerKnowsWhatQueuesDo(t *testing.T) {
	fanout := adapters.Endpoint{Kind: adapters.Fanout, Name: "all"}
	bind, unbind := Event{Op: Bind, To: fanout, Queue: "q"}, Event{Op: Unbind, To: fanout, Queue: "q"}
	letters := adapters.QueueSpec{DeadLetter: "d"}
	expiring := adapters.QueueSpec{MessageTTL: time.Second}
	bounded := adapters.QueueSpec{MaxLength: 1, Overflow: adapters.DropHead}
	histories{
		"expired":                       {func(s script) script { return s.bound("q", expiring).sent("a") }, none},
		"expired after it was returned": {func(s script) script { return s.bound("q", expiring).sent("a").delivered("a", 1, false, "requeue") }, none},
		"pushed out":                    {func(s script) script { return s.bound("q", bounded).sent("a") }, none},
		"refused newcomers, and kept what it had": {func(s script) script {
			return s.bound("q", adapters.QueueSpec{MaxLength: 1}).sent("a").publish("b", PublishFail, onQueue("q"), "")
		}, Lost},
		"gone with its last consumer": {func(s script) script { return s.bound("q", adapters.QueueSpec{AutoDelete: true}).sent("a") }, none},
		"expired to the dead letters": {func(s script) script {
			return s.bound("q", adapters.QueueSpec{MessageTTL: time.Second, DeadLetter: "d"}).sent("a").event(left("a", "d"))
		}, none},
		"expired and not a dead letter": {func(s script) script {
			return s.bound("q", adapters.QueueSpec{MessageTTL: time.Second, DeadLetter: "d"}).sent("a")
		}, Lost},
		"expired among the dead letters": {func(s script) script {
			return s.bound("q", adapters.QueueSpec{MessageTTL: time.Second, DeadLetter: "d"}).bound("d", expiring).sent("a")
		}, none},
		"round in a circle": {func(s script) script {
			s = s.bound("q", letters).bound("d", adapters.QueueSpec{MessageTTL: time.Second, DeadLetter: "q"}).sent("a")
			return s.rejected("a").rejected("a").delivered("a", 1, false, "ack")
		}, none},
		"rejected":                       {func(s script) script { return s.sent("a").rejected("a") }, none},
		"rejected to the dead letters":   {func(s script) script { return s.bound("q", letters).sent("a").rejected("a").event(left("a", "d")) }, none},
		"rejected and not a dead letter": {func(s script) script { return s.bound("q", letters).sent("a").rejected("a") }, Lost},
		"dead letters that died in turn": {func(s script) script {
			return s.bound("q", letters).bound("d", adapters.QueueSpec{DeadLetter: "e"}).sent("a").rejected("a").event(left("a", "e"))
		}, none},
		"a dead letter lost by its handler": {func(s script) script {
			s = s.bound("q", letters).sent("a").rejected("a")
			return s.event(Event{Op: Deliver, ID: "a", Queue: "d", Delivery: s.Number(), Session: 2})
		}, WrongAck},
		"a dead letter in the wrong queue": {func(s script) script {
			return s.bound("q", letters).sent("a").delivered("a", 1, false, "ack").event(left("a", "e"))
		}, Misrouted},

		"purged": {func(s script) script { return s.sent("a").event(Event{Op: Purged, Queue: "q"}) }, none},
		"purged in hand": {func(s script) script {
			return s.sent("a").delivered("a", 1, false, "stale").event(Event{Op: Purged, Queue: "q"})
		}, none},
		"purged dead letters": {func(s script) script {
			return s.bound("q", letters).sent("a").rejected("a").event(Event{Op: Purged, Queue: "d"})
		}, none},
		"cancelled":                       {func(s script) script { return s.sent("a").event(Event{Op: Cancelled, ID: "a"}) }, none},
		"lost while another is cancelled": {func(s script) script { return s.sent("a").event(Event{Op: Cancelled, ID: "b"}) }, Lost},
		"lost after it was cancelled":     {func(s script) script { return s.event(Event{Op: Cancelled, ID: "a"}).sent("a") }, Lost},
		"lost after a purge":              {func(s script) script { return s.event(Event{Op: Purged, Queue: "q"}).sent("a") }, Lost},
		"lost while another purges":       {func(s script) script { return s.sent("a").event(Event{Op: Purged, Queue: "r"}) }, Lost},

		"unbound meanwhile": {func(s script) script {
			e := Event{Op: PublishInvoke, ID: "a", To: fanout, Publish: s.Number()}
			s = s.event(bind, e, unbind)
			e.Op = PublishOK
			return s.event(e)
		}, none},
		"bound meanwhile": {func(s script) script {
			e := Event{Op: PublishInvoke, ID: "a", To: fanout, Publish: s.Number()}
			s = s.event(e, bind)
			e.Op = PublishOK
			return s.event(e)
		}, none},
		"bound again, and lost": {func(s script) script { return s.event(bind, unbind, bind).publish("a", PublishOK, fanout, "") }, Lost},
		"bound maybe": {func(s script) script {
			maybe := bind
			maybe.Err = adapters.ErrUnavailable
			return s.event(maybe).publish("a", PublishOK, fanout, "").publish("b", PublishOK, fanout, "").delivered("b", 1, false, "ack")
		}, none},
		"one key unbound, lost by another": {func(s script) script {
			direct := adapters.Endpoint{Kind: adapters.Direct, Name: "levels"}
			s = s.event(Event{Op: Bind, To: direct, Queue: "q", Keys: []string{"x", "y"}}, Event{Op: Unbind, To: direct, Queue: "q", Keys: []string{"x"}})
			return s.publish("a", PublishOK, direct, "x").publish("b", PublishOK, direct, "y")
		}, Lost},
		"a private copy with another key": {func(s script) script {
			topic := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
			s = s.event(Event{Op: Bind, To: topic, Queue: "q", Keys: []string{"x.*"}, Spec: adapters.QueueSpec{AutoDelete: true}})
			return s.publish("a", PublishOK, topic, "y").delivered("a", 1, false, "ack")
		}, Misrouted},
		"an answer": {func(s script) script {
			s = s.event(Event{Op: Subscribed, To: adapters.Endpoint{Kind: adapters.Reply}, Queue: "q", Consumer: 1})
			return s.publish("a", PublishOK, adapters.Endpoint{Kind: adapters.Reply, Name: "x"}, "").delivered("a", 1, false, "ack")
		}, none},
		"no answer at a reply address": {func(s script) script {
			s = s.event(Event{Op: Subscribed, To: adapters.Endpoint{Kind: adapters.Reply}, Queue: "q", Consumer: 1})
			return s.publish("a", PublishOK, fanout, "").delivered("a", 1, false, "ack")
		}, Misrouted},
		"redelivered by who cannot tell": {func(s script) script {
			s = s.sent("a")
			for _, outcome := range []adapters.Outcome{adapters.Requeue, adapters.Ack} {
				e := Event{Op: Deliver, ID: "a", Queue: "q", Session: 1, Delivery: s.Number(), Unmarked: true}
				s.Add(e)
				e.Op, e.Outcome = Settled, outcome
				s.Add(e)
			}
			return s
		}, none},
	}.check(t)
}

// BenchmarkCheck judges 100,000 events.
func BenchmarkCheck(b *testing.B) {
	const messages = 25_000 // four events each
	l := New()
	exchange := adapters.Endpoint{Kind: adapters.Topic, Name: "news"}
	for _, q := range []string{"q", "r", "s"} {
		l.Add(Event{Op: Bind, To: exchange, Queue: q, Keys: []string{q + ".#", "#." + q}, Spec: adapters.QueueSpec{DeadLetter: q + ".dead"}})
	}
	l.Add(Event{Op: Subscribed, Queue: "q", Consumer: 1, Prefetch: 10})
	for i := range messages {
		e := Event{Op: PublishInvoke, Client: "p", ID: fmt.Sprint(i), To: exchange, Key: "x.q", Publish: l.Number()}
		l.Add(e)
		e.Op = PublishOK
		l.Add(e)
		d := Event{Op: Deliver, Client: "c", ID: e.ID, Queue: "q", Consumer: 1, Session: 1, Delivery: l.Number()}
		l.Add(d)
		d.Op = Settled
		l.Add(d)
	}
	for b.Loop() {
		if v := l.Check(); v.Delivered != messages || len(v.Violations) > 0 {
			b.Fatalf("got %v, %v", v, v.Violations)
		}
	}
}
