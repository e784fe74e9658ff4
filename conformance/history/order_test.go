package history

import (
	"testing"

	"github.com/motifmq/motif/adapters"
)

// begin adds the beginning of a publish, and returns it.
func (s script) begin(id string, change func(*Event)) Event {
	e := Event{Op: PublishInvoke, Client: "p", ID: id, To: onQueue("q"), Publish: s.Number()}
	if change != nil {
		change(&e)
	}
	s.Add(e)
	return e
}

func (s script) end(op Op, events ...Event) script {
	for _, e := range events {
		e.Op = op
		s.Add(e)
	}
	return s
}

// acked adds deliveries that are acknowledged.
func (s script) acked(ids ...string) script {
	for _, id := range ids {
		s = s.delivered(id, 1, false, "ack")
	}
	return s
}

func TestCheckerKnowsWhatIsOrdered(t *testing.T) {
	fanout := adapters.Endpoint{Kind: adapters.Fanout, Name: "all"}
	bind := Event{Op: Bind, To: fanout, Queue: "q"}
	in := func(batch uint64) func(*Event) { return func(e *Event) { e.Batch = batch } }
	by := func(client string) func(*Event) { return func(e *Event) { e.Client = client } }
	to := func(where adapters.Endpoint) func(*Event) { return func(e *Event) { e.To = where } }
	unordered := func(e *Event) { e.Unordered = true }
	retried := func(e *Event) { e.Attempt = 2 }
	got := func(s script, id string, consumer uint64, begun int) script {
		e := Event{Op: Deliver, Client: "c", ID: id, Queue: "q", Session: consumer, Consumer: consumer, Delivery: s.Number(), Begun: begun}
		s.Add(e)
		e.Begun = 0
		return s.end(Settled, e)
	}
	histories{
		"in order":      {func(s script) script { return s.sent("a").sent("b").sent("c").acked("a", "b", "c") }, none},
		"turned round":  {func(s script) script { return s.sent("a").sent("b").acked("b", "a") }, OutOfOrder},
		"one of many":   {func(s script) script { return s.sent("a").sent("b").sent("c").acked("a", "c", "b") }, OutOfOrder},
		"the first two": {func(s script) script { return s.sent("a").sent("b").sent("c").acked("c", "b", "a") }, OutOfOrder},
		"by an exchange": {func(s script) script {
			return s.event(bind).publish("a", PublishOK, fanout, "").publish("b", PublishOK, fanout, "").acked("b", "a")
		}, OutOfOrder},
		"at the same time": {func(s script) script {
			a, b := s.begin("a", nil), s.begin("b", nil)
			return s.end(PublishOK, a, b).acked("b", "a")
		}, none},
		"overlapping": {func(s script) script {
			a := s.begin("a", nil)
			b := s.begin("b", nil)
			return s.end(PublishOK, b, a).acked("b", "a")
		}, none},
		"in one batch": {func(s script) script {
			a, b := s.begin("a", in(1)), s.begin("b", in(1))
			return s.end(PublishOK, a, b).acked("a", "b")
		}, none},
		"turned round in a batch": {func(s script) script {
			a, b := s.begin("a", in(1)), s.begin("b", in(1))
			return s.end(PublishOK, a, b).acked("b", "a")
		}, OutOfOrder},
		"two batches at the same time": {func(s script) script {
			a, b := s.begin("a", in(1)), s.begin("b", in(2))
			return s.end(PublishOK, a, b).acked("b", "a")
		}, none},
		"asynchronous, confirmed in another order": {func(s script) script {
			a := s.begin("a", nil)
			s = s.end(PublishTaken, a)
			b := s.begin("b", nil)
			return s.end(PublishTaken, b).end(PublishOK, b, a).acked("a", "b")
		}, none},
		"asynchronous, turned round": {func(s script) script {
			a := s.begin("a", nil)
			s = s.end(PublishTaken, a)
			b := s.begin("b", nil)
			return s.end(PublishTaken, b).end(PublishOK, a, b).acked("b", "a")
		}, OutOfOrder},
		"of two clients": {func(s script) script {
			s = s.end(PublishOK, s.begin("a", by("p1")))
			return s.end(PublishOK, s.begin("b", by("p2"))).acked("b", "a")
		}, none},
		"to two endpoints": {func(s script) script {
			s = s.event(bind)
			s = s.end(PublishOK, s.begin("a", to(fanout)))
			return s.end(PublishOK, s.begin("b", nil)).acked("b", "a")
		}, none},
		"unknown": {func(s script) script {
			return s.publish("a", PublishUnknown, onQueue("q"), "").sent("b").acked("b", "a")
		}, none},
		"sent twice":       {func(s script) script { return s.sent("a").sent("b").sent("a").acked("b", "a", "a") }, none},
		"sent again later": {func(s script) script { return s.sent("a").sent("b").sent("a").acked("a", "b", "a") }, none},
		"delayed": {func(s script) script {
			return s.end(PublishOK, s.begin("a", unordered)).sent("b").acked("b", "a")
		}, none},
		"tried again": {func(s script) script {
			s = s.end(PublishOK, s.begin("a", retried)).sent("b").acked("b")
			e := Event{Op: Deliver, ID: "a", Attempt: 2, Queue: "q", Session: 1, Delivery: s.Number()}
			s.Add(e)
			return s.end(Settled, e)
		}, none},
		"after a requeue": {func(s script) script {
			s = s.sent("a").sent("b").sent("c").delivered("a", 1, false, "requeue")
			return s.delivered("a", 1, true, "ack").acked("c", "b")
		}, none},
		"between a requeue and its redelivery": {func(s script) script {
			s = s.sent("a").sent("b").sent("c").delivered("a", 1, false, "requeue")
			return s.acked("c", "b").delivered("a", 1, true, "ack")
		}, none},
		"after a redelivery": {func(s script) script {
			return s.sent("a").sent("b").sent("c").delivered("c", 1, true, "ack").acked("b", "a")
		}, none},
		"after a lost session": {func(s script) script {
			return s.sent("a").sent("b").sent("c").acked("c").lost(1).acked("b", "a")
		}, none},
		"after a crash": {func(s script) script {
			return s.sent("a").sent("b").sent("c").acked("c").event(Event{Op: Crash}).acked("b", "a")
		}, none},
		"before a requeue": {func(s script) script {
			s = s.sent("a").sent("b").acked("b", "a").sent("c").delivered("c", 1, false, "requeue")
			return s.delivered("c", 1, true, "ack")
		}, OutOfOrder},
		"to two consumers": {func(s script) script {
			s = s.event(Event{Op: Subscribed, Queue: "q", Consumer: 1}, Event{Op: Subscribed, Queue: "q", Consumer: 2}).sent("a").sent("b")
			return got(got(s, "b", 1, 0), "a", 2, 0)
		}, none},
		"to one that consumes and one that gets": {func(s script) script {
			s = s.event(Event{Op: Subscribed, Queue: "q", Consumer: 1}).sent("a").sent("b")
			return got(got(s, "b", 0, 0), "a", 1, 0)
		}, none},
		"to one consumer": {func(s script) script {
			s = s.event(Event{Op: Subscribed, Queue: "q", Consumer: 1}).sent("a").sent("b")
			return got(got(s, "b", 1, 0), "a", 1, 0)
		}, OutOfOrder},
		"to two receivers at the same time": {func(s script) script {
			s = s.sent("a").sent("b")
			asked := len(s.Events())
			return got(got(s, "b", 0, asked), "a", 0, asked)
		}, none},
		"to two receivers, one after the other": {func(s script) script {
			s = s.sent("a").sent("b")
			s = got(s, "b", 0, len(s.Events()))
			return got(s, "a", 0, len(s.Events()))
		}, OutOfOrder},
		"as dead letters": {func(s script) script {
			return s.bound("other", adapters.QueueSpec{DeadLetter: "q"}).sent("a").sent("b").acked("b", "a")
		}, none},
	}.check(t)
}

