package history

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// grace is how long after the end of its ctx a call may come back.
const grace = 2 * time.Second

// copyOf is one message in one queue.
type copyOf struct {
	identity
	queue string
}

// identity is what a message is known by.
type identity struct {
	id      string
	attempt int
}

// life is what became of a copy.
type life struct {
	confirmed  bool     // somebody relies on it
	sent       int      // the last event that made it so
	possible   int      // publishes that may have stored it
	by         *publish // the last of these
	delayed    *publish // the first of these that was delayed, or nil
	deliveries []*Event
	handled    bool // acknowledged
	rejected   bool
	left       bool
}

// publish is one message given to a driver once.
type publish struct {
	*Event
	at       int // events: its beginning,
	returned int // and when the call had returned
	outcome  Op  // PublishInvoke: none, its process died
}

// fate is what became of a message, whatever its queue.
type fate struct{ confirmed, unknown, there bool }

type judge struct {
	v         *Verdict
	events    []Event
	now, ever routes // bindings at this point of the history, and all that there are at some time
	queues    queues
	feeders   map[string][]string
	replies   map[string]bool // queues behind reply addresses
	purged    map[string]int  // the last time
	cancelled map[string]int  // by id: the last time
	copies    map[copyOf]*life
	order     []copyOf        // in which the copies came up
	sent      map[string]bool // by id: whether a publish of it may have worked
	fates     map[identity]*fate
	answers   map[identity]int  // publishes to reply addresses
	onTheWay  map[identity]bool // left on the way to a queue
	ended     map[uint64]*Event
	publishes map[uint64]*publish
	settled   map[uint64]*Event
	stale     map[uint64]bool // deliveries that their consumer was told to have lost
	crashes   []time.Duration
	lines     lines
	hands     hands
}

// Check judges a history, which must be complete: what was left in the queues
// belongs to it. hanging are the calls that have not returned. The events are
// in the order in which they happened, as far as anybody could tell; At is looked at
// for the gap between deliveries only, and for sessions that end, and crashes, much later or
// earlier.
//
// Each lost or otherwise wrong message is a violation of its own, but there is one
// OutOfOrder for each queue and publisher, and one Unfair for each session.
func Check(events []Event, hanging []string) Verdict {
	v := Verdict{}
	j := &judge{
		v: &v, events: events, now: routes{}, ever: routes{}, queues: queues{}, replies: map[string]bool{}, purged: map[string]int{}, cancelled: map[string]int{},
		copies: map[copyOf]*life{}, sent: map[string]bool{}, fates: map[identity]*fate{}, answers: map[identity]int{}, onTheWay: map[identity]bool{},
		ended: map[uint64]*Event{}, publishes: map[uint64]*publish{}, settled: map[uint64]*Event{}, stale: map[uint64]bool{}, lines: lines{}, hands: newHands(),
	}
	for i := range events {
		j.prepare(i, &events[i])
	}
	for _, p := range j.publishes {
		j.sent[p.ID] = j.sent[p.ID] || p.outcome != PublishFail
	}
	j.feeders = j.queues.feeders()
	j.hands.prepare(events)
	last := time.Duration(-1)
	for i := range events {
		e := &events[i]
		j.hands.release(i)
		j.lines.follow(e)
		j.follow(i, e)
		if e.Op == Deliver {
			if last >= 0 {
				v.Gap = max(v.Gap, e.At-last)
			}
			last = e.At
		}
	}
	j.inherit()
	for _, c := range j.order {
		j.judge(c, j.copies[c])
	}
	for _, f := range j.fates {
		if f.unknown && f.there && !f.confirmed {
			v.Recovered++
		}
	}
	v.Violations = slices.Concat(v.Violations, j.lines.violations(), j.hands.violations())
	for _, call := range hanging {
		j.violation(Hung, "", "", call)
	}
	return v
}

func (j *judge) violation(k Kind, id, queue, detail string) {
	j.v.Violations = append(j.v.Violations, Violation{k, id, queue, detail})
}

// prepare notes what must be known before its turn comes.
func (j *judge) prepare(i int, e *Event) {
	switch e.Op {
	case PublishInvoke:
		j.publishes[e.Publish] = &publish{Event: e, at: i, returned: -1}
	case PublishOK, PublishFail, PublishUnknown, PublishTaken:
		p := j.publishes[e.Publish]
		if p == nil {
			return
		}
		if p.returned < 0 {
			p.returned = i
		}
		if e.Op != PublishTaken {
			p.outcome = e.Op
		}
	case Subscribed:
		if e.To.Kind == adapters.Reply {
			j.replies[e.Queue] = true
		}
	case Settled:
		if _, again := j.settled[e.Delivery]; !again { // the first one counts
			j.settled[e.Delivery] = e
		}
	case Unsettled:
		j.stale[e.Delivery] = j.stale[e.Delivery] || errors.Is(e.Err, adapters.ErrStaleDelivery)
	case SessionEnd:
		j.ended[e.Session] = e
	case Bind:
		j.ever.bind(e, -1)
		if !e.Passive {
			j.queues[e.Queue] = e.Spec
		}
	case Purged:
		j.purged[e.Queue] = i
	case Cancelled:
		j.cancelled[e.ID] = i
	case Crash:
		j.crashes = append(j.crashes, e.At)
	}
}

