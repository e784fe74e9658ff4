package history

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// lines are the queues, as far as what they deliver must be in order.
type lines map[string]*line

// line is a queue that has one consumer, and in which nothing was put back so
// far.
type line struct {
	consumer uint64
	over     bool
	streams  map[stream]*progress
	names    []stream // in the order in which they came up
}

// stream is what must stay in order: what one client sends to one endpoint.
type stream struct {
	client string
	to     adapters.Endpoint
}

// progress is how far a stream was delivered: the latest beginning of a
// publish, in all and within each batch.
type progress struct {
	latest  highest
	batches map[uint64]*highest
	wrong   int
	first   Violation
}

// follow ends a line when messages may have been put back.
func (ls lines) follow(e *Event) {
	switch e.Op {
	case Subscribed:
		if l := ls[e.Queue]; l != nil {
			l.over = true
		} else {
			ls.line(e.Queue, e.Consumer)
		}
	case Settled:
		if e.Outcome == adapters.Requeue {
			ls.line(e.Queue, e.Consumer).over = true
		}
	case SessionEnd:
		if l := ls[e.Queue]; l != nil {
			l.over = true
		}
	case Crash:
		for _, l := range ls {
			l.over = true
		}
	}
}

func (ls lines) line(queue string, consumer uint64) *line {
	l := ls[queue]
	if l == nil {
		l = &line{consumer: consumer, streams: map[stream]*progress{}}
		ls[queue] = l
	}
	return l
}

// deliver looks whether a copy comes too late: after one that was published
// when the publish of this one had returned, or later in the same call. Both must
// have been published once, and confirmed, or who knows when.
func (ls lines) deliver(i int, e *Event, copy *life) {
	l := ls.line(e.Queue, e.Consumer)
	if l.over || e.Redelivered || e.Consumer != l.consumer || len(copy.deliveries) > 0 {
		l.over = true
		return
	}
	p := copy.by
	if copy.possible != 1 || p.outcome != PublishOK || p.Unordered || p.attempt() > 1 {
		return
	}
	name := stream{p.Client, p.To}
	s := l.streams[name]
	if s == nil {
		s = &progress{batches: map[uint64]*highest{}}
		l.streams[name] = s
		l.names = append(l.names, name)
	}
	asked := i // when it was asked for: what was delivered by then was so before it
	if e.Begun > 0 {
		asked = e.Begun
	}
	before := s.latest.before(asked)
	late := p.returned < before
	if p.Batch != 0 {
		batch := s.batches[p.Batch]
		if batch == nil {
			batch = &highest{}
			s.batches[p.Batch] = batch
		}
		late = late || p.at < batch.before(asked)
		batch.add(i, p.at)
	}
	s.latest.add(i, p.at)
	if late {
		if s.wrong == 0 {
			s.first = Violation{OutOfOrder, e.ID, e.Queue, fmt.Sprintf("published by %s to %s before what came first", p.Client, p.To)}
		}
		s.wrong++
	}
}

func (ls lines) violations() (list []Violation) {
	for _, l := range ls {
		for _, name := range l.names {
			if s := l.streams[name]; s.wrong > 0 {
				v := s.first
				if s.wrong > 1 {
					v.Detail += fmt.Sprintf(", and %d more", s.wrong-1)
				}
				list = append(list, v)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Violation) int { return strings.Compare(a.Queue, b.Queue) })
	return list
}

// highest is the highest value so far, for each event at which there was one.
type highest struct{ at, value []int }

func (h *highest) add(at, value int) {
	if n := len(h.value); n > 0 {
		value = max(value, h.value[n-1])
	}
	h.at, h.value = append(h.at, at), append(h.value, value)
}

// before returns the highest value before an event, or -1.
func (h *highest) before(at int) int {
	if n := sort.SearchInts(h.at, at); n > 0 {
		return h.value[n-1]
	}
	return -1
}
