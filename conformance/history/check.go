// Package history writes down what goes through drivers, and judges it.
package history

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Violation is a way in which a history breaks the guarantees.
type Violation struct {
	Kind   Kind
	ID     string // of the message
	Queue  string
	Detail string
}

// Kind of a violation.
type Kind string

const (
	Lost        Kind = "lost"        // confirmed, and neither delivered nor in its queue
	WrongAck    Kind = "wrong ack"   // delivered and gone, and nobody acknowledged it
	Phantom     Kind = "phantom"     // delivered without an id
	Unexpected  Kind = "unexpected"  // delivered and never sent
	Misrouted   Kind = "misrouted"   // delivered from a queue that it was not sent to
	Ghost       Kind = "ghost"       // delivered though its publish failed for certain
	Unexplained Kind = "unexplained" // delivered twice as if for the first time
	Resurrected Kind = "resurrected" // delivered again, with no session lost and nothing requeued
	Overdue     Kind = "overdue"     // a call came back long after the end of its ctx
	Hung        Kind = "hung"        // a call did not come back
)

func (v Violation) String() string {
	s := string(v.Kind) + ":"
	if v.ID != "" || v.Queue != "" {
		s += fmt.Sprintf(" message %q in %q", v.ID, v.Queue)
	}
	return strings.TrimSuffix(s+" "+v.Detail, " ")
}

// grace is how long after the end of its ctx a call may come back.
const grace = time.Second

// Verdict is what a history amounts to.
type Verdict struct {
	Attempted  int // messages given to a publish
	Confirmed  int
	Unknown    int // of those not confirmed, how many may have been stored
	Delivered  int
	Duplicated int           // deliveries of what was delivered before
	Lost       int           // confirmed messages that nobody acknowledged and that are not there any more
	Unexpected int           // deliveries of what nobody sent
	Gap        time.Duration // longest time between two deliveries

	Violations []Violation
}

// String renders the numbers on one line.
func (v Verdict) String() string {
	return fmt.Sprintf("attempted %d, confirmed %d, unknown %d, delivered %d, duplicated %d, unexpected %d, lost %d, violations %d",
		v.Attempted, v.Confirmed, v.Unknown, v.Delivered, v.Duplicated, v.Unexpected, v.Lost, len(v.Violations))
}

// Has tells whether there is a violation of a kind.
func (v Verdict) Has(k Kind) bool {
	return slices.ContainsFunc(v.Violations, func(v Violation) bool { return v.Kind == k })
}

// copyOf is one message in one queue.
type copyOf struct {
	id      string
	attempt int
	queue   string
}

// life is what became of it.
type life struct {
	confirmed  bool // somebody relies on it
	possible   int  // publishes that may have stored it
	deliveries []Event
	handled    bool // acknowledged or rejected
	left       bool
}

type judge struct {
	v        *Verdict
	bindings []Event           // as they are at this point of the history
	ever     []Event           // all that there were at some time
	dead     map[string]string // queue to its dead-letter queue
	copies   map[copyOf]*life
	order    []copyOf         // in which the copies came up
	sent     map[string]bool  // by id: whether a publish of it may have worked
	onTheWay map[copyOf]bool  // left on the way to a queue; without the queue
	ended    map[uint64]Event // sessions
	outcomes map[uint64]Op    // of publishes
	settled  map[uint64]Event
	crashed  bool
}