// follow does what an event is about.
func (j *judge) follow(i int, e *Event) {
	switch e.Op {
	case PublishInvoke:
		j.publish(j.publishes[e.Publish])
	case PublishOK:
		j.confirm(j.publishes[e.Publish])
	case Bind:
		if e.Err == nil {
			j.now.bind(e, i)
		}
	case Unbind:
		j.now.unbind(e)
	case Deliver:
		j.v.Delivered++
		j.deliver(i, e)
	case Left:
		j.leave(e)
	case Returned:
		if e.Over > grace {
			j.violation(Overdue, "", "", fmt.Sprintf("%s %s came back %v after the end of its ctx", e.Client, e.Call, e.Over.Round(time.Millisecond)))
		}
	}
}

func (e *Event) identity() identity { return identity{e.ID, e.attempt()} }

func (j *judge) copy(m identity, queue string) *life {
	c := copyOf{m, queue}
	l := j.copies[c]
	if l == nil {
		l = &life{}
		j.copies[c] = l
		j.order = append(j.order, c)
	}
	return l
}

func (j *judge) fate(m identity) *fate {
	f := j.fates[m]
	if f == nil {
		f = &fate{}
		j.fates[m] = f
	}
	return f
}

// publish counts the copies that a publish may make: in what was bound at some
// time.
func (j *judge) publish(p *publish) {
	j.v.Attempted++
	switch p.outcome {
	case PublishFail:
		return
	case PublishOK:
		j.v.Confirmed++
		j.fate(p.identity()).confirmed = true
	default:
		j.v.Unknown++
		j.fate(p.identity()).unknown = true
	}
	if p.To.Kind == adapters.Reply {
		j.answers[p.identity()]++
	}
	j.ever.targets(p.To, p.Key, p.at, func(queue string) {
		l := j.copy(p.identity(), queue)
		l.possible++
		l.by = p
		if p.Delayed && l.delayed == nil {
			l.delayed = p
		}
	})
}

// confirm notes the copies that there must be: in what was bound before the
// publish began, and still is.
func (j *judge) confirm(p *publish) {
	if p == nil || p.outcome != PublishOK || p.Droppable {
		return
	}
	j.now.targets(p.To, p.Key, p.at, func(queue string) {
		l := j.copy(p.identity(), queue)
		l.confirmed, l.sent = true, max(l.sent, p.at)
	})
}

func (j *judge) deliver(i int, e *Event) {
	j.hands.deliver(e)
	may, sent := j.sent[e.ID]
	switch {
	case e.ID == "":
		j.v.Unexpected++
		j.violation(Phantom, "", e.Queue, "")
		return
	case !sent:
		j.v.Unexpected++
		j.violation(Unexpected, e.ID, e.Queue, "")
		return
	case !may:
		j.violation(Ghost, e.ID, e.Queue, "")
	}
	l := j.copy(e.identity(), e.Queue)
	if j.feeders[e.Queue] == nil { // dead letters come when they die
		j.lines.deliver(i, e, l)
	}
	l.deliveries = append(l.deliveries, e)
	if s, settled := j.settled[e.Delivery]; settled {
		l.handled = l.handled || s.Outcome == adapters.Ack
		l.rejected = l.rejected || s.Outcome == adapters.Reject
	}
	j.fate(e.identity()).there = true
}

func (j *judge) leave(e *Event) {
	if _, sent := j.sent[e.ID]; !sent {
		j.v.Unexpected++
		j.violation(Unexpected, e.ID, e.Queue, "left in the queue")
		return
	}
	j.fate(e.identity()).there = true
	if e.Queue == "" {
		j.onTheWay[e.identity()] = true
		return
	}
	j.copy(e.identity(), e.Queue).left = true
}

// inherit passes on to dead letters that somebody relies on the message.
func (j *judge) inherit() {
	for _, c := range j.order {
		l := j.copies[c]
		if !l.confirmed || l.handled {
			continue
		}
		for _, dead := range j.queues.deadLetters(c.queue) {
			if letter := j.copies[copyOf{c.identity, dead}]; letter != nil {
				letter.confirmed, letter.sent = true, max(letter.sent, l.sent)
			}
		}
	}
}