func TestCheckerKnowsWhatIsFair(t *testing.T) {
	hold := func(s script, id string, session uint64) Event {
		e := Event{Op: Deliver, Client: "c", ID: id, Queue: "q", Consumer: 1, Session: session, Delivery: s.Number()}
		s.Add(e)
		return e
	}
	subscribed := func(s script, prefetch int) script {
		return s.event(Event{Op: Subscribed, Queue: "q", Consumer: 1, Prefetch: prefetch}).sent("a").sent("b").sent("c")
	}
	histories{
		"one at a time": {func(s script) script {
			s = subscribed(s, 1)
			return s.end(Settled, hold(s, "a", 1)).end(Settled, hold(s, "b", 1)).end(Settled, hold(s, "c", 1))
		}, none},
		"as many as allowed": {func(s script) script {
			s = subscribed(s, 3)
			return s.end(Settled, hold(s, "a", 1), hold(s, "b", 1), hold(s, "c", 1))
		}, none},
		"one too many": {func(s script) script {
			s = subscribed(s, 2)
			return s.end(Settled, hold(s, "a", 1), hold(s, "b", 1), hold(s, "c", 1))
		}, Unfair},
		"one too many once": {func(s script) script {
			s = subscribed(s, 1)
			return s.end(Settled, hold(s, "a", 1), hold(s, "b", 1)).end(Settled, hold(s, "c", 1))
		}, Unfair},
		"settling had begun": {func(s script) script {
			s = subscribed(s, 1)
			a := hold(s, "a", 1)
			a.Begun = len(s.Events())
			b := hold(s, "b", 1)
			return s.end(Settled, a, b).end(Settled, hold(s, "c", 1))
		}, none},
		"in another session": {func(s script) script {
			s = subscribed(s, 1)
			a := hold(s, "a", 1)
			again := Event{Op: Deliver, Client: "c", ID: "a", Queue: "q", Consumer: 1, Session: 2, Delivery: s.Number(), Redelivered: true}
			return s.event(again).end(Unsettled, a).end(Settled, again).lost(1).end(Settled, hold(s, "b", 2)).end(Settled, hold(s, "c", 2))
		}, none},
		"no prefetch": {func(s script) script {
			s = subscribed(s, 0)
			return s.end(Settled, hold(s, "a", 1), hold(s, "b", 1), hold(s, "c", 1))
		}, none},
	}.check(t)
}