// Check judges a history, which must be complete: what was left in the queues
// belongs to it. hanging are the calls that have not returned.
func Check(events []Event, hanging []string) Verdict {
	v := Verdict{}
	j := &judge{
		v: &v, dead: map[string]string{}, copies: map[copyOf]*life{}, sent: map[string]bool{}, onTheWay: map[copyOf]bool{},
		ended: map[uint64]Event{}, outcomes: map[uint64]Op{}, settled: map[uint64]Event{},
	}
	j.prepare(events)
	last := time.Duration(-1)
	for _, e := range events {
		switch e.Op {
		case PublishInvoke:
			j.publish(e)
		case Bind:
			j.bindings = append(j.bindings, e)
		case Unbind:
			j.unbind(e)
		case Deliver:
			v.Delivered++
			if last >= 0 {
				v.Gap = max(v.Gap, e.At-last)
			}
			last = e.At
			j.deliver(e)
		case Left:
			j.leave(e)
		case Returned:
			if e.Over > grace {
				j.violation(Overdue, "", "", fmt.Sprintf("%s %s came back %v after the end of its ctx", e.Client, e.Call, e.Over.Round(time.Millisecond)))
			}
		}
	}
	for _, c := range j.order {
		j.judge(c, j.copies[c])
	}
	for _, call := range hanging {
		j.violation(Hung, "", "", call)
	}
	return v
}

func (j *judge) violation(k Kind, id, queue, detail string) {
	j.v.Violations = append(j.v.Violations, Violation{k, id, queue, detail})
}

// prepare notes what must be known before its turn comes.
func (j *judge) prepare(events []Event) {
	for _, e := range events {
		switch e.Op {
		case PublishOK, PublishFail, PublishUnknown:
			j.outcomes[e.Publish] = e.Op
		case Settled:
			if _, again := j.settled[e.Delivery]; !again { // the first one counts
				j.settled[e.Delivery] = e
			}
		case SessionEnd:
			j.ended[e.Session] = e
		case Bind:
			j.ever = append(j.ever, e)
			if e.Dead != "" {
				j.dead[e.Queue] = e.Dead
			}
		case Crash:
			j.crashed = true
		}
	}
	for _, e := range events {
		if e.Op == PublishInvoke {
			j.sent[e.ID] = j.sent[e.ID] || j.outcomes[e.Publish] != PublishFail
		}
	}
}

func (j *judge) copy(id string, attempt int, queue string) *life {
	c := copyOf{id, attempt, queue}
	l := j.copies[c]
	if l == nil {
		l = &life{}
		j.copies[c] = l
		j.order = append(j.order, c)
	}
	return l
}

func (j *judge) publish(e Event) {
	outcome, answered := j.outcomes[e.Publish]
	j.v.Attempted++
	switch {
	case outcome == PublishOK:
		j.v.Confirmed++
	case outcome == PublishUnknown || !answered: // its process died
		j.v.Unknown++
	}
	if outcome == PublishFail {
		return
	}
	// It may reach what was bound at some time, and must reach what was bound
	// before it began.
	for _, queue := range targets(e, j.ever) {
		j.copy(e.ID, e.Attempt, queue).possible++
	}
	if outcome == PublishOK && !e.Droppable {
		for _, queue := range targets(e, j.bindings) {
			j.copy(e.ID, e.Attempt, queue).confirmed = true
		}
	}
}

// targets are the queues that a publish leads to.
func targets(e Event, bindings []Event) []string {
	if e.To.Kind == adapters.Queue {
		return []string{e.To.Name}
	}
	var queues []string
	for _, b := range bindings {
		if b.To == e.To && matches(b, e.Key) && !slices.Contains(queues, b.Queue) {
			queues = append(queues, b.Queue)
		}
	}
	return queues
}

func matches(b Event, key string) bool {
	switch b.To.Kind {
	case adapters.Fanout:
		return true
	case adapters.Direct:
		return slices.Contains(b.Keys, key)
	case adapters.Topic:
		return slices.ContainsFunc(b.Keys, func(pattern string) bool { return adapters.MatchTopic(pattern, key) })
	}
	return false
}

func (j *judge) unbind(e Event) {
	var rest []Event
	for _, b := range j.bindings {
		if b.To == e.To && b.Queue == e.Queue {
			b.Keys = slices.DeleteFunc(slices.Clone(b.Keys), func(key string) bool { return slices.Contains(e.Keys, key) })
			if len(b.Keys) == 0 {
				continue
			}
		}
		rest = append(rest, b)
	}
	j.bindings = rest
}