// judge says what is wrong with the life of one copy.
func (j *judge) judge(c copyOf, l *life) {
	possible := l.possible
	for _, feeder := range j.feeders[c.queue] { // it may come as a dead letter, too
		if source := j.copies[copyOf{c.identity, feeder}]; source != nil && feeder != c.queue {
			possible += source.possible
		}
	}
	if j.replies[c.queue] {
		possible += j.answers[c.identity]
	}
	if possible == 0 && j.sent[c.id] {
		j.violation(Misrouted, c.id, c.queue, fmt.Sprintf("attempt %d", c.attempt))
	}
	j.v.Duplicated += max(0, len(l.deliveries)-1)
	if possible > 0 && !slices.Contains(j.feeders[c.queue], c.queue) { // not if dead letters go round in a circle
		j.judgeRepeats(c, l, possible)
	}
	if l.confirmed && !j.accountedFor(c, l) {
		j.v.Lost++
		switch {
		case len(l.deliveries) == 0:
			j.violation(Lost, c.id, c.queue, "confirmed, and never delivered")
		case l.rejected:
			j.violation(Lost, c.id, c.queue, "rejected, and not among the dead letters")
		default:
			j.violation(WrongAck, c.id, c.queue, fmt.Sprintf("delivered %d times, acknowledged by nobody, and gone", len(l.deliveries)))
		}
	}
}

// accountedFor reports whether it is known where a copy is, or why it is not
// there.
func (j *judge) accountedFor(c copyOf, l *life) bool {
	if at, cancelled := j.cancelled[c.id]; cancelled && l.sent < at {
		return true
	}
	if l.handled || l.left || j.onTheWay[c.identity] || j.gone(c.queue, l) {
		return true
	}
	for _, dead := range j.queues.deadLetters(c.queue) {
		letter := j.copies[copyOf{c.identity, dead}]
		if letter != nil && (letter.left || len(letter.deliveries) > 0) || j.purgedSince(dead, l) {
			return true
		}
	}
	return l.rejected && j.lettersGone(c.queue)
}

// gone reports whether a queue may have dropped a copy.
func (j *judge) gone(queue string, l *life) bool {
	return j.queues.forgets(queue) || j.purgedSince(queue, l)
}

func (j *judge) purgedSince(queue string, l *life) bool {
	at, purged := j.purged[queue]
	return purged && l.sent < at
}

// lettersGone reports whether what a queue rejects may be gone.
func (j *judge) lettersGone(queue string) bool {
	dead := j.queues[queue].DeadLetter
	return dead == "" || j.queues.forgets(dead)
}

func (j *judge) judgeRepeats(c copyOf, l *life, possible int) {
	fresh := 0
	for _, d := range l.deliveries {
		if !d.Redelivered && !d.Unmarked {
			fresh++
		}
	}
	if fresh > possible && len(j.crashes) == 0 {
		j.violation(Unexplained, c.id, c.queue, fmt.Sprintf("%d first deliveries of %d publishes", fresh, possible))
	}
	if again := len(l.deliveries) - possible; again > 0 {
		returned := 0
		for i, d := range l.deliveries[:len(l.deliveries)-1] {
			if next := l.deliveries[i+1]; j.returned(d, next) || j.mayPrecede(next, d) && j.returned(next, d) || j.doubled(l, next) {
				returned++
			}
		}
		if again > returned {
			j.violation(Resurrected, c.id, c.queue, fmt.Sprintf("delivered %d times, %d of them returned", len(l.deliveries), returned))
		}
	}
}

// mayPrecede reports whether a delivery may have come before one that was written down before it: a
// receiver may take its time to write down what it has received, but asked for it before.
func (j *judge) mayPrecede(d, other *Event) bool {
	return d.Begun > 0 && d.Begun < len(j.events) && j.events[d.Begun].At <= other.At
}

// doubled reports whether a delivery may be that of a second copy of what was delayed: a crash may
// have come between the copy's being put into its queue and the original's being taken out of where
// it waited. So may what follows a crash, of which the history knows no end: a broker that chooses
// new leaders leaves the copy unconfirmed. The delivery need not be marked, as a broker that is
// killed may forget that it delivered the original to who moves it.
func (j *judge) doubled(l *life, d *Event) bool {
	return l.delayed != nil && slices.ContainsFunc(j.crashes, func(at time.Duration) bool { return at <= d.At })
}

// returned reports whether a delivery gives a reason for the next one: because it was requeued, or
// could not be settled any more, or its session was lost, also if it had been acknowledged, for the
// broker may not have heard of that. The broker may know of a lost session long
// before the client, but not of one that is closed. A crash may take an acknowledgement with it
// though the session goes on: that of the leader of a queue, say, at another node.
func (j *judge) returned(d, next *Event) bool {
	if s, settled := j.settled[d.Delivery]; settled && s.Outcome == adapters.Requeue || j.stale[d.Delivery] {
		return true
	}
	for _, crash := range j.crashes {
		if d.At < crash+grace && crash < next.At {
			return true
		}
	}
	end, ended := j.ended[d.Session]
	return ended && (errors.Is(end.Err, adapters.ErrSessionLost) || end.At < next.At+grace)
}