func (j *judge) deliver(e Event) {
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
	l := j.copy(e.ID, e.Attempt, e.Queue)
	l.deliveries = append(l.deliveries, e)
	if s, settled := j.settled[e.Delivery]; settled && s.Outcome != adapters.Requeue {
		l.handled = true
	}
}

func (j *judge) leave(e Event) {
	if _, sent := j.sent[e.ID]; !sent {
		j.v.Unexpected++
		j.violation(Unexpected, e.ID, e.Queue, "left in the queue")
		return
	}
	if e.Queue == "" {
		j.onTheWay[copyOf{e.ID, e.Attempt, ""}] = true
		return
	}
	j.copy(e.ID, e.Attempt, e.Queue).left = true
}

// judge says what is wrong with the life of one copy.
func (j *judge) judge(c copyOf, l *life) {
	if l.possible == 0 && !strings.HasPrefix(c.queue, private) && j.sent[c.id] && !j.mayBeIn(c) {
		j.violation(Misrouted, c.id, c.queue, fmt.Sprintf("attempt %d", c.attempt))
	}
	j.v.Duplicated += max(0, len(l.deliveries)-1)
	if l.possible > 0 {
		j.judgeRepeats(c, l)
	}
	if !l.confirmed || l.handled || l.left || j.onTheWay[copyOf{c.id, c.attempt, ""}] || j.died(c) {
		return
	}
	j.v.Lost++
	if len(l.deliveries) == 0 {
		j.violation(Lost, c.id, c.queue, "confirmed, and never delivered")
	} else {
		j.violation(WrongAck, c.id, c.queue, fmt.Sprintf("delivered %d times, acknowledged by nobody, and gone", len(l.deliveries)))
	}
}

func (j *judge) judgeRepeats(c copyOf, l *life) {
	possible, fresh := l.possible, 0
	for queue, dead := range j.dead { // it may come as a dead letter, too
		if source := j.copies[copyOf{c.id, c.attempt, queue}]; dead == c.queue && source != nil {
			possible += source.possible
		}
	}
	for _, d := range l.deliveries {
		if !d.Redelivered {
			fresh++
		}
	}
	if fresh > possible && !j.crashed {
		j.violation(Unexplained, c.id, c.queue, fmt.Sprintf("%d first deliveries of %d publishes", fresh, possible))
	}
	if again := len(l.deliveries) - possible; again > 0 {
		returned := 0
		for i, d := range l.deliveries[:len(l.deliveries)-1] {
			if j.returned(d, l.deliveries[i+1]) {
				returned++
			}
		}
		if again > returned {
			j.violation(Resurrected, c.id, c.queue, fmt.Sprintf("delivered %d times, %d of them returned", len(l.deliveries), returned))
		}
	}
}

// returned tells whether a delivery gives a reason for the next one: because
// it was requeued, or its session was lost, also if it had been acknowledged,
// for the broker may not have heard of that. The broker may know of a lost session long
// before the client, but not of one that is closed.
func (j *judge) returned(d, next Event) bool {
	if s, settled := j.settled[d.Delivery]; settled && s.Outcome == adapters.Requeue {
		return true
	}
	end, ended := j.ended[d.Session]
	return ended && (errors.Is(end.Err, adapters.ErrSessionLost) || end.At < next.At+grace)
}

// mayBeIn tells whether a copy in a queue that it was not published to has
// come there as a dead letter of another queue.
func (j *judge) mayBeIn(c copyOf) bool {
	for queue, dead := range j.dead {
		if l := j.copies[copyOf{c.id, c.attempt, queue}]; dead == c.queue && l != nil && l.possible > 0 {
			return true
		}
	}
	return false
}

// died tells whether the broker made a dead letter of a copy.
func (j *judge) died(c copyOf) bool {
	dead := j.dead[c.queue]
	if dead == "" {
		return false
	}
	l := j.copies[copyOf{c.id, c.attempt, dead}]
	return l != nil && (l.left || len(l.deliveries) > 0)
}
